/* Stateless arithmetic, one table per instruction set. Rows are planar; every row may be read and written
 * up to the next whole vector past its last frame, where it holds padding that means nothing. */
#ifndef BL_KERNELS_H
#define BL_KERNELS_H

#include <stddef.h>

#include "backline.h"

/* Rows of one signal: row r begins at p + r * pitch. */
typedef struct bl_rows {
    float *p;
    int64_t pitch;
} bl_rows;

/* One grouped convolution over one chunk, all pointers at the chunk's first frame.
 *
 * Weights are packed tile by tile, groups outermost: bias[rows], conv[in][tap][rows], mix[in][rows].
 * A tap's frames begin at x.p + shift, shift = (tap - (kernel - 1)) * dilation, plus wrap for the first
 * wrapped_taps taps: those lie before the ring's seam. */
typedef struct bl_conv_job {
    const float *weights;
    bl_rows x;
    bl_rows mix;
    bl_rows residual;
    bl_rows skip;
    bl_rows y;
    bl_rows skip_sum;
    int64_t wrap;
    int32_t wrapped_taps;
    int32_t kernel;
    int32_t dilation;
    int32_t stride;
    int32_t groups;
    int32_t in_per_group;
    int32_t out_per_group;
    int32_t mix_groups;
    int32_t mix_per_group; /* 0: no mix; mix.p then only has to point somewhere */
    int32_t frames;        /* of y */
    int32_t leaky;         /* 1: apply slope below zero before residual and skip */
    float slope;
} bl_conv_job;

/* One LSTM layer over one chunk. width = hidden rounded up to whole vectors; weights are
 * bias[4][width], w_ih[in][4][width], w_hh[hidden][4][width]; gates i, f, g, o. */
typedef struct bl_lstm_job {
    const float *weights;
    bl_rows x;
    bl_rows y;
    float *h;    /* [width] */
    float *next; /* [width], scratch */
    float *c;    /* [width] */
    int32_t inputs;
    int32_t hidden;
    int32_t width;
    int32_t frames;
} bl_lstm_job;

/* One GRU layer over one chunk. width = hidden rounded up to whole vectors; weights are bias[4][width] of r, z,
 * n from the input and n from h, then w_ih[in][3][width], w_hh[hidden][3][width]; gates r, z, n. */
typedef struct bl_gru_job {
    const float *weights;
    bl_rows x;
    bl_rows y;
    float *h;    /* [width] */
    float *next; /* [width], scratch */
    int32_t inputs;
    int32_t hidden;
    int32_t width;
    int32_t frames;
} bl_gru_job;

/* The largest of `kernel` frames, for one row; x at the newest frame of the first window. The first wrapped_taps
 * taps lie `wrap` floats further on, as a convolution's do. Frames before x + start do not count, which only the
 * first `early` windows notice. */
typedef struct bl_pool_job {
    const float *x;
    float *y;
    int64_t wrap;
    int64_t start;
    int32_t wrapped_taps;
    int32_t kernel;
    int32_t dilation;
    int32_t stride;
    int32_t frames; /* of y */
    int32_t early;
} bl_pool_job;

typedef struct bl_kernels {
    int32_t vector_frames; /* lanes of a vector */
    int32_t tile_rows;     /* most output rows of a convolution's register tile */
    void (*conv1d)(const bl_conv_job *job);
    void (*lstm)(const bl_lstm_job *job);
    void (*gru)(const bl_gru_job *job);
    void (*maxpool)(const bl_pool_job *job);
    /* y = act(x) for one row; parameters as bl_activation says, PRELU's and SNAKE's one of the row's channel. */
    void (*activate)(bl_activation kind, const float *parameters, const float *x, float *y, int32_t frames);
    void (*softmax)(bl_rows x, bl_rows y, int32_t rows, int32_t frames);
    void (*add)(const float *a, const float *b, float *y, int32_t frames);
    void (*multiply)(const float *a, const float *b, float *y, int32_t frames);
    void (*affine)(const float *x, float scale, float shift, float *y, int32_t frames);
    void (*crossfade)(const float *a, const float *b, const float *t, float *y, int32_t frames);
    /* Floating point operations of one round of fma_loop, which begins with a factor and a summand in `sink`
     * and fills it with fma_flops / 2 results. */
    int32_t fma_flops;
    void (*fma_loop)(int64_t rounds, float *sink);
} bl_kernels;

/* The table of an instruction set, NULL where this build or machine has it not. [main] */
const bl_kernels *bl_kernels_for(bl_isa isa);

/* How `rows` output rows are cut into tiles of at most `most`, as evenly as may be. */
static inline int32_t bl_tile_count(int32_t rows, int32_t most) { return (rows + most - 1) / most; }

static inline int32_t bl_tile_rows(int32_t rows, int32_t tiles, int32_t index)
{
    return rows / tiles + (index < rows % tiles);
}

static inline int32_t bl_round_up(int32_t value, int32_t unit) { return (value + unit - 1) / unit * unit; }

#endif
