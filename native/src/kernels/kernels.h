/* Stateless arithmetic, one table per instruction set. Rows are planar; every row may be read and written
 * up to the next whole vector past its last frame, where it holds padding that means nothing. Rows of a caller's
 * memory have no padding: an op may write to them what is a whole number of vectors. */
#ifndef BL_KERNELS_H
#define BL_KERNELS_H

#include <stddef.h>

#include "backline.h"

/* Rows of one signal: row r begins at p + r * pitch. */
typedef struct bl_rows {
    float *p;
    int64_t pitch;
} bl_rows;

/* How a convolution's activation is applied to the sums of a tile. */
typedef enum bl_conv_epilogue {
    BL_CONV_PLAIN,
    BL_CONV_RELU,
    BL_CONV_LEAKY,    /* times slope below zero; slope from 0 to 1 */
    BL_CONV_ACTIVATE, /* any other of bl_activation but SOFTMAX */
} bl_conv_epilogue;

/* One grouped convolution over one chunk, all pointers at the chunk's first frame.
 *
 * The rows of a group lie in `higher_tiles` tiles of tile_rows + 1 rows, then `lower_tiles` tiles of tile_rows.
 * Weights are packed tile by tile, groups outermost: bias[rows], conv[tap][in][rows], mix[in][rows].
 * A depthwise convolution (one row in and one out per group) has its groups in such tiles instead.
 * A group has `terms` terms, tap by tap, in each of them input row by input row. The frames of term i begin
 * offsets[i] floats from the group's first row, (tap - (kernel - 1)) * dilation frames from this chunk's, plus
 * wrap for the terms of the first wrapped_taps taps: those lie before the ring's seam.
 *
 * A convolution whose rows are one tile may have another of one tap joined to it, which works on y where it is,
 * in registers: next_y = next_residual + bias + weights * y; its weights are packed row by row: bias, then one
 * per row of y. */
typedef struct bl_conv_job {
    const float *weights;
    const float *next_weights;
    const int32_t *offsets;
    bl_rows x;
    bl_rows mix;
    bl_rows residual; /* NULL rows: none */
    bl_rows skip;     /* likewise; else skip_sum = skip + y */
    bl_rows y;        /* NULL rows: only the joined convolution reads it */
    bl_rows skip_sum;
    bl_rows next_residual; /* NULL rows: none */
    bl_rows next_y;
    int64_t wrap;
    int32_t terms; /* kernel * in_per_group */
    int32_t wrapped_taps;
    int32_t frames_before; /* of x that lie in front of x.p without a seam */
    int32_t kernel;
    int32_t dilation;
    int32_t stride;
    int32_t groups;
    int32_t in_per_group;
    int32_t tile_rows;
    int32_t higher_tiles;
    int32_t lower_tiles;
    int32_t mix_groups;
    int32_t mix_per_group; /* 0: no mix */
    int32_t out_per_mix_group;
    int32_t next_rows; /* 0: nothing joined */
    int32_t rate;      /* of y: its number in the program */
    int32_t frames;    /* of y */
    int32_t depthwise;
    bl_conv_epilogue epilogue;
    bl_activation activation;
    const float *parameters; /* of the activation */
    int32_t parameter_step;  /* from one row's to the next */
    float slope;
} bl_conv_job;

/* One LSTM or GRU layer over one chunk. width = hidden rounded up to whole vectors. Weights, all [width] a gate:
 * LSTM: bias[4], w_ih[in][4], w_hh; gates i, f, g, o;
 * GRU:  bias[4] (r, z, n from the input and n from h), w_ih[in][3], w_hh; gates r, z, n.
 * w_hh is [hidden][gate] where width is more than two vectors. Else it is [gate][u][v][k], vectors all: u and v
 * count the vectors of the width, k the lanes of one, and lane l of it weighs what lane l ^ k of h's vector v
 * adds to lane l of the gate's vector u. Lanes and weights past the last hidden unit are zero. */
typedef struct bl_recurrent_job {
    const float *weights;
    bl_rows x;
    bl_rows y;
    /* h[width], c[width] (room, in a GRU), and of several vectors [a vector's lanes][width] to turn. */
    float *state;
    int32_t inputs;
    int32_t hidden;
    int32_t width;
    int32_t frames;
    int32_t follows; /* 1: x is the y of the job before, which has as many frames */
} bl_recurrent_job;

/* Most jobs in a call, whatever the kernels. */
#define BL_MOST_CELLS 4

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

/* Polyphase resampling of one row. Frame i of y is the sum of `kernel` taps of one phase times as many frames from
 * x + first + floor((phase + i stride) / factor) on, the phase being (phase + i stride) mod factor. Frames more than
 * frames_before in front of x lie `wrap` floats further on. */
typedef struct bl_resample_job {
    const float *x; /* at this chunk's first frame */
    float *y;
    const float *taps; /* [factor][kernel rounded up to whole vectors], the rest zero */
    int64_t wrap;
    int32_t frames_before;
    int32_t first;
    int32_t phase;
    int32_t kernel;
    int32_t factor;
    int32_t stride;
    int32_t frames; /* of y */
} bl_resample_job;

typedef struct bl_kernels {
    int32_t vector_frames;  /* lanes of a vector */
    int32_t tile_rows;      /* most output rows of a convolution's register tile */
    int32_t depthwise_rows; /* the same of a depthwise one */
    int32_t most_cells;     /* jobs that lstm and gru take in a call */
    void (*conv1d)(const bl_conv_job *job);
    /* Reads and writes no frame but those it copies. The rows may overlap if `to` begins before `from`. */
    void (*copy)(bl_rows from, bl_rows to, int32_t rows, int32_t frames);
    /* Layers that are one vector wide may come several at a time: streams, and layers of a stack one behind the
     * other, each of which takes its inputs from the layer before. Every layer's bits are those it has alone. */
    void (*lstm)(const bl_recurrent_job *jobs, int32_t count);
    void (*gru)(const bl_recurrent_job *jobs, int32_t count);
    void (*maxpool)(const bl_pool_job *job);
    void (*resample)(const bl_resample_job *job);
    /* y = act(x), row by row; parameters as bl_activation says, those of a row parameter_step after the last row's:
     * PRELU and SNAKE may have one for each channel. */
    void (*activate)(bl_activation kind, const float *parameters, int32_t parameter_step, bl_rows x,
                     bl_rows y, int32_t rows, int32_t frames);
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

static inline int32_t bl_round_up(int32_t value, int32_t unit) { return (value + unit - 1) / unit * unit; }

#endif
