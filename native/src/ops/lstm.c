/* [audio] LSTM: its state is c, h and room for the next h, each rounded up to whole vectors. */
#include "../internal.h"

int32_t bl_hold_first_state(const bl_step *step, const bl_moment *m)
{
    int32_t y = step->op.outputs[0];
    int32_t held = bl_frames_until(m, y, step->op.start_frames);
    bl_rows rows = bl_tensor_rows(m, y);
    for (int32_t u = 0; held > 0 && u < bl_tensor_row_count(bl_tensor_at(m, y)); u++) {
        for (int32_t i = 0; i < held; i++) {
            rows.p[u * rows.pitch + i] = step->second ? step->second[u] : 0.0f;
        }
    }
    return held;
}

void bl_run_lstm(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    const bl_engine *engine = m->engine;
    int32_t hidden = bl_tensor_row_count(bl_tensor_at(m, op->outputs[0]));
    int32_t width = bl_round_up(hidden, engine->program->kernels->vector_frames);
    float *state = m->memory + engine->state_offset + step->state_offset;
    int32_t held = bl_hold_first_state(step, m);
    bl_lstm_job job = {
        .weights = step->weights,
        .x = bl_rows_from(bl_tensor_rows(m, op->inputs[0]), held),
        .y = bl_rows_from(bl_tensor_rows(m, op->outputs[0]), held),
        .c = state,
        .h = state + width,
        .next = state + 2 * (int64_t)width,
        .inputs = bl_tensor_row_count(bl_tensor_at(m, op->inputs[0])),
        .hidden = hidden,
        .width = width,
        .frames = bl_tensor_frames(m, op->outputs[0]) - held,
    };
    engine->program->kernels->lstm(&job);
}
