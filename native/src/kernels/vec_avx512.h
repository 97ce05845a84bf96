/* AVX-512 F, VL, BW and DQ. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <immintrin.h>

#define VEC_FRAMES 16
#define VEC_REGISTERS 32
#define VEC_OWN_SELECT
#define VEC_OWN_SCALE

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

/* p 2^n for whole n. */
static inline vec vec_scale(vec p, vec n) { return (vec)_mm512_scalef_ps((__m512)p, (__m512)n); }

#endif
