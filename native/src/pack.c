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

/* The kernels that run an op. Where vectors of sixteen would be half empty at the end, those of eight do as much in as
 * many instructions of half the work: up to 8 hidden units and, measured, from 17 to 24. */
static const bl_kernels *kernels_of(const bl_program *program, const bl_op *op)
{
    int recurrent = op->kind == BL_OP_LSTM || op->kind == BL_OP_GRU;
    int32_t hidden = rows_at(program, op->outputs[0]);
    if (recurrent && program->isa == BL_ISA_AVX512 && (hidden <= 8 || (hidden > 16 && hidden <= 24))) {
        const bl_kernels *half = bl_kernels_for(BL_ISA_AVX2);
        return half ? half : program->kernels;
    }
    return program->kernels;
}

static int32_t width_of(const bl_program *program, const bl_op *op)
{
    return bl_round_up(rows_at(program, op->outputs[0]), kernels_of(program, op)->vector_frames);
}

/* Whether w_hh is packed for h's lanes to be turned; then it has a column for each lane, used or not. */
static int is_turned(const bl_program *program, const bl_op *op)
{
    return width_of(program, op) <= 2 * kernels_of(program, op)->vector_frames;
}

static int32_t hidden_columns(const bl_program *program, const bl_op *op)
{
    return is_turned(program, op) ? width_of(program, op) : rows_at(program, op->outputs[0]);
}

static int64_t recurrent_floats(const bl_program *program, const bl_op *op)
{
    int64_t gates = op->kind == BL_OP_LSTM ? 4 : 3;
    int64_t columns = (int64_t)rows_at(program, op->inputs[0]) + hidden_columns(program, op);
    return (4 + gates * columns) * width_of(program, op);
}

/* w_ih and w_hh in the order that bl_recurrent_job says; */
static void pack_gates(const bl_program *program, const bl_op *op, int32_t gates, float *to)
{
    const float *w_ih = array_at(program, op, 0), *w_hh = array_at(program, op, 1);
    int32_t in = rows_at(program, op->inputs[0]), hidden = rows_at(program, op->outputs[0]);
    int32_t width = width_of(program, op), lanes = kernels_of(program, op)->vector_frames;
    int32_t turned = is_turned(program, op), vectors = width / lanes;
    for (int32_t g = 0; g < gates; g++) {
        const float *rows = w_ih + (int64_t)g * hidden * in;
        for (int64_t i = 0; i < (int64_t)in * hidden; i++) {
            to[(i % in * gates + g) * width + i / in] = rows[i];
        }
    }
    to += (int64_t)in * gates * width;
    for (int32_t g = 0; g < gates; g++) {
        const float *rows = w_hh + (int64_t)g * hidden * hidden;
        for (int32_t u = 0; u < hidden; u++) {
            for (int32_t j = 0; j < hidden; j++) {
                int64_t at = ((int64_t)j * gates + g) * width + u;
                if (turned) {
                    int64_t vector = ((int64_t)(g * vectors + u / lanes) * vectors + j / lanes) * lanes;
                    at = (vector + ((u ^ j) & (lanes - 1))) * lanes + u % lanes;
                }
                to[at] = rows[(int64_t)u * hidden + j];
            }
        }
    }
}

static void pack_lstm(const bl_program *program, const bl_op *op, float *to)
{
    const float *bias = array_at(program, op, 2);
    int32_t hidden = rows_at(program, op->outputs[0]), width = width_of(program, op);
    for (int32_t g = 0; g < 4; g++) {
        memcpy(to + g * width, bias + g * hidden, (size_t)hidden * sizeof *to);
    }
    pack_gates(program, op, 4, to + 4 * (int64_t)width);
}

static void pack_gru(const bl_program *program, const bl_op *op, float *to)
{
    const float *bias_ih = array_at(program, op, 2), *bias_hh = array_at(program, op, 3);
    int32_t hidden = rows_at(program, op->outputs[0]), width = width_of(program, op);
    for (int32_t u = 0; u < hidden; u++) {
        to[u] = bias_ih[u] + bias_hh[u];
        to[width + u] = bias_ih[hidden + u] + bias_hh[hidden + u];
        to[2 * width + u] = bias_ih[2 * hidden + u];
        to[3 * width + u] = bias_hh[2 * hidden + u];
    }
    pack_gates(program, op, 3, to + 4 * (int64_t)width);
}

