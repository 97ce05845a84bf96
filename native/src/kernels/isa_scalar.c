/* [audio] The kernels for this instruction set. */
#include "vec_scalar.h"

#define BL_KERNELS bl_kernels_scalar

#include "table.inl"
