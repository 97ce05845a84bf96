/* What the tests of the engine share: random numbers, and two programs that have every op between them. */
#ifndef BL_TEST_TABLES_H
#define BL_TEST_TABLES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backline.h"

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static uint32_t seed = 1;

static inline uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static inline float random_float(void) { return (float)(int32_t)next_random() / 2147483648.0f; }

/* Room for either program; what one does not use is zero. */
enum { RATES = 5, BUFFERS = 14, TENSORS = 18, OPS = 14, BLOB = 1024 };

typedef struct tables {
    bl_rate rates[RATES];
    bl_buffer buffers[BUFFERS];
    bl_tensor tensors[TENSORS];
    bl_op ops[OPS];
    float blob[BLOB];
    bl_spec spec;
} tables;

static inline void point_at_tables(tables *t)
{
    t->spec.rates = t->rates;
    t->spec.buffers = t->buffers;
    t->spec.tensors = t->tensors;
    t->spec.ops = t->ops;
    t->spec.blob = t->blob;
}

static inline bl_op op_of(int32_t kind, int32_t a, int32_t b, int32_t c, int32_t d, int32_t y, int32_t sum)
{
    return (bl_op){.kind = kind, .inputs = {a, b, c, d}, .outputs = {y, sum}};
}

static inline bl_op unary_of(int32_t kind, int32_t x, int32_t y)
{
    return op_of(kind, x, BL_NONE, BL_NONE, BL_NONE, y, BL_NONE);
}

static inline bl_span span_of(int64_t *at, int64_t count)
{
    bl_span span = {*at, count};
    *at += count;
    return span;
}

/* Buffers with a tensor each, of the same number; a lookback makes a ring. */
static inline void fill_buffers(tables *t, int32_t count, const int32_t *rows, const int32_t *rate,
                                const int32_t *lookback)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < BLOB; i++) {
        t->blob[i] = 0.5f * random_float();
    }
    for (int32_t i = 0; i < count; i++) {
        t->buffers[i] = (bl_buffer){.rows = rows[i], .rate = rate[i], .lookback_frames = lookback[i]};
        t->buffers[i].kind = lookback[i] ? BL_BUFFER_RING : BL_BUFFER_SCRATCH;
        if (!lookback[i]) {
            t->buffers[i].scratch_row = t->spec.scratch_rows;
            t->spec.scratch_rows += rows[i];
        }
        t->tensors[i] = (bl_tensor){i, 0, rows[i], 1};
    }
    t->spec.blob_count = BLOB;
    t->spec.buffer_count = count;
    t->spec.prewarm_frames = 300;
    point_at_tables(t);
}

/* A stride, a view, sums in place and a knob:
 *
 *   x[2] -> knob gain -> grouped conv (ring) with mix, residual -> conv with skip -> lstm -> stride 3 */

static inline void fill_convolutions(tables *t, int64_t *at)
{
    bl_op *grouped = &t->ops[2], *skipping = &t->ops[3], *strided = &t->ops[8];
    *grouped = op_of(BL_OP_CONV1D, 2, 0, 2, BL_NONE, 3, BL_NONE);
    grouped->kernel = 3, grouped->dilation = 5, grouped->stride = 1, grouped->groups = 2,
    grouped->mix_groups = 1;
    grouped->activation = BL_ACT_TANH;
    grouped->arrays[0] = span_of(at, 4 * 2 * 3);
    grouped->arrays[1] = span_of(at, 4);
    grouped->arrays[2] = span_of(at, 4 * 2);
    *skipping = op_of(BL_OP_CONV1D, 3, BL_NONE, BL_NONE, 2, 4, 5);
    skipping->kernel = 2, skipping->dilation = 150, skipping->stride = 1, skipping->groups = 4;
    skipping->activation = BL_ACT_LEAKY_RELU;
    skipping->arrays[0] = span_of(at, 4 * 1 * 2);
    skipping->arrays[3] = span_of(at, 1);
    *strided = unary_of(BL_OP_CONV1D, 8, 9);
    strided->kernel = 4, strided->dilation = 2, strided->stride = 3, strided->groups = 1;
    strided->arrays[0] = span_of(at, 2 * 3 * 4);
}

