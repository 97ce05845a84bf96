/* [audio] The kernels for this instruction set. */
#include "vec_avx2.h"

#define BL_KERNELS bl_kernels_avx2

#include "table.inl"
