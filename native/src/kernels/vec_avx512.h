/* AVX-512 F, VL, BW and DQ. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <immintrin.h>

#define VEC_FRAMES 16
#define VEC_REGISTERS 32

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

#endif
