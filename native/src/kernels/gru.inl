/* GRU: hidden units lie in the lanes, frames follow each other. Sums run bias, inputs, hidden, in that order. */

BL_INLINE void gru_gather(vec *r, vec *z, vec *n, const float *weights, const float *from, int64_t pitch,
                          int32_t count, int64_t width)
{
    for (int32_t j = 0; j < count; j++, weights += 3 * width) {
        vec value = vec_splat(from[j * pitch]);
        *r = vec_fma(vec_load(weights), value, *r);
        *z = vec_fma(vec_load(weights + width), value, *z);
        *n = vec_fma(vec_load(weights + 2 * width), value, *n);
    }
}

static void gru_frame(const bl_gru_job *job, int32_t t)
{
    int64_t width = job->width;
    for (int32_t u = 0; u < job->width; u += VEC_FRAMES) {
        const float *w = job->weights + u;
        vec r = vec_load(w), z = vec_load(w + width);
        vec from_x = vec_load(w + 2 * width), from_h = vec_load(w + 3 * width);
        w += 4 * width;
        gru_gather(&r, &z, &from_x, w, job->x.p + t, job->x.pitch, job->inputs, width);
        w += 3 * width * job->inputs;
        gru_gather(&r, &z, &from_h, w, job->h, 1, job->hidden, width);
        vec n = vec_tanh(vec_fma(vec_sigmoid(r), from_h, from_x));
        vec_store(job->next + u, vec_fma(vec_sigmoid(z), vec_load(job->h + u) - n, n));
    }
    for (int32_t u = 0; u < job->hidden; u++) {
        job->h[u] = job->next[u];
        job->y.p[u * job->y.pitch + t] = job->next[u];
    }
}

static void gru(const bl_gru_job *job)
{
    for (int32_t t = 0; t < job->frames; t++) {
        gru_frame(job, t);
    }
}
