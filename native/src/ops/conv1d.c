/* [audio] Grouped convolution with mix, activation, residual and skip, and the one joined to it. */
#include "../internal.h"

/* Find what is found anew in every chunk; what the op does not have stays NULL. */
static void locate(const bl_step *step, const bl_moment *m, bl_conv_job *job)
{
    const bl_op *op = &step->op;
    const int32_t x = op->inputs[0];
    const bl_place *place = &m->engine->places[m->engine->ports[x].buffer];
    job->x = bl_tensor_rows(m, x);
    if (op->inputs[1] != BL_NONE) {
        job->mix = bl_tensor_rows(m, op->inputs[1]);
    }
    if (op->inputs[2] != BL_NONE) {
        job->residual = bl_tensor_rows(m, op->inputs[2]);
    }
    if (op->inputs[3] != BL_NONE) {
        job->skip = bl_tensor_rows(m, op->inputs[3]);
        job->skip_sum = bl_tensor_rows(m, op->outputs[1]);
    }
    if (step->next) {
        job->next_residual = bl_tensor_rows(m, step->next->op.inputs[2]);
        job->next_y = bl_tensor_rows(m, step->next->op.outputs[0]);
    }
    if (!step->next || step->keeps_y) {
        job->y = bl_tensor_rows(m, op->outputs[0]);
    }
    /* The first taps may begin before a ring's first frame: their past lies at its end. */
    job->wrapped_taps = bl_wrapped_taps(m, x, op->kernel, op->dilation);
    job->wrap = place->length;
    job->frames_before = place->cursor;
    if (op->stride > 1) {
        job->x.p += bl_frames_before(m, op->outputs[0]) * op->stride - bl_frames_before(m, x);
    }
}

/* A softmax looks at all rows of y, and so comes when they are there; then what was to be added to them. */
static void run_softmax(const bl_moment *m, const bl_conv_job *job, int32_t rows)
{
    const bl_kernels *kernels = m->engine->program->kernels;
    bl_rows residual = job->residual, skip = job->skip;
    bl_conv_job alone = *job;
    alone.residual.p = NULL;
    alone.skip.p = NULL;
    kernels->conv1d(&alone);
    kernels->softmax(job->y, job->y, rows, job->frames);
    for (int32_t r = 0; r < rows; r++) {
        float *y = job->y.p + r * job->y.pitch;
        if (residual.p) {
            kernels->add(y, residual.p + r * residual.pitch, y, job->frames);
        }
        if (skip.p) {
            kernels->add(skip.p + r * skip.pitch, y, job->skip_sum.p + r * job->skip_sum.pitch, job->frames);
        }
    }
}

void bl_run_conv1d(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_conv_job *job = &m->engine->jobs[step->conv_index];
    job->frames = bl_tensor_frames(m, op->outputs[0]);
    if (job->frames == 0) {
        return;
    }
    locate(step, m, job);
    if (op->activation == BL_ACT_SOFTMAX) {
        run_softmax(m, job, m->engine->ports[op->outputs[0]].rows);
    } else {
        m->engine->program->kernels->conv1d(job);
    }
}
