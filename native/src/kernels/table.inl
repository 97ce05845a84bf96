/* The body of each ten-line isa_*.c: all algorithms, compiled for the vectors just included. */
#include "kernels.h"

#define BL_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define BL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BL_UNROLL _Pragma("GCC unroll 16")
#endif

#include "math.inl"
#include "math_more.inl"
#include "strided.inl"

#include "copy.inl"
#include "elementwise.inl"
#include "fma.inl"
#include "recurrent.inl"

#include "conv1d.inl"
#include "gru.inl"
#include "lstm.inl"
#include "maxpool.inl"
#include "resample.inl"

extern const bl_kernels BL_KERNELS;

const bl_kernels BL_KERNELS = {
    .vector_frames = VEC_FRAMES,
    .tile_rows = CONV_TILE_ROWS,
    .depthwise_rows = CONV_DEPTHWISE_ROWS,
    .most_cells = MOST_CELLS,
    .conv1d = conv1d,
    .copy = copy,
    .lstm = lstm,
    .gru = gru,
    .maxpool = maxpool,
    .resample = resample,
    .activate = activate,
    .softmax = softmax,
    .add = add,
    .multiply = multiply,
    .affine = affine,
    .crossfade = crossfade,
    .fma_flops = 2 * FMA_CHAINS * VEC_FRAMES,
    .fma_loop = fma_loop,
};
