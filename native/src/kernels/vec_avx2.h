/* AVX2 with FMA. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <immintrin.h>

#define VEC_FRAMES 8
#define VEC_REGISTERS 16

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

#endif