static int64_t packed_floats(const bl_program *program, const bl_op *op)
{
    int64_t floats = 0;
    switch (op->kind) {
    case BL_OP_CONV1D: floats = bl_conv1d_floats(program, op); break;
    case BL_OP_LSTM:
    case BL_OP_GRU: floats = recurrent_floats(program, op); break;
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

static void pack_recurrent(const bl_program *program, bl_step *step, float *to)
{
    int lstm = step->op.kind == BL_OP_LSTM;
    (lstm ? pack_lstm : pack_gru)(program, &step->op, to);
    step->weights = to;
    step->second = array_at(program, &step->op, lstm ? 3 : 4);
    step->width = width_of(program, &step->op);
    step->state_floats = 2 * (int64_t)step->width;
    if (step->width > step->kernels->vector_frames) {
        step->state_floats += step->width * (int64_t)step->kernels->vector_frames;
    }
    step->run_all = bl_run_recurrent;
    step->layers = 1;
}

/* Make a recurrent step the head of those behind it that read its output and run on the same kernels, as long as a
 * layer is one vector wide: their frames can take turns. Vectors of sixteen leave nothing to gain: a machine that has
 * them is as good as busy with one layer. */
static void stack_steps(bl_program *program)
{
    bl_step *head = NULL;
    for (bl_step *step = program->steps; step < program->steps + program->step_count; step++) {
        int32_t lanes = step->kernels->vector_frames;
        if (step->layers == 0 || step->width > lanes || lanes > 8) {
            head = NULL;
            continue;
        }
        if (head && head->layers < step->kernels->most_cells && head->op.kind == step->op.kind
            && head->kernels == step->kernels && step->op.inputs[0] == step[-1].op.outputs[0]) {
            head->layers++;
            step->layers = 0;
        } else {
            head = step;
        }
    }
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
        [BL_OP_KNOB] = bl_run_knob,
        [BL_OP_COPY] = bl_run_copy,
        [BL_OP_MAXPOOL] = bl_run_maxpool,
        [BL_OP_UPSAMPLE] = bl_run_upsample,
        [BL_OP_INTERPOLATE] = bl_run_interpolate,
        [BL_OP_INTERLEAVE] = bl_run_interleave,
    };
    const bl_op *op = &step->op;
    step->run = runs[op->kind];
    step->kernels = kernels_of(program, op);
    step->weights = array_at(program, op, 0);
    switch (op->kind) {
    case BL_OP_CONV1D:
        step->weights = last && own_floats(program, step, last) == 0 ? last->weights : to;
        step->conv.weights = step->weights;
        if (step->joined) {
            step[-1].conv.next_weights = step->weights;
        }
        if (step->weights == to) {
            bl_pack_conv1d(program, step, to);
        }
        step->second = array_at(program, op, 3);
        break;
    case BL_OP_ACTIVATE: step->second = array_at(program, op, 3); break;
    case BL_OP_AFFINE: step->second = array_at(program, op, 1); break;
    case BL_OP_LSTM:
    case BL_OP_GRU: pack_recurrent(program, step, to); break;
    case BL_OP_KNOB: step->index = program->knob_count++; break;
    default: break;
    }
    step->state_offset = program->state_floats;
    program->state_floats += step->state_floats;
}

/* Whether an op writes whole vectors from the chunk's first frame on. */
static int writes_vectors(const bl_op *op)
{
    switch (op->kind) {
    case BL_OP_CONV1D:
    case BL_OP_ACTIVATE:
    case BL_OP_ADD:
    case BL_OP_MULTIPLY:
    case BL_OP_AFFINE:
    case BL_OP_CROSSFADE: return 1;
    default: return 0;
    }
}

/* The tensor that may be written to the caller's memory: all rows of the output, by one op, read and remembered by
 * nobody; or BL_NONE. */
static int32_t direct_tensor(const bl_program *program, const int32_t *reads)
{
    const bl_tensor *output = &program->tensors[program->output];
    const bl_buffer *buffer = &program->buffers[output->buffer];
    int32_t found = BL_NONE;
    for (int32_t s = 0; s < program->step_count; s++) {
        const bl_op *op = &program->steps[s].op;
        for (int i = 0; i < BL_OP_OUTPUTS; i++) {
            if (op->outputs[i] != BL_NONE && program->tensors[op->outputs[i]].buffer == output->buffer) {
                if (found != BL_NONE || !writes_vectors(op)) {
                    return BL_NONE;
                }
                found = op->outputs[i];
            }
        }
    }
    int whole = buffer->rows == bl_tensor_row_count(output);
    return whole && reads[output->buffer] == 0 && buffer->kind == BL_BUFFER_SCRATCH ? found : BL_NONE;
}

/* Which of the tensors that a step writes, itself or by the one joined to it, have readers of their past. */
static void list_remembered(const bl_program *program, bl_step *step)
{
    for (const bl_step *writer = step; writer && !step->joined; writer = writer->next) {
        for (int i = 0; i < BL_OP_OUTPUTS; i++) {
            int32_t tensor = writer->op.outputs[i];
            if (tensor != BL_NONE
                && program->buffers[program->tensors[tensor].buffer].kind == BL_BUFFER_RING) {
                step->remembered[step->remembered_count++] = tensor;
            }
        }
    }
}

/* Those that a 2-D convolution is made of read the same buffer in the same way. */
static int same_terms(const bl_program *program, const bl_step *a, const bl_step *b)
{
    return a->conv.kernel == b->conv.kernel && a->conv.in_per_group == b->conv.in_per_group
           && a->conv.dilation == b->conv.dilation
           && program->tensors[a->op.inputs[0]].buffer == program->tensors[b->op.inputs[0]].buffer;
}

static void plan_conv1d(bl_program *program, bl_step *step, const bl_step *last)
{
    bl_plan_conv1d(program, step);
    step->index = program->conv_count++;
    if (last && same_terms(program, last, step)) {
        step->first_term = last->first_term;
    } else {
        step->first_term = program->term_count;
        program->term_count += step->conv.terms;
    }
}

bl_status bl_plan_steps(bl_program *program)
{
    int32_t *reads = calloc((size_t)program->buffer_count, sizeof *reads);
    if (!reads) {
        return BL_ERROR_MEMORY;
    }
    const bl_step *last = NULL;
    for (int32_t s = 0; s < program->step_count; s++) {
        bl_step *step = &program->steps[s];
        if (step->op.kind == BL_OP_CONV1D) {
            plan_conv1d(program, step, last);
            last = step;
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
    for (int32_t s = 0; s < program->step_count; s++) {
        list_remembered(program, &program->steps[s]);
    }
    program->direct = direct_tensor(program, reads);
    for (int32_t s = 0; s < program->step_count && program->direct != BL_NONE; s++) {
        bl_step *step = &program->steps[s];
        step->direct = step->ports[BL_CONV_Y] == program->direct
                       || step->ports[BL_CONV_NEXT_Y] == program->direct
                       || step->ports[BL_CONV_SKIP_SUM] == program->direct;
    }
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
    stack_steps(program);
    return BL_OK;
}
