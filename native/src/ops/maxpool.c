/* [audio] The largest of the last frames. */
#include "../internal.h"

/* A frame that looks back beyond the first frame that counts. */
static float early_frame(const bl_step *step, const bl_moment *m, const float *row, int64_t at, int64_t start)
{
    const bl_op *op = &step->op;
    int64_t taps = at < start ? 0 : (at - start) / op->dilation + 1;
    float most = 0.0f;
    taps = taps < op->kernel ? taps : op->kernel;
    for (int64_t tap = taps - 1; tap >= 0; tap--) {
        float value = row[bl_frame_offset(m, op->inputs[0], at - tap * op->dilation)];
        most = tap == taps - 1 || most < value ? value : most;
    }
    return most;
}

void bl_run_maxpool(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int64_t before = bl_frames_before(m, op->inputs[0]);
    int64_t first = bl_frames_before(m, op->outputs[0]) * op->stride - before;
    int64_t lookback = (int64_t)(op->kernel - 1) * op->dilation;
    int64_t start = op->start_frames - before;
    int64_t early = (start + lookback - first + op->stride - 1) / op->stride;
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    int32_t alone = early <= 0 ? 0 : early < frames ? (int32_t)early : frames;
    bl_pool_job job = {
        .wrap = m->engine->places[bl_tensor_at(m, op->inputs[0])->buffer].length,
        .wrapped_taps = bl_wrapped_taps(m, op->inputs[0], op->kernel, op->dilation),
        .kernel = op->kernel,
        .dilation = op->dilation,
        .stride = op->stride,
        .frames = frames - alone,
    };
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        float *to = y.p + r * y.pitch;
        for (int32_t i = 0; i < alone; i++) {
            to[i] = early_frame(step, m, x.p + r * x.pitch, first + (int64_t)i * op->stride, start);
        }
        job.x = x.p + r * x.pitch + first + (int64_t)alone * op->stride;
        job.y = to + alone;
        m->engine->program->kernels->maxpool(&job);
    }
}
