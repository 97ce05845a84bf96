/* What LSTM and GRU share. A layer of at most a vector of hidden units is a cell: its state stays in
 * registers, and cells that do not wait for each other run side by side, a frame of each in turn, so that
 * one computes while another waits for its own last frame. */

/* Leave instructions in their order, as a function by itself: with few registers GCC's last scheduling of
 * so long a turn costs it half again as much time as it takes. */
#if defined(__clang__)
#define IN_ORDER __attribute__((noinline))
#else
#define IN_ORDER __attribute__((noinline, optimize("no-schedule-insns2")))
#endif

#define CELL VEC_FRAMES /* most hidden units of a cell, and frames kept until they are turned into rows */
/* Cells side by side: two of sixteen units keep a core busy and its registers full. */
#define MOST_CELLS (CELL > 8 ? 2 : BL_MOST_CELLS)

/* All ways to swap the lanes of h: with weights in the same order, their products add up to a product with
 * a matrix without any lane of h having to be spread over a vector. */
BL_INLINE void turn_lanes(vec turned[CELL], vec h)
{
    BL_UNROLL
    for (int k = 0; k < CELL; k++) {
        turned[k] = vec_swap(h, k);
    }
}

/* start plus the product of a matrix, as bl_recurrent_job says, with a turned h. Four sums hide the latency. */
BL_INLINE vec turned_product(vec start, const float *weights, const vec turned[CELL])
{
    enum { SUMS = CELL < 4 ? CELL : 4 };
    vec sums[SUMS];
    BL_UNROLL
    for (int k = 0; k < CELL; k++) {
        vec w = vec_load(weights + k * CELL);
        if (k == 0) {
            sums[k] = vec_fma(w, turned[k], start);
        } else if (k < SUMS) {
            sums[k] = w * turned[k];
        } else {
            sums[k % SUMS] = vec_fma(w, turned[k], sums[k % SUMS]);
        }
    }
    return SUMS == 1 ? sums[0] : (sums[0] + sums[1 % SUMS]) + (sums[2 % SUMS] + sums[3 % SUMS]);
}

BL_INLINE void transpose_step(vec rows[CELL], int k)
{
    BL_UNROLL
    for (int i = 0; i < CELL; i++) {
        if (!(i & k)) {
            vec low = rows[i], high = rows[(i | k) % CELL];
            rows[i] = vec_mix(low, vec_swap(high, k), k);
            rows[(i | k) % CELL] = vec_mix(vec_swap(low, k), high, k);
        }
    }
}

/* Turn `frames` frames of h, `pitch` apart, into rows. */
static void cell_rows(const float *recent, int32_t pitch, bl_rows y, int32_t hidden, int32_t frames)
{
    if (frames < CELL) {
        for (int32_t u = 0; u < hidden; u++) {
            for (int32_t t = 0; t < frames; t++) {
                y.p[u * y.pitch + t] = recent[t * pitch + u];
            }
        }
        return;
    }
    vec rows[CELL];
    BL_UNROLL
    for (int i = 0; i < CELL; i++) {
        rows[i] = vec_load(recent + i * pitch);
    }
    BL_UNROLL
    for (int k = 1; k < CELL; k *= 2) {
        transpose_step(rows, k);
    }
    BL_UNROLL
    for (int u = 0; u < CELL; u++) {
        if (u < hidden) {
            vec_store(y.p + u * y.pitch, rows[u]);
        }
    }
}

/* A cell at work: where a frame's inputs lie, and how many turns it is behind the first of its stack. */
typedef struct cell {
    const bl_recurrent_job *job;
    const float *x; /* + ((turn - behind) & x_mask) * x_step: inputs x_pitch apart */
    int64_t x_pitch;
    int32_t x_step;
    int32_t x_mask;
    int32_t behind; /* 1 if the inputs are what another cell made of the turn before */
    int32_t delay;
    float *recent; /* [turn % CELL][unit] */
} cell;

typedef struct cell_state {
    vec h;
    vec c;
} cell_state;

/* One turn of `count` cells: a frame of each. What waits for a cell's own sums comes after the sums of all. */
typedef void cell_turn(const cell *cells, int count, int32_t turn, cell_state *states);

/* v, but zero in the lanes behind the first `used`. An infinite input times their weights of zero is NaN,
 * which turned lanes would bring to all others. */
