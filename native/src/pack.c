/* [main] Weights in the order the kernels of one instruction set walk them. */
#include <stdlib.h>
#include <string.h>

#include "pack.h"

/* Floats from one phase's taps to the next one's: whole vectors. */
static int32_t taps_pitch(const bl_program *program, const bl_op *op)
{
    return bl_round_up(op->kernel, program->kernels->vector_frames);
}

static void pack_taps(const bl_program *program, const bl_op *op, float *to)
{
    const float *from = bl_array_at(program, op, 0);
    for (int32_t phase = 0; phase < op->factor; phase++, from += op->kernel, to += taps_pitch(program, op)) {
        memcpy(to, from, (size_t)op->kernel * sizeof *to);
    }
}

static int64_t packed_floats(const bl_program *program, const bl_op *op)
{
    int64_t floats = 0;
    switch (op->kind) {
    case BL_OP_CONV1D: floats = bl_conv1d_floats(program, op); break;
    case BL_OP_LSTM:
    case BL_OP_GRU: floats = bl_recurrent_floats(program, op); break;
    case BL_OP_RESAMPLE: floats = (int64_t)op->factor * taps_pitch(program, op); break;
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
           && bl_rows_at(program, a->inputs[0]) == bl_rows_at(program, b->inputs[0])
           && bl_rows_at(program, a->inputs[1]) == bl_rows_at(program, b->inputs[1])
           && bl_rows_at(program, a->outputs[0]) == bl_rows_at(program, b->outputs[0]);
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
        [BL_OP_KNOB] = bl_run_knob,
        [BL_OP_COPY] = bl_run_copy,
        [BL_OP_MAXPOOL] = bl_run_maxpool,
        [BL_OP_UPSAMPLE] = bl_run_upsample,
        [BL_OP_INTERPOLATE] = bl_run_interpolate,
        [BL_OP_INTERLEAVE] = bl_run_interleave,
        [BL_OP_RESAMPLE] = bl_run_resample,
    };
    const bl_op *op = &step->op;
    step->run = runs[op->kind];
    step->kernels = bl_recurrent_kernels(program, op);
    step->weights = bl_array_at(program, op, 0);
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
        break;
    case BL_OP_ACTIVATE: step->second = bl_array_at(program, op, 3); break;
    case BL_OP_AFFINE: step->second = bl_array_at(program, op, 1); break;
    case BL_OP_LSTM:
    case BL_OP_GRU: bl_pack_recurrent(program, step, to); break;
    case BL_OP_RESAMPLE:
        step->weights = to;
        pack_taps(program, op, to);
        break;
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
    case BL_OP_CROSSFADE:
    case BL_OP_RESAMPLE: return 1;
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
    int whole = buffer->rows == bl_tensor_row_count(output) && buffer->rows == bl_rows_at(program, found)
                && program->tensors[program->input].buffer != output->buffer;
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
    bl_stack_recurrent(program);
    return BL_OK;
}
