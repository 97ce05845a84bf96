/* [audio] Grouped convolution with mix, activation, residual and skip, and the one joined to it. */
#include "../internal.h"

void bl_locate_conv1d(const bl_step *step, const bl_moment *m, bl_conv_job *job)
{
    const int32_t *ports = step->ports;
    job->x = bl_tensor_rows(m, ports[BL_CONV_X]);
    job->mix = bl_tensor_rows(m, ports[BL_CONV_MIX]);
    job->residual = bl_tensor_rows(m, ports[BL_CONV_RESIDUAL]);
    job->skip = bl_tensor_rows(m, ports[BL_CONV_SKIP]);
    job->y = bl_tensor_rows(m, ports[BL_CONV_Y]);
    job->skip_sum = bl_tensor_rows(m, ports[BL_CONV_SKIP_SUM]);
    job->next_residual = bl_tensor_rows(m, ports[BL_CONV_NEXT_RESIDUAL]);
    job->next_y = bl_tensor_rows(m, ports[BL_CONV_NEXT_Y]);
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

/* One stream's job is always at hand; those of several are found one after the other, as is an output that
 * goes to the caller's memory. */
static bl_conv_job *job_of(const bl_step *step, const bl_moment *m)
{
    bl_conv_job *job = &m->engine->jobs[step->index];
    if (m->engine->streams > 1 || step->direct) {
        bl_locate_conv1d(step, m, job);
    }
    return job;
}

void bl_run_conv1d(const bl_step *step, const bl_moment *m)
{
    bl_conv_job *job = job_of(step, m);
    const int32_t x = step->ports[BL_CONV_X];
    const bl_place *place = &m->engine->places[m->engine->ports[x].buffer];
    job->frames = m->engine->frames_now[job->rate];
    if (job->frames == 0) {
        return;
    }
    /* The first taps may begin before a ring's first frame: their past lies at its end. */
    job->wrapped_taps = bl_wrapped_taps(m, x, job->kernel, job->dilation);
    job->wrap = place->length;
    job->frames_before = place->cursor;
    if (job->stride > 1) {
        const int64_t first = bl_frames_before(m, step->ports[BL_CONV_Y]) * job->stride;
        job->x = bl_rows_from(bl_tensor_rows(m, x), (int32_t)(first - bl_frames_before(m, x)));
    }
    if (job->activation == BL_ACT_SOFTMAX) {
        run_softmax(m, job, m->engine->ports[step->ports[BL_CONV_Y]].rows);
    } else {
        m->engine->program->kernels->conv1d(job);
    }
}
