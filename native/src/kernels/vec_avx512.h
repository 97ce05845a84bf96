/* AVX-512 F, VL, BW and DQ. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <immintrin.h>

#define VEC_FRAMES 16
#define VEC_REGISTERS 32
#define VEC_OWN_SELECT
#define VEC_CONSTRAINT "v"

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

typedef __mmask16 vec_mask;

static inline vec_mask vec_less(vec a, vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
static inline vec_mask vec_equal(vec a, vec b)
{
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ);
}
static inline vec vec_select(vec_mask m, vec yes, vec no)
{
    return (vec)_mm512_mask_mov_ps((__m512)no, m, (__m512)yes);
}
/* The smaller and the larger of two; b where either is NaN. */
static inline vec vec_min(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vec vec_max(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }

/* VEC_FRAMES frames, the first `shift` of which are the last of `before`: where permuting is cheaper than loading
 * across cache lines. */
#define VEC_HAS_SLIDE
static inline vec_int vec_slide_by(int shift)
{
    const vec_int lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lanes + (16 - shift);
}
static inline vec vec_slide(vec before, vec now, vec_int by)
{
    return (vec)_mm512_permutex2var_ps((__m512)before, (__m512i)by, (__m512)now);
}

/* Lane i is v's lane i ^ k. */
static inline vec vec_swap(vec v, int k)
{
    __m512 a = (__m512)v;
    switch (k & 12) {
    case 4: a = _mm512_shuffle_f32x4(a, a, 0xb1); break;
    case 8: a = _mm512_shuffle_f32x4(a, a, 0x4e); break;
    case 12: a = _mm512_shuffle_f32x4(a, a, 0x1b); break;
    default: break;
    }
    switch (k & 3) {
    case 1: return (vec)_mm512_permute_ps(a, 0xb1);
    case 2: return (vec)_mm512_permute_ps(a, 0x4e);
    case 3: return (vec)_mm512_permute_ps(a, 0x1b);
    default: return (vec)a;
    }
}
/* Lane i is b's where i has bit k, else a's. */
static inline vec vec_mix(vec a, vec b, int k)
{
    __mmask16 bits = (__mmask16)(k == 1 ? 0xaaaa : k == 2 ? 0xcccc : k == 4 ? 0xf0f0 : 0xff00);
    return (vec)_mm512_mask_mov_ps((__m512)a, bits, (__m512)b);
}

/* table[index % 16] */
#define VEC_TABLE 16
static inline vec_int vec_lookup(const int32_t table[VEC_TABLE], vec_int index)
{
    return (vec_int)_mm512_permutexvar_epi32((__m512i)index, _mm512_loadu_si512(table));
}

#endif
