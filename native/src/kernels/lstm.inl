/* LSTM: gates lie in the lanes, frames follow each other. Each gate's sums run bias, inputs, hidden. The gates that c waits
 * for come first; their sigmoids and tanh are quotients whose divisions are merged. */

BL_INLINE void lstm_cell(const bl_recurrent_job *job, const float *x, int64_t x_pitch, cell_state *state)
{
    vec gates[4], turned[CELL];
    const float *w = input_product(gates, 4, job->weights, x, x_pitch, job->inputs);
    turn(turned, state->h);
    vec kept = state->c / one_plus_exp_minus(turned_product(gates[0], w, turned));
    vec at = turned_product(gates[1], w + CELL * CELL, turned);
    vec c = kept + gated_tanh(at, turned_product(gates[2], w + 2 * CELL * CELL, turned));
    state->c = c;
    state->h = gated_tanh(turned_product(gates[3], w + 3 * CELL * CELL, turned), c);
}

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

static void lstm_frame(const bl_recurrent_job *job, int32_t t)
{
    int32_t width = job->width;
    int64_t step = 4 * (int64_t)width;
    float *h = job->state, *kept = h + width, *next = kept + width;
    for (int32_t u = 0; u < width; u += VEC_FRAMES) {
        const float *w = job->weights + u;
        vec gates[4];
        BL_UNROLL
        for (int g = 0; g < 4; g++) {
            gates[g] = vec_load(w + g * width);
        }
        lstm_gather(gates, w + step, step, job->x.p + t, job->x.pitch, job->inputs, width);
        lstm_gather(gates, w + step * (1 + job->inputs), step, h, 1, job->hidden, width);
        vec c = vec_load(kept + u) / one_plus_exp_minus(gates[0]) + gated_tanh(gates[1], gates[2]);
        vec_store(kept + u, c);
        vec_store(next + u, gated_tanh(gates[3], c));
    }
    for (int32_t u = 0; u < job->hidden; u++) {
        h[u] = next[u];
        job->y.p[u * job->y.pitch + t] = next[u];
    }
}

static void lstm(const bl_recurrent_job *jobs, int32_t count)
{
    if (jobs->width == CELL) {
        run_cells(lstm_cell, jobs, count);
        return;
    }
    for (; count > 0; count--, jobs++) {
        for (int32_t t = 0; t < jobs->frames; t++) {
            lstm_frame(jobs, t);
        }
    }
}
