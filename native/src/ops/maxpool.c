/* [audio] The largest of the last frames. */
#include "../internal.h"

void bl_run_maxpool(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int64_t before = bl_frames_before(m, op->inputs[0]);
    int64_t first = bl_frames_before(m, op->outputs[0]) * op->stride - before;
    int64_t lookback = (int64_t)(op->kernel - 1) * op->dilation;
    int64_t start = op->start_frames - before - first;
    int64_t early = (start + lookback + op->stride - 1) / op->stride;
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    bl_pool_job job = {
        .wrap = m->engine->places[bl_tensor_at(m, op->inputs[0])->buffer].length,
        .start = start,
        .wrapped_taps = bl_wrapped_taps(m, op->inputs[0], op->kernel, op->dilation),
        .kernel = op->kernel,
        .dilation = op->dilation,
        .stride = op->stride,
        .frames = frames,
        .early = early <= 0       ? 0
                 : early < frames ? (int32_t)early
                                  : frames,
    };
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        job.x = x.p + r * x.pitch + first;
        job.y = y.p + r * y.pitch;
        m->engine->program->kernels->maxpool(&job);
    }
}
