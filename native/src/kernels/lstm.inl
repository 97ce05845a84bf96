/* LSTM: gates lie in the lanes, frames follow each other. Sums run bias, inputs, hidden, in that order. */

BL_INLINE void lstm_gather(vec gates[4], const float *weights, int64_t step, const float *from, int64_t pitch,
                           int32_t count, int32_t width)
{
    for (int32_t j = 0; j < count; j++) {
        vec value = vec_splat(from[j * pitch]);
        const float *w = weights + j * step;
        BL_UNROLL
        for (int g = 0; g < 4; g++) {
            gates[g] = vec_fma(vec_load(w + g * width), value, gates[g]);
        }
    }
}

static void lstm_frame(const bl_lstm_job *job, int32_t t)
{
    int32_t width = job->width;
    int64_t step = 4 * (int64_t)width;
    for (int32_t u = 0; u < width; u += VEC_FRAMES) {
        const float *w = job->weights + u;
        vec gates[4];
        BL_UNROLL
        for (int g = 0; g < 4; g++) {
            gates[g] = vec_load(w + g * width);
        }
        lstm_gather(gates, w + step, step, job->x.p + t, job->x.pitch, job->inputs, width);
        lstm_gather(gates, w + step * (1 + job->inputs), step, job->h, 1, job->hidden, width);
        vec c =
            vec_fma(vec_sigmoid(gates[1]), vec_load(job->c + u), vec_sigmoid(gates[0]) * vec_tanh(gates[2]));
        vec_store(job->c + u, c);
        vec_store(job->next + u, vec_sigmoid(gates[3]) * vec_tanh(c));
    }
    for (int32_t u = 0; u < job->hidden; u++) {
        job->h[u] = job->next[u];
        job->y.p[u * job->y.pitch + t] = job->next[u];
    }
}

static void lstm(const bl_lstm_job *job)
{
    for (int32_t t = 0; t < job->frames; t++) {
        lstm_frame(job, t);
    }
}