BL_INLINE vec only_used(vec v, int32_t used)
{
    float lanes[CELL];
    for (int32_t lane = 0; lane < CELL; lane++) {
        lanes[lane] = (float)lane;
    }
    return vec_select(vec_less(vec_load(lanes), vec_splat((float)used)), v, vec_splat(0.0f));
}

/* The first `count` gates are their bias plus products with the inputs; returns the weights behind them.
 * There are four biases in any case. */
BL_INLINE const float *cell_inputs(vec *gates, int count, const cell *one, int32_t turn)
{
    const float *weights = one->job->weights;
    const float *x = one->x + (int64_t)((turn - one->behind) & one->x_mask) * one->x_step;
    BL_UNROLL
    for (int g = 0; g < count; g++) {
        gates[g] = vec_load(weights + g * CELL);
    }
    weights += 4 * CELL;
    for (int32_t j = 0; j < one->job->inputs; j++, x += one->x_pitch) {
        vec value = vec_splat(*x);
        BL_UNROLL
        for (int g = 0; g < count; g++, weights += CELL) {
            gates[g] = vec_fma(vec_load(weights), value, gates[g]);
        }
    }
    if (one->job->hidden < CELL) {
        BL_UNROLL
        for (int g = 0; g < count; g++) {
            gates[g] = only_used(gates[g], one->job->hidden);
        }
    }
    return weights;
}

/* Turns `from` to `to` of `count` cells that all have a frame in each, at most as many as `recent` holds. */
BL_INLINE void run_turns(cell_turn *run, const cell *cells, int count, int32_t from, int32_t to)
{
    cell_state states[MOST_CELLS];
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        states[n].h = vec_load(cells[n].job->state);
        states[n].c = vec_load(cells[n].job->state + CELL);
    }
    for (int32_t turn = from; turn < to; turn++) {
        run(cells, count, turn, states);
        BL_UNROLL
        for (int n = 0; n < count; n++) {
            vec_store(cells[n].recent + turn % CELL * CELL, states[n].h);
        }
    }
    BL_UNROLL
    for (int n = 0; n < count; n++) {
        vec_store(cells[n].job->state, states[n].h);
        vec_store(cells[n].job->state + CELL, states[n].c);
        bl_rows y = cells[n].job->y;
        cell_rows(cells[n].recent + from % CELL * CELL, CELL, (bl_rows){y.p + from - cells[n].delay, y.pitch},
                  cells[n].job->hidden, to - from);
    }
}

/* The cells among `count` that have a frame in this turn, and in `until` the first turn when others have. */
static int32_t cells_of_turn(const cell *cells, int32_t count, int32_t turn, cell *active, int32_t *until)
{
    int32_t found = 0;
    *until = INT32_MAX;
    for (int32_t n = 0; n < count; n++) {
        int32_t begin = cells[n].delay, end = begin + cells[n].job->frames;
        if (turn < begin) {
            *until = begin < *until ? begin : *until;
        } else if (turn < end) {
            *until = end < *until ? end : *until;
            active[found++] = cells[n];
        }
    }
    return found;
}

/* Run cells side by side to the end: a stack's start behind each other and end behind each other. */
BL_INLINE void run_cells(cell_turn *run, const bl_recurrent_job *jobs, int32_t count)
{
    float recent[MOST_CELLS][CELL * CELL] __attribute__((aligned(64)));
    cell cells[MOST_CELLS], active[MOST_CELLS];
    for (int32_t n = 0; n < count; n++) {
        const bl_recurrent_job *job = &jobs[n];
        cells[n] = (cell){job, job->x.p, job->x.pitch, 1, INT32_MAX, 0, 0, recent[n]};
        if (job->follows) {
            cells[n] = (cell){job, recent[n - 1], 1, CELL, CELL - 1, 1, cells[n - 1].delay + 1, recent[n]};
        }
    }
    int32_t until;
    for (int32_t turn = 0;; turn = until) {
        int32_t found = cells_of_turn(cells, count, turn, active, &until);
        int32_t full = (turn / CELL + 1) * CELL;
        until = until < full ? until : full;
        switch (found) {
        case 0: return;
        case 1: run_turns(run, active, 1, turn, until); break;
        case 2: run_turns(run, active, 2, turn, until); break;
#if VEC_FRAMES <= 8
        case 3: run_turns(run, active, 3, turn, until); break;
        case 4: run_turns(run, active, 4, turn, until); break;
#endif
        default: __builtin_unreachable();
        }
    }
}

