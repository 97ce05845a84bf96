/* What GCC's and Clang's vector extensions give every SIMD instruction set alike. The including header has
 * defined VEC_FRAMES, VEC_REGISTERS and VEC_CONSTRAINT (inline assembly's letter for a vector register), and defines
 * vec_fma afterwards: whether it fuses is the machine's. One that has better comparisons and selections than these
 * says VEC_OWN_SELECT and brings them. */
#ifndef BL_VEC_LANES_H
#define BL_VEC_LANES_H

#include <stdint.h>
#include <string.h>

typedef float vec __attribute__((vector_size(VEC_FRAMES * 4)));
typedef int32_t vec_int __attribute__((vector_size(VEC_FRAMES * 4)));
/* Rows begin anywhere: the same vectors without alignment. */
typedef float vec_unaligned __attribute__((vector_size(VEC_FRAMES * 4), aligned(4), may_alias));

static inline vec vec_load(const float *p) { return *(const vec_unaligned *)p; }
/* The same value, in a register: compilers like to load again for every use, which costs more than it saves. */
static inline vec vec_held(vec v)
{
    __asm__("" : "+" VEC_CONSTRAINT(v));
    return v;
}
static inline void vec_store(float *p, vec v) { *(vec_unaligned *)p = v; }
static inline vec vec_splat(float x) { return x - (vec){0}; }
static inline vec vec_abs(vec a) { return (vec)((vec_int)a & 0x7fffffff); }
static inline vec_int vec_to_int(vec a) { return __builtin_convertvector(a, vec_int); }
static inline vec vec_from_bits(vec_int a) { return (vec)a; }
static inline vec_int vec_bits(vec a) { return (vec_int)a; }
static inline vec_int vec_shift_left(vec_int a, int bits) { return a << bits; }

#ifndef VEC_OWN_SELECT
typedef vec_int vec_mask;

static inline vec_mask vec_less(vec a, vec b) { return a < b; }
static inline vec_mask vec_equal(vec a, vec b) { return a == b; }
static inline vec vec_select(vec_mask m, vec yes, vec no)
{
    return (vec)((m & (vec_int)yes) | (~m & (vec_int)no));
}
/* The smaller and the larger of two; b where either is NaN. */
static inline vec vec_min(vec a, vec b) { return vec_select(vec_less(a, b), a, b); }
static inline vec vec_max(vec a, vec b) { return vec_select(vec_less(b, a), a, b); }
#endif

#endif
