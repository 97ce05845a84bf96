/* [audio] The kernels for this instruction set. */
#include "vec_avx512.h"

#define BL_KERNELS bl_kernels_avx512

#include "table.inl"