static inline void fill_layer_ops(tables *t)
{
    int64_t at = 0;
    fill_convolutions(t, &at);
    t->ops[0] = unary_of(BL_OP_KNOB, BL_NONE, 1);
    t->ops[0].ramp_frames = 100;
    t->blob[at] = 1.0f, t->blob[at + 1] = 0.0f, t->blob[at + 2] = 2.0f;
    t->ops[0].arrays[0] = span_of(&at, 3);
    /* A four-row ring from two rows of input: through a 1x1 convolution. */
    t->ops[1] = unary_of(BL_OP_CONV1D, 0, 2);
    t->ops[1].kernel = t->ops[1].dilation = t->ops[1].stride = t->ops[1].groups = 1;
    t->ops[1].arrays[0] = span_of(&at, 4 * 2);
    t->ops[4] = op_of(BL_OP_MULTIPLY, 5, 1, BL_NONE, BL_NONE, 5, BL_NONE);
    t->ops[5] = op_of(BL_OP_CROSSFADE, 4, 5, 1, BL_NONE, 6, BL_NONE);
    t->ops[6] = unary_of(BL_OP_AFFINE, 6, 7);
    t->ops[6].arrays[0] = span_of(&at, 4);
    t->ops[6].arrays[1] = span_of(&at, 1);
    t->ops[7] = unary_of(BL_OP_LSTM, 10, 8);
    t->ops[7].arrays[0] = span_of(&at, 4 * 3 * 2);
    t->ops[7].arrays[1] = span_of(&at, 4 * 3 * 3);
    t->ops[7].arrays[2] = span_of(&at, 4 * 3);
    t->ops[7].arrays[3] = span_of(&at, 3);
    EXPECT(at <= BLOB);
}

