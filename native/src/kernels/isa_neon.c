/* [audio] The kernels for this instruction set. */
#include "vec_neon.h"

#define BL_KERNELS bl_kernels_neon

#include "table.inl"
