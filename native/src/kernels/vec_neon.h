/* AArch64 NEON. */
#ifndef BL_VEC_H
#define BL_VEC_H

#include <arm_neon.h>

#define VEC_FRAMES 4
#define VEC_REGISTERS 32
#define VEC_CONSTRAINT "w"

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

#endif
