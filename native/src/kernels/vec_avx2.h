/* AVX2 with FMA. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <immintrin.h>

#define VEC_FRAMES 8
#define VEC_REGISTERS 16
#define VEC_OWN_SELECT
#define VEC_CONSTRAINT "x"

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

typedef vec_int vec_mask;

static inline vec_mask vec_less(vec a, vec b) { return a < b; }
static inline vec_mask vec_equal(vec a, vec b) { return a == b; }
static inline vec vec_select(vec_mask m, vec yes, vec no)
{
    return (vec)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)m);
}
/* The smaller and the larger of two; b where either is NaN. */
static inline vec vec_min(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vec vec_max(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }

/* Lane i is v's lane i ^ k. */
static inline vec vec_swap(vec v, int k)
{
    __m256 a = (__m256)v;
    a = k & 4 ? _mm256_permute2f128_ps(a, a, 1) : a;
    switch (k & 3) {
    case 1: return (vec)_mm256_permute_ps(a, 0xb1);
    case 2: return (vec)_mm256_permute_ps(a, 0x4e);
    case 3: return (vec)_mm256_permute_ps(a, 0x1b);
    default: return (vec)a;
    }
}
/* Lane i is b's where i has bit k, else a's. */
static inline vec vec_mix(vec a, vec b, int k)
{
    switch (k) {
    case 1: return (vec)_mm256_blend_ps((__m256)a, (__m256)b, 0xaa);
    case 2: return (vec)_mm256_blend_ps((__m256)a, (__m256)b, 0xcc);
    default: return (vec)_mm256_blend_ps((__m256)a, (__m256)b, 0xf0);
    }
}

/* table[index % 8] */
#define VEC_TABLE 8
static inline vec_int vec_lookup(const int32_t table[VEC_TABLE], vec_int index)
{
    return (vec_int)_mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)table), (__m256i)index);
}

#endif
