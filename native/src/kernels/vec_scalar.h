/* One lane: plain C floats, for machines without SIMD and as the plainest build to compare with. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC_FRAMES 1
#define VEC_REGISTERS 16

typedef float vec;
typedef int32_t vec_int;
typedef int vec_mask;

static inline vec vec_load(const float *p) { return *p; }
static inline void vec_store(float *p, vec v) { *p = v; }
static inline vec vec_splat(float x) { return x; }
static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec_mask vec_less(vec a, vec b) { return a < b; }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return m ? yes : no; }
static inline vec vec_abs(vec a) { return __builtin_fabsf(a); }
static inline vec_int vec_to_int(vec a) { return (int32_t)a; }
static inline vec vec_from_bits(vec_int a)
{
    vec v;
    memcpy(&v, &a, sizeof v);
    return v;
}

#endif
