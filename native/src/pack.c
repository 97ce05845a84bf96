/* [main] Weights in the order the kernels of one instruction set walk them. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const float *array_at(const bl_program *program, const bl_op *op, int32_t array)
{
    return op->arrays[array].count ? program->blob + op->arrays[array].offset : NULL;
}

static int32_t rows_at(const bl_program *program, int32_t tensor)
{
    return tensor == BL_NONE ? 0 : bl_tensor_row_count(&program->tensors[tensor]);
}

static int64_t width_of(const bl_program *program, const bl_op *op)
{
    return bl_round_up(rows_at(program, op->outputs[0]), program->kernels->vector_frames);
}

static int64_t lstm_floats(const bl_program *program, const bl_op *op)
{
    int64_t columns = 1 + rows_at(program, op->inputs[0]) + rows_at(program, op->outputs[0]);
    return columns * 4 * width_of(program, op);
}

/* bl_lstm_job says the order; lanes past the last hidden unit stay zero. */
static void pack_lstm(const bl_program *program, const bl_op *op, float *to)
{
    const float *w_ih = array_at(program, op, 0), *w_hh = array_at(program, op, 1),
                *bias = array_at(program, op, 2);
    int32_t in = rows_at(program, op->inputs[0]), hidden = rows_at(program, op->outputs[0]);
    int64_t width = width_of(program, op);
    for (int32_t column = 0; column < 1 + in + hidden; column++) {
        for (int64_t gate = 0; gate < 4; gate++, to += width) {
            for (int32_t u = 0; u < hidden; u++) {
                int64_t row = gate * hidden + u;
                to[u] = column == 0    ? bias[row]
                        : column <= in ? w_ih[row * in + column - 1]
                                       : w_hh[row * hidden + column - 1 - in];
            }
        }
    }
}

static int64_t gru_floats(const bl_program *program, const bl_op *op)
{
    int64_t columns = rows_at(program, op->inputs[0]) + rows_at(program, op->outputs[0]);
    return (4 + columns * 3) * width_of(program, op);
}

/* bl_gru_job says the order; lanes past the last hidden unit stay zero. */
static void pack_gru(const bl_program *program, const bl_op *op, float *to)
{
    const float *w_ih = array_at(program, op, 0), *w_hh = array_at(program, op, 1),
                *bias_ih = array_at(program, op, 2), *bias_hh = array_at(program, op, 3);
    int32_t in = rows_at(program, op->inputs[0]), hidden = rows_at(program, op->outputs[0]);
    int64_t width = width_of(program, op);
    for (int32_t u = 0; u < hidden; u++) {
        to[u] = bias_ih[u] + bias_hh[u];
        to[width + u] = bias_ih[hidden + u] + bias_hh[hidden + u];
        to[2 * width + u] = bias_ih[2 * hidden + u];
        to[3 * width + u] = bias_hh[2 * hidden + u];
    }
    to += 4 * width;
    for (int32_t column = 0; column < in + hidden; column++) {
        for (int64_t gate = 0; gate < 3; gate++, to += width) {
            for (int32_t u = 0; u < hidden; u++) {
                int64_t row = gate * hidden + u;
                to[u] = column < in ? w_ih[row * in + column] : w_hh[row * hidden + column - in];
            }
        }
    }
}

static int64_t packed_floats(const bl_program *program, const bl_op *op)
{
    int64_t floats = 0;
    switch (op->kind) {
    case BL_OP_CONV1D: floats = bl_conv1d_floats(program, op); break;
    case BL_OP_LSTM: floats = lstm_floats(program, op); break;
    case BL_OP_GRU: floats = gru_floats(program, op); break;
    default: break;
    }
    return (floats + BL_ALIGN_FLOATS - 1) / BL_ALIGN_FLOATS * BL_ALIGN_FLOATS;
}

/* Whether two convolutions are packed alike: those that a 2-D one is made of share their weights. */
static int packed_alike(const bl_program *program, const bl_step *first, const bl_step *second)
{
    const bl_op *a = &first->op, *b = &second->op;
    if (first->joined || second->joined) {
        return 0;
    }
    for (int32_t i = 0; i < 3; i++) {
        if (a->arrays[i].offset != b->arrays[i].offset || a->arrays[i].count != b->arrays[i].count) {
            return 0;
        }
    }
    return a->kernel == b->kernel && a->stride == b->stride && a->groups == b->groups
           && a->mix_groups == b->mix_groups
           && rows_at(program, a->inputs[0]) == rows_at(program, b->inputs[0])
           && rows_at(program, a->inputs[1]) == rows_at(program, b->inputs[1])
           && rows_at(program, a->outputs[0]) == rows_at(program, b->outputs[0]);
}

/* Floats that a step needs for itself; `last` is the convolution before it, or NULL. */
static int64_t own_floats(const bl_program *program, const bl_step *step, const bl_step *last)
{
    int shared = last && step->op.kind == BL_OP_CONV1D && packed_alike(program, last, step);
    return shared ? 0 : packed_floats(program, &step->op);
}

