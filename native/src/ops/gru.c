/* [audio] GRU: its state is h and room for the next h, each rounded up to whole vectors. */
#include "../internal.h"

void bl_run_gru(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    const bl_engine *engine = m->engine;
    int32_t hidden = bl_tensor_row_count(bl_tensor_at(m, op->outputs[0]));
    int32_t width = bl_round_up(hidden, engine->program->kernels->vector_frames);
    float *state = m->memory + engine->state_offset + step->state_offset;
    int32_t held = bl_hold_first_state(step, m);
    bl_gru_job job = {
        .weights = step->weights,
        .x = bl_rows_from(bl_tensor_rows(m, op->inputs[0]), held),
        .y = bl_rows_from(bl_tensor_rows(m, op->outputs[0]), held),
        .h = state,
        .next = state + width,
        .inputs = bl_tensor_row_count(bl_tensor_at(m, op->inputs[0])),
        .hidden = hidden,
        .width = width,
        .frames = bl_tensor_frames(m, op->outputs[0]) - held,
    };
    engine->program->kernels->gru(&job);
}
