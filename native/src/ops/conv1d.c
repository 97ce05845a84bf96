/* [audio] Grouped convolution with mix, activation, residual and skip. */
#include "../internal.h"

/* Activations the convolution kernel applies to its own registers. */
static int is_leaky(const bl_op *op)
{
    return op->activation == BL_ACT_RELU || op->activation == BL_ACT_LEAKY_RELU;
}

static void locate(const bl_step *step, const bl_moment *m, bl_conv_job *job)
{
    const bl_op *op = &step->op;
    int32_t x = op->inputs[0];
    job->x = bl_tensor_rows(m, x);
    job->wrapped_taps = bl_wrapped_taps(m, x, op->kernel, op->dilation);
    if (job->wrapped_taps > 0) {
        /* These taps begin before the ring's first frame: their past lies at its end. */
        job->wrap = m->engine->places[bl_tensor_at(m, x)->buffer].length;
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
    int32_t rows = job->groups * job->out_per_group;
    if (kind == BL_ACT_SOFTMAX) {
        kernels->softmax(job->y, job->y, rows, job->frames);
    } else {
        kernels->activate(kind, step->second, bl_parameter_step(&step->op), job->y, job->y, rows,
                          job->frames);
    }
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
    int32_t in = bl_tensor_row_count(bl_tensor_at(m, op->inputs[0]));
    int32_t out = bl_tensor_row_count(bl_tensor_at(m, op->outputs[0]));
    bl_conv_job job = {
        .weights = step->weights,
        .residual = bl_tensor_rows(m, op->inputs[2]),
        .skip = bl_tensor_rows(m, op->inputs[3]),
        .y = bl_tensor_rows(m, op->outputs[0]),
        .skip_sum = bl_tensor_rows(m, op->outputs[1]),
        .kernel = op->kernel,
        .dilation = op->dilation,
        .stride = op->stride,
        .groups = op->groups,
        .in_per_group = in / op->groups,
        .out_per_group = out / op->groups,
        .mix_groups = 1,
        .frames = bl_tensor_frames(m, op->outputs[0]),
        .leaky = is_leaky(op),
        .slope = op->activation == BL_ACT_LEAKY_RELU ? step->second[0] : 0.0f,
    };
    if (job.frames == 0) {
        return;
    }
    locate(step, m, &job);
    job.mix = job.x;
    if (op->inputs[1] != BL_NONE) {
        job.mix = bl_tensor_rows(m, op->inputs[1]);
        job.mix_groups = op->mix_groups;
        job.mix_per_group = bl_tensor_row_count(bl_tensor_at(m, op->inputs[1])) / op->mix_groups;
    }
    bl_rows residual = job.residual, skip = job.skip;
    int in_registers = job.leaky || op->activation == BL_ACT_IDENTITY;
    if (!in_registers) {
        job.residual.p = NULL;
        job.skip.p = NULL;
    }
    m->engine->program->kernels->conv1d(&job);
    if (!in_registers) {
        finish(step, m, &job, residual, skip);
    }
}
