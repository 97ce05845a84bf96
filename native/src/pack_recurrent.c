/* [main] LSTM and GRU: the kernels that run them, their weights in the order those walk them, and stacks. */
#include <string.h>

#include "pack.h"

/* The kernels that run an op. Where vectors of sixteen would be half empty at the end, those of eight do as
 * much in as many instructions of half the work: up to 8 hidden units and, measured, from 17 to 24. */
const bl_kernels *bl_recurrent_kernels(const bl_program *program, const bl_op *op)
{
    int recurrent = op->kind == BL_OP_LSTM || op->kind == BL_OP_GRU;
    int32_t hidden = bl_rows_at(program, op->outputs[0]);
    if (recurrent && program->isa == BL_ISA_AVX512 && (hidden <= 8 || (hidden > 16 && hidden <= 24))) {
        const bl_kernels *half = bl_kernels_for(BL_ISA_AVX2);
        return half ? half : program->kernels;
    }
    return program->kernels;
}

static int32_t width_of(const bl_program *program, const bl_op *op)
{
    return bl_round_up(bl_rows_at(program, op->outputs[0]), bl_recurrent_kernels(program, op)->vector_frames);
}

/* Whether w_hh is packed for h's lanes to be turned; then it has a column for each lane, used or not. */
static int is_turned(const bl_program *program, const bl_op *op)
{
    return width_of(program, op) <= 2 * bl_recurrent_kernels(program, op)->vector_frames;
}

static int32_t hidden_columns(const bl_program *program, const bl_op *op)
{
    return is_turned(program, op) ? width_of(program, op) : bl_rows_at(program, op->outputs[0]);
}

int64_t bl_recurrent_floats(const bl_program *program, const bl_op *op)
{
    int64_t gates = op->kind == BL_OP_LSTM ? 4 : 3;
    int64_t columns = (int64_t)bl_rows_at(program, op->inputs[0]) + hidden_columns(program, op);
    return (4 + gates * columns) * width_of(program, op);
}

/* w_ih and w_hh in the order that bl_recurrent_job says. */
static void pack_gates(const bl_program *program, const bl_op *op, int32_t gates, float *to)
{
    const float *w_ih = bl_array_at(program, op, 0), *w_hh = bl_array_at(program, op, 1);
    int32_t in = bl_rows_at(program, op->inputs[0]), hidden = bl_rows_at(program, op->outputs[0]);
    int32_t width = width_of(program, op), lanes = bl_recurrent_kernels(program, op)->vector_frames;
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
    const float *bias = bl_array_at(program, op, 2);
    int32_t hidden = bl_rows_at(program, op->outputs[0]), width = width_of(program, op);
    for (int32_t g = 0; g < 4; g++) {
        memcpy(to + g * width, bias + g * hidden, (size_t)hidden * sizeof *to);
    }
    pack_gates(program, op, 4, to + 4 * (int64_t)width);
}

static void pack_gru(const bl_program *program, const bl_op *op, float *to)
{
    const float *bias_ih = bl_array_at(program, op, 2), *bias_hh = bl_array_at(program, op, 3);
    int32_t hidden = bl_rows_at(program, op->outputs[0]), width = width_of(program, op);
    for (int32_t u = 0; u < hidden; u++) {
        to[u] = bias_ih[u] + bias_hh[u];
        to[width + u] = bias_ih[hidden + u] + bias_hh[hidden + u];
        to[2 * width + u] = bias_ih[2 * hidden + u];
        to[3 * width + u] = bias_hh[2 * hidden + u];
    }
    pack_gates(program, op, 3, to + 4 * (int64_t)width);
}

void bl_pack_recurrent(const bl_program *program, bl_step *step, float *to)
{
    int lstm = step->op.kind == BL_OP_LSTM;
    (lstm ? pack_lstm : pack_gru)(program, &step->op, to);
    step->weights = to;
    step->second = bl_array_at(program, &step->op, lstm ? 3 : 4);
    step->width = width_of(program, &step->op);
    step->state_floats = 2 * (int64_t)step->width;
    if (step->width > step->kernels->vector_frames) {
        step->state_floats += step->width * (int64_t)step->kernels->vector_frames;
    }
    step->run_all = bl_run_recurrent;
    step->layers = 1;
}

/* Make a recurrent step the head of those behind it that read its output, begin with it and run on the same
 * kernels, as long as a layer is one vector wide: their frames can take turns. Vectors of sixteen leave
 * nothing to gain: a machine that has them is as good as busy with one layer. */
void bl_stack_recurrent(bl_program *program)
{
    bl_step *head = NULL;
    for (bl_step *step = program->steps; step < program->steps + program->step_count; step++) {
        int32_t lanes = step->kernels->vector_frames;
        if (step->layers == 0 || step->width > lanes || lanes > 8) {
            head = NULL;
            continue;
        }
        if (head && head->layers < step->kernels->most_cells && head->op.kind == step->op.kind
            && head->kernels == step->kernels && head->op.start_frames == step->op.start_frames
            && step->op.inputs[0] == step[-1].op.outputs[0]) {
            head->layers++;
            step->layers = 0;
        } else {
            head = step;
        }
    }
}