static void pack_step(bl_program *program, bl_step *step, const bl_step *last, float *to)
{
    static bl_run *const runs[] = {
        [BL_OP_CONV1D] = bl_run_conv1d,
        [BL_OP_ACTIVATE] = bl_run_activate,
        [BL_OP_ADD] = bl_run_add,
        [BL_OP_MULTIPLY] = bl_run_multiply,
        [BL_OP_AFFINE] = bl_run_affine,
        [BL_OP_CROSSFADE] = bl_run_crossfade,
        [BL_OP_LSTM] = bl_run_lstm,
        [BL_OP_KNOB] = bl_run_knob,
        [BL_OP_GRU] = bl_run_gru,
        [BL_OP_COPY] = bl_run_copy,
        [BL_OP_MAXPOOL] = bl_run_maxpool,
        [BL_OP_UPSAMPLE] = bl_run_upsample,
        [BL_OP_INTERPOLATE] = bl_run_interpolate,
        [BL_OP_INTERLEAVE] = bl_run_interleave,
    };
    const bl_op *op = &step->op;
    step->run = runs[op->kind];
    step->weights = array_at(program, op, 0);
    switch (op->kind) {
    case BL_OP_CONV1D:
        step->weights = last && own_floats(program, step, last) == 0 ? last->weights : to;
        step->conv.weights = step->weights;
        if (step->weights == to) {
            bl_pack_conv1d(program, step, to);
        }
        step->second = array_at(program, op, 3);
        break;
    case BL_OP_ACTIVATE: step->second = array_at(program, op, 3); break;
    case BL_OP_AFFINE: step->second = array_at(program, op, 1); break;
    case BL_OP_LSTM:
        pack_lstm(program, op, to);
        step->weights = to;
        step->second = array_at(program, op, 3);
        step->state_floats = 3 * width_of(program, op);
        break;
    case BL_OP_GRU:
        pack_gru(program, op, to);
        step->weights = to;
        step->second = array_at(program, op, 4);
        step->state_floats = 2 * width_of(program, op);
        break;
    case BL_OP_KNOB: step->knob = program->knob_count++; break;
    default: break;
    }
    step->state_offset = program->state_floats;
    program->state_floats += step->state_floats;
}

/* Whether one op alone makes the output, in rows that nobody reads or remembers. */
static int writes_out(const bl_program *program, const int32_t *reads)
{
    const bl_tensor *output = &program->tensors[program->output];
    int32_t writers = 0;
    for (int32_t s = 0; s < program->step_count; s++) {
        for (int i = 0; i < BL_OP_OUTPUTS; i++) {
            int32_t tensor = program->steps[s].op.outputs[i];
            writers += tensor != BL_NONE && program->tensors[tensor].buffer == output->buffer;
            if (tensor == program->output) {
                writers += program->buffers[output->buffer].rows != bl_tensor_row_count(output);
            }
        }
    }
    return writers == 1 && reads[output->buffer] == 0
           && program->buffers[output->buffer].kind == BL_BUFFER_SCRATCH;
}

bl_status bl_plan_steps(bl_program *program)
{
    int32_t *reads = calloc((size_t)program->buffer_count, sizeof *reads);
    if (!reads) {
        return BL_ERROR_MEMORY;
    }
    for (int32_t s = 0; s < program->step_count; s++) {
        bl_step *step = &program->steps[s];
        if (step->op.kind == BL_OP_CONV1D) {
            bl_plan_conv1d(program, step);
        }
        for (int i = 0; i < BL_OP_INPUTS; i++) {
            if (step->op.inputs[i] != BL_NONE) {
                reads[program->tensors[step->op.inputs[i]].buffer]++;
            }
        }
    }
    for (int32_t s = 0; s + 1 < program->step_count; s++) {
        if (!program->steps[s].joined) {
            bl_join_conv1d(program, &program->steps[s], &program->steps[s + 1], reads);
        }
    }
    program->writes_out = writes_out(program, reads);
    free(reads);
    return BL_OK;
}

int64_t bl_packed_bytes(const bl_program *program)
{
    const bl_step *last = NULL;
    int64_t floats = BL_ALIGN_FLOATS;
    for (const bl_step *step = program->steps; step < program->steps + program->step_count; step++) {
        floats += own_floats(program, step, last);
        last = step->op.kind == BL_OP_CONV1D ? step : last;
    }
    return floats * (int64_t)sizeof(float);
}

bl_status bl_pack_steps(bl_program *program)
{
    size_t bytes = (size_t)bl_packed_bytes(program);
    program->packed = aligned_alloc(BL_ALIGN_FLOATS * sizeof(float), bytes);
    if (!program->packed) {
        return BL_ERROR_MEMORY;
    }
    memset(program->packed, 0, bytes);
    program->bytes += (int64_t)bytes;
    const bl_step *last = NULL;
    float *to = program->packed;
    for (bl_step *step = program->steps; step < program->steps + program->step_count; step++) {
        pack_step(program, step, last, to);
        to += own_floats(program, step, last);
        last = step->op.kind == BL_OP_CONV1D ? step : last;
    }
    return BL_OK;
}
