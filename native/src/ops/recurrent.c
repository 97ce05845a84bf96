/* [audio] LSTM and GRU: all streams and all layers of a stack in one go, as far as they are cells. */
#include "../internal.h"

/* Write the first h to the frames of this chunk before the op's start; returns how many. */
static int32_t hold_first_state(const bl_step *step, const bl_moment *m)
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

static bl_recurrent_job job_of(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    int32_t held = hold_first_state(step, m);
    return (bl_recurrent_job){
        .weights = step->weights,
        .x = bl_rows_from(bl_tensor_rows(m, op->inputs[0]), held),
        .y = bl_rows_from(bl_tensor_rows(m, op->outputs[0]), held),
        .state = bl_stream_memory(m) + m->engine->state_offset + step->state_offset,
        .inputs = bl_tensor_row_count(bl_tensor_at(m, op->inputs[0])),
        .hidden = bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])),
        .width = step->width,
        .frames = bl_tensor_frames(m, op->outputs[0]) - held,
    };
}

void bl_run_recurrent(const bl_step *step, const bl_engine *engine)
{
    bl_recurrent_job jobs[BL_MOST_CELLS];
    bl_moment m = {engine, 0};
    int32_t count = 0;
    void (*run)(const bl_recurrent_job *, int32_t) =
        step->op.kind == BL_OP_LSTM ? step->kernels->lstm : step->kernels->gru;
    for (; m.stream < engine->streams && step->layers > 0; m.stream++) {
        if (count + step->layers > step->kernels->most_cells) {
            run(jobs, count);
            count = 0;
        }
        for (int32_t layer = 0; layer < step->layers; layer++, count++) {
            jobs[count] = job_of(step + layer, &m);
            jobs[count].follows = layer > 0;
        }
    }
    if (count > 0) {
        run(jobs, count);
    }
}
