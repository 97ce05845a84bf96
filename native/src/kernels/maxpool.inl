/* Maximum over taps, the oldest first. */

BL_INLINE void maxpool_row(const bl_pool_job *job, int strided)
{
    for (int32_t i = 0; i < job->frames; i += VEC_FRAMES) {
        const float *x = job->x - (int64_t)(job->kernel - 1) * job->dilation + i * (int64_t)job->stride;
        vec most = vec_splat(0.0f);
        for (int32_t tap = 0; tap < job->kernel; tap++, x += job->dilation) {
            const float *from = tap < job->wrapped_taps ? x + job->wrap : x;
            vec v = strided ? vec_load_strided(from, job->stride, job->frames - i) : vec_load(from);
            most = tap == 0 ? v : vec_select(vec_less(most, v), v, most);
        }
        vec_store(job->y + i, most);
    }
}

static void maxpool(const bl_pool_job *job)
{
    if (job->stride > 1) {
        maxpool_row(job, 1);
    } else {
        maxpool_row(job, 0);
    }
}
