/* SSE2 has no fused multiply-add: the product is rounded before the sum. */
#ifndef BL_VEC_H
#define BL_VEC_H

#define VEC_FRAMES 4
#define VEC_REGISTERS 16
#define VEC_CONSTRAINT "x"

#include "vec_lanes.h"

static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }

#endif
