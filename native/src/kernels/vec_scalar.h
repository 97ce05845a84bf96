/* One lane: plain C floats, for machines without SIMD and as the plainest build to compare with. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <stdint.h>
#include <string.h>

#define VEC_FRAMES 1
#define VEC_REGISTERS 16

typedef float vec;
typedef int32_t vec_int;
typedef int vec_mask;

static inline vec vec_load(const float *p) { return *p; }
static inline vec vec_held(vec v) { return v; }
static inline void vec_store(float *p, vec v) { *p = v; }
static inline vec vec_splat(float x) { return x; }
static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec_mask vec_less(vec a, vec b) { return a < b; }
static inline vec_mask vec_equal(vec a, vec b) { return a == b; }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return m ? yes : no; }
static inline vec vec_min(vec a, vec b) { return a < b ? a : b; }
static inline vec vec_max(vec a, vec b) { return b < a ? a : b; }
static inline vec vec_abs(vec a) { return __builtin_fabsf(a); }
/* C leaves open what a NaN is as an integer, even where the result is not used. */
static inline vec_int vec_to_int(vec a) { return a == a ? (int32_t)a : 0; }
static inline vec vec_from_bits(vec_int a)
{
    vec v;
    memcpy(&v, &a, sizeof v);
    return v;
}
static inline vec_int vec_bits(vec a)
{
    vec_int bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

static inline vec_int vec_shift_left(vec_int a, int bits) { return (vec_int)((uint32_t)a << bits); }
/* Lane i is v's lane i ^ k; and b's where i has bit k, else a's: there is one lane. */
static inline vec vec_swap(vec v, int k) { return (void)k, v; }
static inline vec vec_mix(vec a, vec b, int k) { return (void)b, (void)k, a; }

#endif
