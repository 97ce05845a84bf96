/* [audio] LSTM: its state is c, h and room for the next h, each rounded up to whole vectors. */
#include "../internal.h"

void bl_run_lstm(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    const bl_engine *engine = m->engine;
    int32_t hidden = bl_tensor_row_count(bl_tensor_at(m, op->outputs[0]));
    int32_t width = bl_round_up(hidden, engine->program->kernels->vector_frames);
    float *state = m->memory + engine->state_offset + step->state_offset;
    bl_lstm_job job = {
        .weights = step->weights,
        .x = bl_tensor_rows(m, op->inputs[0]),
        .y = bl_tensor_rows(m, op->outputs[0]),
        .c = state,
        .h = state + width,
        .next = state + 2 * (int64_t)width,
        .inputs = bl_tensor_row_count(bl_tensor_at(m, op->inputs[0])),
        .hidden = hidden,
        .width = width,
        .frames = bl_tensor_frames(m, op->outputs[0]),
    };
    engine->program->kernels->lstm(&job);
}
