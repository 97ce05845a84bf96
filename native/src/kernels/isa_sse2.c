/* [audio] The kernels for this instruction set. */
#include "vec_sse2.h"

#define BL_KERNELS bl_kernels_sse2

#include "table.inl"
