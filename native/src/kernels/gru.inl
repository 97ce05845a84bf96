/* GRU: hidden units lie in the lanes, frames follow each other. Each gate's sums run bias, inputs, hidden. */

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

static void gru_frame(const bl_recurrent_job *job, int32_t t, const float *h, float *next)
{
    int64_t width = job->width;
    for (int32_t u = 0; u < job->width; u += VEC_FRAMES) {
        const float *w = job->weights + u;
        vec r = vec_load(w), z = vec_load(w + width);
        vec from_x = vec_load(w + 2 * width), from_h = vec_load(w + 3 * width);
        w += 4 * width;
        gru_gather(&r, &z, &from_x, w, job->x.p + t, job->x.pitch, job->inputs, width);
        w += 3 * width * job->inputs;
        gru_gather(&r, &z, &from_h, w, h, 1, job->hidden, width);
        vec n = vec_tanh(vec_fma(vec_sigmoid(r), from_h, from_x));
        vec_store(next + u, vec_fma(vec_sigmoid(z), vec_load(h + u) - n, n));
    }
}

BL_INLINE void gru_turn(const cell *cells, int count, int32_t turn, cell_state *states)
{
    vec gates[MOST_CELLS][3], from_h[MOST_CELLS];
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        vec turned[CELL];
        const float *w = cell_inputs(gates[n], 3, &cells[n], turn);
        turn_lanes(turned, states[n].h);
        gates[n][0] = turned_product(gates[n][0], w, turned);
        from_h[n] = turned_product(vec_load(cells[n].job->weights + 3 * CELL), w + 2 * CELL * CELL, turned);
        gates[n][1] = turned_product(gates[n][1], w + CELL * CELL, turned);
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        gates[n][2] = gates[n][2] + from_h[n] / vec_sigmoid_bottom(gates[n][0]);
        gates[n][1] = vec_sigmoid_bottom(gates[n][1]);
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        quotient t = vec_tanh_quotient_soon(gates[n][2]);
        vec new = t.top / t.bottom;
        states[n].h = new + (states[n].h - new) / gates[n][1];
    }
}

BL_INLINE void gru_pair(const bl_recurrent_job *job, const float *x, pair_state *state)
{
    vec halves[6], turned[2][CELL];
    const float *w = pair_inputs(halves, 3, job, x);
    turn_lanes(turned[0], state->h[0]);
    turn_lanes(turned[1], state->h[1]);
    BL_UNROLL
    for (int i = 0; i < 4; i++) {
        halves[i] = pair_product(halves[i], w + 2 * i * CELL * CELL, turned);
    }
    vec next[2];
    BL_UNROLL
    for (int v = 0; v < 2; v++) {
        vec from_h =
            pair_product(vec_load(job->weights + (6 + v) * CELL), w + (8 + 2 * v) * CELL * CELL, turned);
        vec n = vec_tanh(halves[4 + v] + from_h / vec_sigmoid_bottom(halves[v]));
        next[v] = n + (state->h[v] - n) / vec_sigmoid_bottom(halves[2 + v]);
    }
    state->h[0] = next[0];
    state->h[1] = next[1];
}

static IN_ORDER void gru_pairs(const bl_recurrent_job *job) { run_pair(gru_pair, job); }

static void gru(const bl_recurrent_job *jobs, int32_t count)
{
    if (jobs->width == CELL) {
        run_cells(gru_turn, jobs, count);
        return;
    }
    for (; count > 0; count--, jobs++) {
        if (jobs->width == 2 * CELL) {
            gru_pairs(jobs);
            continue;
        }
        run_wide(gru_frame, jobs);
    }
}
