/* SSE2 has no fused multiply-add: the product is rounded before the sum. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <emmintrin.h>

#define VEC_FRAMES 4
#define VEC_REGISTERS 16
#define VEC_CONSTRAINT "x"

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }

/* Lane i is v's lane i ^ k. */
static inline vec vec_swap(vec v, int k)
{
    __m128 a = (__m128)v;
    switch (k & 3) {
    case 1: return (vec)_mm_shuffle_ps(a, a, 0xb1);
    case 2: return (vec)_mm_shuffle_ps(a, a, 0x4e);
    case 3: return (vec)_mm_shuffle_ps(a, a, 0x1b);
    default: return v;
    }
}
/* Lane i is b's where i has bit k, else a's. */
static inline vec vec_mix(vec a, vec b, int k)
{
    return vec_select(k == 1 ? (vec_mask){0, -1, 0, -1} : (vec_mask){0, 0, -1, -1}, b, a);
}

#endif