static inline void make_layers(tables *t)
{
    const int32_t rows[] = {2, 1, 4, 4, 4, 4, 4, 4, 3, 2};
    const int32_t rate[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const int32_t lookback[] = {0, 0, 10, 150, 0, 0, 0, 0, 6, 0};
    fill_buffers(t, 10, rows, rate, lookback);
    t->rates[0] = (bl_rate){1, 1, 0};
    t->rates[1] = (bl_rate){1, 3, 0};
    t->tensors[10] = (bl_tensor){7, 1, 2, 1};
    fill_layer_ops(t);
    t->spec.rate_count = 2, t->spec.tensor_count = 11, t->spec.op_count = 9;
    t->spec.input = 0, t->spec.output = 9;
}

/* All that moves frames in time, at rates 1, 1/2, 3/2, 3 and 15/7:
 *
 *   x[4] -> gru -> delay -> joined with two rows of x -> max pool by 2 -> interpolated and held by 3, added
 *        -> conv with gelu -> interleave by 2 -> lstm -> snake -> max pool -> resampled by 5/7 */

static inline void fill_recurrent_ops(tables *t, int64_t *at)
{
    bl_op *gru = &t->ops[0], *lstm = &t->ops[10];
    *gru = unary_of(BL_OP_GRU, 14, 1);
    gru->start_frames = 5;
    gru->arrays[0] = span_of(at, 3 * 3 * 2);
    gru->arrays[1] = span_of(at, 3 * 3 * 3);
    gru->arrays[2] = span_of(at, 3 * 3);
    gru->arrays[3] = span_of(at, 3 * 3);
    gru->arrays[4] = span_of(at, 3);
    *lstm = unary_of(BL_OP_LSTM, 9, 10);
    lstm->start_frames = 9;
    lstm->arrays[0] = span_of(at, 4 * 3 * 2);
    lstm->arrays[1] = span_of(at, 4 * 3 * 3);
    lstm->arrays[2] = span_of(at, 4 * 3);
}

static inline void fill_rate_ops(tables *t)
{
    int64_t at = 0;
    fill_recurrent_ops(t, &at);
    t->ops[1] = unary_of(BL_OP_COPY, 1, 2);
    t->ops[1].delay_frames = 211, t->ops[1].start_frames = 4;
    t->ops[2] = unary_of(BL_OP_COPY, 15, 16);
    t->ops[3] = unary_of(BL_OP_COPY, 2, 17);
    t->ops[4] = unary_of(BL_OP_MAXPOOL, 3, 4);
    t->ops[4].kernel = 3, t->ops[4].dilation = 70, t->ops[4].stride = 2, t->ops[4].start_frames = 11;
    t->ops[5] = unary_of(BL_OP_INTERPOLATE, 4, 5);
    t->ops[5].factor = 3, t->ops[5].start_frames = 2;
    t->ops[6] = unary_of(BL_OP_UPSAMPLE, 4, 6);
    t->ops[6].factor = 3;
    t->ops[7] = op_of(BL_OP_ADD, 5, 6, BL_NONE, BL_NONE, 7, BL_NONE);
    t->ops[8] = unary_of(BL_OP_CONV1D, 7, 8);
    t->ops[8].kernel = t->ops[8].dilation = t->ops[8].stride = t->ops[8].groups = 1;
    t->ops[8].activation = BL_ACT_GELU;
    t->ops[8].arrays[0] = span_of(&at, 4 * 5);
    t->ops[9] = unary_of(BL_OP_INTERLEAVE, 8, 9);
    t->ops[9].factor = 2;
    t->ops[11] = unary_of(BL_OP_ACTIVATE, 10, 11);
    t->ops[11].activation = BL_ACT_SNAKE;
    t->ops[11].arrays[3] = span_of(&at, 3);
    t->ops[12] = unary_of(BL_OP_MAXPOOL, 11, 12);
    t->ops[12].kernel = 5, t->ops[12].dilation = t->ops[12].stride = 1, t->ops[12].start_frames = -1;
    t->ops[13] = unary_of(BL_OP_RESAMPLE, 12, 13);
    t->ops[13].kernel = 61, t->ops[13].stride = 7, t->ops[13].factor = 5;
    t->ops[13].arrays[0] = span_of(&at, 5 * 61);
    EXPECT(at <= BLOB);
}

static inline void make_rates(tables *t)
{
    const int32_t rows[] = {4, 3, 3, 5, 5, 5, 5, 5, 4, 2, 3, 3, 3, 3};
    const int32_t rate[] = {0, 0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4};
    const int32_t lookback[] = {0, 211, 0, 140, 2, 0, 0, 0, 1, 0, 0, 4, 61, 0};
    fill_buffers(t, 14, rows, rate, lookback);
    t->rates[0] = (bl_rate){1, 1, 0};
    t->rates[1] = (bl_rate){1, 2, 0};
    t->rates[2] = (bl_rate){3, 2, 0};
    t->rates[3] = (bl_rate){3, 1, 0};
    t->rates[4] = (bl_rate){15, 7, 0};
    t->tensors[14] = (bl_tensor){0, 0, 2, 1};
    t->tensors[15] = (bl_tensor){0, 2, 2, 1};
    t->tensors[16] = (bl_tensor){3, 0, 2, 1};
    t->tensors[17] = (bl_tensor){3, 2, 3, 1};
    fill_rate_ops(t);
    t->spec.rate_count = 5, t->spec.tensor_count = 18, t->spec.op_count = 14;
    t->spec.input = 0, t->spec.output = 13;
}

/* The input, one row of a buffer, is half of the output: it has to come out in its place, however it got there. */
static inline void make_input_in_output(tables *t)
{
    *t = (tables){0};
    point_at_tables(t);
    t->rates[0] = (bl_rate){1, 1, 0};
    t->buffers[0] = (bl_buffer){.kind = BL_BUFFER_SCRATCH, .rows = 2};
    t->buffers[1] = (bl_buffer){.kind = BL_BUFFER_SCRATCH, .rows = 1, .scratch_row = 2};
    t->tensors[0] = (bl_tensor){0, 0, 1, 1};
    t->tensors[1] = (bl_tensor){1, 0, 1, 1};
    t->tensors[2] = (bl_tensor){0, 1, 1, 1};
    t->tensors[3] = (bl_tensor){0, 0, 2, 1};
    t->blob[0] = 0.5f, t->blob[1] = 0.0f, t->blob[2] = 1.0f;
    t->ops[0] = unary_of(BL_OP_KNOB, BL_NONE, 1);
    t->ops[0].arrays[0] = (bl_span){0, 3};
    t->ops[0].ramp_frames = 100;
    t->ops[1] = unary_of(BL_OP_ACTIVATE, 1, 2);
    t->ops[1].activation = BL_ACT_TANH;
    t->spec.rate_count = 1, t->spec.buffer_count = 2, t->spec.tensor_count = 4, t->spec.op_count = 2;
    t->spec.blob_count = 3, t->spec.scratch_rows = 3;
    t->spec.input = 0, t->spec.output = 3;
}

#endif
