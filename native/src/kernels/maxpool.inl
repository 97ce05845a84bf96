/* Maximum over taps, the oldest first; NaN if one is. */

#include <math.h>

BL_INLINE vec maxpool_larger(vec most, vec v)
{
    vec larger = vec_select(vec_less(v, most), most, v);
    return vec_select(vec_equal(most, most), larger, most);
}

/* A vector of windows, the first being window i. If some are `early`, taps before job->start do not count, and a
 * window none of whose taps does is 0. */
BL_INLINE vec maxpool_windows(const bl_pool_job *job, int32_t i, int strided, int early)
{
    int64_t at = i * (int64_t)job->stride - (int64_t)(job->kernel - 1) * job->dilation;
    float lanes[VEC_FRAMES];
    for (int32_t lane = 0; lane < VEC_FRAMES; lane++) {
        lanes[lane] = (float)(lane * job->stride);
    }
    vec frames = vec_load(lanes), lowest = vec_splat(-INFINITY), most = lowest;
    vec_mask counts = {0};
    for (int32_t tap = 0; tap < job->kernel; tap++, at += job->dilation) {
        const float *from = job->x + (tap < job->wrapped_taps ? at + job->wrap : at);
        vec v = strided ? vec_load_strided(from, job->stride, job->frames - i) : vec_load(from);
        if (early) {
            int64_t missing = job->start - at; /* frames from lane 0's on that do not count */
            int64_t bound = (int64_t)VEC_FRAMES * job->stride;
            missing = missing < 0 ? 0 : missing < bound ? missing : bound;
            counts = vec_less(vec_splat((float)missing - 0.5f), frames);
            v = vec_select(counts, v, lowest);
        }
        most = maxpool_larger(most, v);
    }
    return early ? vec_select(counts, most, vec_splat(0.0f)) : most;
}

BL_INLINE void maxpool_row(const bl_pool_job *job, int strided)
{
    for (int32_t i = 0; i < job->frames; i += VEC_FRAMES) {
        vec_store(job->y + i,
                  i < job->early ? maxpool_windows(job, i, strided, 1) : maxpool_windows(job, i, strided, 0));
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
