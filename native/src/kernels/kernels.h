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

/* One LSTM or GRU layer over one chunk. width = hidden rounded up to whole vectors. Weights are, all [width] per gate,
 * LSTM: bias[4], w_ih[in][4], w_hh; gates f, i, g, o; 
 * GRU:  bias[4] (r, z, n from the input and n from h), w_ih[in][3], w_hh; gates r, z, n.
 * w_hh is [hidden][gate] where width is more than two vectors. Else it is [gate][u][v][k], vectors all: u and v count the
 * vectors of the width, k the lanes of one, and lane l of it weighs what lane l ^ k of h's vector v adds to lane l of
 * the gate's vector u. Lanes and weights past the last hidden unit are zero. */
typedef struct bl_recurrent_job {
    const float *weights;
    bl_rows x;
    bl_rows y;
    float *
        state; /* h[width], c[width] (room, in a GRU), and of several vectors [a vector's lanes][width] to turn */
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

typedef struct bl_kernels {
    int32_t vector_frames; /* lanes of a vector */
    int32_t tile_rows;     /* most output rows of a convolution's register tile */
    int32_t most_cells;    /* jobs that lstm and gru take in a call */
    void (*conv1d)(const bl_conv_job *job);
    /* Layers that are one vector wide may come several at a time: streams, and layers of a stack one behind the other,
     * each of which takes its inputs from the layer before. Every layer's bits are those it has alone. */
    void (*lstm)(const bl_recurrent_job *jobs, int32_t count);
    void (*gru)(const bl_recurrent_job *jobs, int32_t count);
    void (*maxpool)(const bl_pool_job *job);
    /* y = act(x), row by row; parameters as bl_activation says, those of a row parameter_step after the last row's:
     * PRELU and SNAKE may have one for each channel. */
    void (*activate)(bl_activation kind, const float *parameters, int32_t parameter_step, bl_rows x,
                     bl_rows y, int32_t rows, int32_t frames);
    void (*softmax)(bl_rows x, bl_rows y, int32_t rows, int32_t frames);
    void (*add)(const float *a, const float *b, float *y, int32_t frames);
    void (*multiply)(const float *a, const float *b, float *y, int32_t frames);
    void (*affine)(const float *x, float scale, float shift, float *y, int32_t frames);
    void (*crossfade)(const float *a, const float *b, const float *t, float *y, int32_t frames);
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