/* A layer of two vectors: what a cell is, but it takes no turns with others. */
typedef struct pair_state {
    vec h[2];
    vec c[2];
} pair_state;

/* One frame of a pair; x is its inputs. */
typedef void pair_frame(const bl_recurrent_job *job, const float *x, pair_state *state);

/* start plus the product of one vector's rows of a matrix, as bl_recurrent_job says, with both turned h. */
BL_INLINE vec pair_product(vec start, const float *weights, const vec turned[2][CELL])
{
    vec one = vec_fma(vec_load(weights), turned[0][0], start);
    vec other = vec_load(weights + CELL * CELL) * turned[1][0];
    BL_UNROLL
    for (int k = 1; k < CELL; k++) {
        one = vec_fma(vec_load(weights + k * CELL), turned[0][k], one);
        other = vec_fma(vec_load(weights + (CELL + k) * CELL), turned[1][k], other);
    }
    return one + other;
}

/* The first 2 * `count` half gates: biases plus products with the inputs; returns the weights behind them. */
BL_INLINE const float *pair_inputs(vec *halves, int count, const bl_recurrent_job *job, const float *x)
{
    const float *weights = job->weights;
    BL_UNROLL
    for (int i = 0; i < 2 * count; i++) {
        halves[i] = vec_load(weights + i * CELL);
    }
    weights += 8 * CELL;
    for (int32_t j = 0; j < job->inputs; j++, x += job->x.pitch) {
        vec value = vec_splat(*x);
        BL_UNROLL
        for (int i = 0; i < 2 * count; i++, weights += CELL) {
            halves[i] = vec_fma(vec_load(weights), value, halves[i]);
        }
    }
    if (job->hidden < 2 * CELL) {
        BL_UNROLL
        for (int g = 0; g < count; g++) {
            halves[2 * g + 1] = only_used(halves[2 * g + 1], job->hidden - CELL);
        }
    }
    return weights;
}

BL_INLINE void run_pair(pair_frame *frame, const bl_recurrent_job *job)
{
    float *at = job->state, *recent = at + 2 * job->width;
    pair_state state = {{vec_load(at), vec_load(at + CELL)},
                        {vec_load(at + 2 * CELL), vec_load(at + 3 * CELL)}};
    for (int32_t begin = 0; begin < job->frames; begin += CELL) {
        int32_t frames = job->frames - begin < CELL ? job->frames - begin : CELL;
        for (int32_t t = 0; t < frames; t++) {
            frame(job, job->x.p + begin + t, &state);
            vec_store(recent + 2 * t * CELL, state.h[0]);
            vec_store(recent + (2 * t + 1) * CELL, state.h[1]);
        }
        bl_rows y = {job->y.p + begin, job->y.pitch};
        cell_rows(recent, 2 * CELL, y, CELL, frames);
        cell_rows(recent + CELL, 2 * CELL, (bl_rows){y.p + CELL * y.pitch, y.pitch}, job->hidden - CELL,
                  frames);
    }
    BL_UNROLL
    for (int v = 0; v < 2; v++) {
        vec_store(at + v * CELL, state.h[v]);
        vec_store(at + (2 + v) * CELL, state.c[v]);
    }
}

/* One frame of a wider layer: from h the next h. */
typedef void wide_frame(const bl_recurrent_job *job, int32_t t, const float *h, float *next);

BL_INLINE void run_wide(wide_frame *frame, const bl_recurrent_job *job)
{
    int32_t width = job->width;
    float *recent = job->state + 2 * (int64_t)width;
    for (int32_t begin = 0; begin < job->frames; begin += CELL) {
        int32_t frames = job->frames - begin < CELL ? job->frames - begin : CELL;
        const float *h = job->state;
        for (int32_t t = 0; t < frames; t++) {
            float *next = recent + (int64_t)t * width;
            frame(job, begin + t, h, next);
            h = next;
        }
        memcpy(job->state, h, (size_t)width * sizeof *h);
        for (int32_t u = 0; u < job->hidden; u += CELL) {
            int32_t units = job->hidden - u < CELL ? job->hidden - u : CELL;
            cell_rows(recent + u, width, (bl_rows){job->y.p + u * job->y.pitch + begin, job->y.pitch}, units,
                      frames);
        }
    }
}
