/* LSTM: gates lie in the lanes, frames follow each other. Each gate's sums run bias, inputs, hidden. Sigmoids and
 * tanh are quotients whose divisions are merged. */

/* sigmoid(at) * tanh(x), at given as what its sigmoid divides by. */
BL_INLINE vec gated_tanh(vec at, vec x)
{
    quotient t = vec_tanh_quotient_soon(x);
    return t.top / (t.bottom * at);
}

BL_INLINE void lstm_turn(const cell *cells, int count, int32_t turn, cell_state *states)
{
    vec gates[MOST_CELLS][4], i[MOST_CELLS];
    quotient t[MOST_CELLS];
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        vec turned[CELL];
        const float *w = cell_inputs(gates[n], 4, &cells[n], turn);
        turn_lanes(turned, states[n].h);
        gates[n][0] = turned_product(gates[n][0], w, turned);
        gates[n][1] = turned_product(gates[n][1], w + CELL * CELL, turned);
        gates[n][2] = turned_product(gates[n][2], w + 2 * CELL * CELL, turned);
        gates[n][3] = turned_product(gates[n][3], w + 3 * CELL * CELL, turned);
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        i[n] = vec_sigmoid_bottom(gates[n][0]);
        states[n].c = states[n].c / vec_sigmoid_bottom(gates[n][1]);
        t[n] = vec_tanh_quotient_soon(gates[n][2]);
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        states[n].c = states[n].c + t[n].top / (t[n].bottom * i[n]);
        gates[n][3] = vec_sigmoid_bottom(gates[n][3]);
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        t[n] = vec_tanh_quotient_soon(states[n].c);
        states[n].h = t[n].top / (t[n].bottom * gates[n][3]);
    }
}

BL_INLINE void lstm_pair(const bl_recurrent_job *job, const float *x, pair_state *state)
{
    vec halves[8], turned[2][CELL];
    const float *w = pair_inputs(halves, 4, job, x);
    turn_lanes(turned[0], state->h[0]);
    turn_lanes(turned[1], state->h[1]);
    BL_UNROLL
    for (int i = 0; i < 8; i++) {
        halves[i] = pair_product(halves[i], w + 2 * i * CELL * CELL, turned);
    }
    quotient t[2];
    BL_UNROLL
    for (int v = 0; v < 2; v++) {
        halves[v] = vec_sigmoid_bottom(halves[v]);
        state->c[v] = state->c[v] / vec_sigmoid_bottom(halves[2 + v]);
        t[v] = vec_tanh_quotient_soon(halves[4 + v]);
    }
    BL_UNROLL
    for (int v = 0; v < 2; v++) {
        state->c[v] = state->c[v] + t[v].top / (t[v].bottom * halves[v]);
        halves[6 + v] = vec_sigmoid_bottom(halves[6 + v]);
    }
    BL_UNROLL
    for (int v = 0; v < 2; v++) {
        t[v] = vec_tanh_quotient_soon(state->c[v]);
        state->h[v] = t[v].top / (t[v].bottom * halves[6 + v]);
    }
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

static void lstm_frame(const bl_recurrent_job *job, int32_t t, const float *h, float *next)
{
    int32_t width = job->width;
    int64_t step = 4 * (int64_t)width;
    float *kept = job->state + width;
    for (int32_t u = 0; u < width; u += VEC_FRAMES) {
        const float *w = job->weights + u;
        vec gates[4];
        BL_UNROLL
        for (int g = 0; g < 4; g++) {
            gates[g] = vec_load(w + g * width);
        }
        lstm_gather(gates, w + step, step, job->x.p + t, job->x.pitch, job->inputs, width);
        lstm_gather(gates, w + step * (1 + job->inputs), step, h, 1, job->hidden, width);
        vec c = vec_load(kept + u) / vec_sigmoid_bottom(gates[1])
                + gated_tanh(vec_sigmoid_bottom(gates[0]), gates[2]);
        vec_store(kept + u, c);
        vec_store(next + u, gated_tanh(vec_sigmoid_bottom(gates[3]), c));
    }
}

static IN_ORDER void lstm_pairs(const bl_recurrent_job *job) { run_pair(lstm_pair, job); }

static void lstm(const bl_recurrent_job *jobs, int32_t count)
{
    if (jobs->width == CELL) {
        run_cells(lstm_turn, jobs, count);
        return;
    }
    for (; count > 0; count--, jobs++) {
        if (jobs->width == 2 * CELL) {
            lstm_pairs(jobs);
            continue;
        }
        run_wide(lstm_frame, jobs);
    }
}
