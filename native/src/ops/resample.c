/* [audio] From any rate to any other: one filter's phases, by turns, over the frames of x. */
#include "../internal.h"

void bl_run_resample(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    const int32_t x_tensor = op->inputs[0], y_tensor = op->outputs[0];
    const bl_place *place = &m->engine->places[bl_tensor_at(m, x_tensor)->buffer];
    bl_rows x = bl_tensor_rows(m, x_tensor), y = bl_tensor_rows(m, y_tensor);
    /* Time of the first frame of y in frames of x, times factor; in the prewarm it is negative. */
    int64_t at = bl_frames_before(m, y_tensor) * op->stride;
    int64_t phase = (at % op->factor + op->factor) % op->factor;
    int64_t newest = (at - phase) / op->factor - bl_frames_before(m, x_tensor);
    bl_resample_job job = {
        .taps = step->weights,
        .wrap = place->length,
        .frames_before = place->cursor,
        .first = (int32_t)newest - (op->kernel - 1),
        .phase = (int32_t)phase,
        .kernel = op->kernel,
        .factor = op->factor,
        .stride = op->stride,
        .frames = bl_tensor_frames(m, y_tensor),
    };
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, y_tensor)); r++) {
        job.x = x.p + r * x.pitch;
        job.y = y.p + r * y.pitch;
        m->engine->program->kernels->resample(&job);
    }
}
