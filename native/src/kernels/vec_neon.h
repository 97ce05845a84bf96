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

/* Lane i is v's lane i ^ k. */
static inline vec vec_swap(vec v, int k)
{
    float32x4_t a = (float32x4_t)v;
    a = k & 2 ? vextq_f32(a, a, 2) : a;
    return (vec)(k & 1 ? vrev64q_f32(a) : a);
}
/* Lane i is b's where i has bit k, else a's. */
static inline vec vec_mix(vec a, vec b, int k)
{
    return vec_select(k == 1 ? (vec_mask){0, -1, 0, -1} : (vec_mask){0, 0, -1, -1}, b, a);
}

#endif
