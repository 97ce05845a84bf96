/* [audio] Grouped convolution with mix, activation, residual and skip. */
#include "../internal.h"

static void locate(const bl_step *step, const bl_moment *m, bl_conv_job *job)
{
    const bl_op *op = &step->op;
    int32_t x = op->inputs[0];
    job->frames = bl_tensor_frames(m, op->outputs[0]);
    job->x = bl_tensor_rows(m, x);
    job->mix = bl_tensor_rows(m, op->inputs[1]);
    job->residual = bl_tensor_rows(m, op->inputs[2]);
    job->skip = bl_tensor_rows(m, op->inputs[3]);
    job->y = bl_tensor_rows(m, op->outputs[0]);
    job->skip_sum = bl_tensor_rows(m, op->outputs[1]);
    job->wrapped_taps = bl_wrapped_taps(m, x, op->kernel, op->dilation);
    if (job->wrapped_taps > 0) {
        /* These taps begin before the ring's first frame: their past lies at its end. */
        job->wrap = m->engine->places[m->engine->ports[x].buffer].length;
    }
    if (op->stride > 1) {
        job->x.p += bl_frames_before(m, op->outputs[0]) * op->stride - bl_frames_before(m, x);
    }
}

/* What the kernel did not do in its registers, row by row over what it left in the cache. */
static void finish(const bl_step *step, const bl_moment *m, const bl_conv_job *job, bl_rows residual,
                   bl_rows skip)
{
    const bl_kernels *kernels = m->engine->program->kernels;
    bl_activation kind = (bl_activation)step->op.activation;
    int32_t rows = m->engine->ports[step->op.outputs[0]].rows;
    if (kind == BL_ACT_SOFTMAX) {
        kernels->softmax(job->y, job->y, rows, job->frames);
    }
    for (int32_t r = 0; r < rows; r++) {
        float *y = job->y.p + r * job->y.pitch;
        if (kind != BL_ACT_SOFTMAX) {
            int32_t parameter = r * bl_parameter_step(&step->op);
            kernels->activate(kind, step->second ? step->second + parameter : NULL, y, y, job->frames);
        }
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
    bl_conv_job job = step->conv;
    locate(step, m, &job);
    if (job.frames == 0) {
        return;
    }
    bl_rows residual = job.residual, skip = job.skip;
    if (!step->in_registers) {
        job.residual.p = NULL;
        job.skip.p = NULL;
    }
    m->engine->program->kernels->conv1d(&job);
    if (!step->in_registers) {
        finish(step, m, &job, residual, skip);
    }
}
