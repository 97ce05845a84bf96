/* Grouped convolution. Frames lie in the lanes; a register tile holds `rows` output rows by `vectors`
 * vectors of frames, and every (tap, input row) adds one broadcast weight per output row to it. On every
 * path the sum runs bias, tap, input row, then mix: bits do not depend on the frames a tile holds. A tile of
 * few rows has every second term, and the mix, in a sum of its own: a short block would wait for one alone. */

/* A tile fills the accumulators and leaves registers for its operands: as many vectors of frames as it has rows or
 * of weights, whichever are fewer, and one of the other. */
#if VEC_REGISTERS >= 32
#define CONV_TILE_ROWS 8
#define CONV_VECTORS(rows) ((rows) <= 1 ? 8 : (rows) <= 6 ? 4 : 2)
#define CONV_SPLIT_ROWS 3
#else
#define CONV_TILE_ROWS 4
#define CONV_VECTORS(rows) ((rows) <= 1 ? 8 : (rows) <= 3 ? 4 : 3)
#define CONV_SPLIT_ROWS 0
#endif
#define CONV_ACCUMULATORS 24
#define CONV_DEPTHWISE_ROWS 4

/* Where the tile at hand reads and writes. */
typedef struct conv_tile {
    const float *weights;
    const float *x;
    int32_t first_row; /* of y, residual, skip and skip_sum */
} conv_tile;

/* How a tile finds its frames: one after the other, some apart, or one row of x for each of its own,
 * all taps at most a vector away or not. */
typedef enum conv_walk { CONV_DENSE, CONV_STRIDED, CONV_DEPTHWISE, CONV_NEAR } conv_walk;

/* Vector v of the block whose first frame x points at. */
BL_INLINE vec conv_load(const float *x, const bl_conv_job *job, conv_walk walk, int32_t first, int v)
{
    if (walk == CONV_STRIDED) {
        int32_t left = job->frames - first - v * VEC_FRAMES;
        return vec_load_strided(x + v * VEC_FRAMES * (int64_t)job->stride, job->stride, left);
    }
    return vec_load(x + v * VEC_FRAMES);
}

/* Add one row times its weights. */
BL_INLINE void conv_add(vec *sum, const float *w, const float *x, const bl_conv_job *job, conv_walk walk,
                        int rows, int vectors, int32_t first)
{
    vec held[8];
    if (vectors <= rows) {
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            held[v] = vec_held(conv_load(x, job, walk, first, v));
        }
        BL_UNROLL
        for (int r = 0; r < rows; r++) {
            vec weight = vec_splat(w[r]);
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] = vec_fma(weight, held[v], sum[r * vectors + v]);
            }
        }
    } else {
        BL_UNROLL
        for (int r = 0; r < rows; r++) {
            held[r] = vec_splat(w[r]);
        }
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            vec frames = vec_held(conv_load(x, job, walk, first, v));
            BL_UNROLL
            for (int r = 0; r < rows; r++) {
                sum[r * vectors + v] = vec_fma(held[r], frames, sum[r * vectors + v]);
            }
        }
    }
}

/* Add all terms, every second one to `other` if the tile is split. Returns the weights that follow. */
BL_INLINE const float *conv_add_terms(vec *sum, vec *other, const float *w, const float *x,
                                      const bl_conv_job *job, conv_walk walk, int rows, int vectors,
                                      int32_t first)
{
    const int32_t wrapped = job->wrapped_taps * job->in_per_group, terms = job->terms;
    const float *past = x + job->wrap;
    const int split = walk == CONV_DENSE && rows <= CONV_SPLIT_ROWS;
    for (int32_t i = 0; i < terms; i++, w += rows) {
        conv_add(sum, w, (i < wrapped ? past : x) + job->offsets[i], job, walk, rows, vectors, first);
        if (split && i + 1 < terms) {
            i++;
            w += rows;
            conv_add(other, w, (i < wrapped ? past : x) + job->offsets[i], job, walk, rows, vectors, first);
        }
    }
    return w;
}

/* Add what is mixed in. */
BL_INLINE void conv_add_mix(vec *sum, const float *w, const float *mix, const bl_conv_job *job, int rows,
                            int vectors)
{
    for (int32_t i = 0; i < job->mix_per_group; i++, mix += job->mix.pitch, w += rows) {
        conv_add(sum, w, mix, job, CONV_DENSE, rows, vectors, 0);
    }
}

/* Add one tap of as many convolutions of one row each as the tile has rows. */
BL_INLINE const float *conv_add_depthwise(vec *sum, const float *w, const float *x, int64_t pitch, int rows,
                                          int vectors)
{
    BL_UNROLL
    for (int r = 0; r < rows; r++, x += pitch) {
        vec weight = vec_splat(w[r]);
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            vec frames = vec_load(x + v * VEC_FRAMES);
            sum[r * vectors + v] = vec_fma(weight, frames, sum[r * vectors + v]);
        }
    }
    return w + rows;
}

#ifdef VEC_HAS_SLIDE
/* All taps of as many convolutions of one row each as the tile has rows. By turns a tap's frames are moved there from
 * those of the newest tap, and loaded: neither the units that permute nor those that load have to do all. */
BL_INLINE void conv_add_near(vec *sum, const float *w, const float *x, const bl_conv_job *job, int rows,
                             int vectors)
{
    BL_UNROLL
    for (int r = 0; r < rows; r++, x += job->x.pitch) {
        vec frames[9];
        BL_UNROLL
        for (int v = 0; v <= vectors; v++) {
            frames[v] = vec_held(vec_load(x + (v - 1) * VEC_FRAMES));
        }
        const float *weight = w + r;
        int32_t shift = (job->kernel - 1) * job->dilation;
        while (shift > 0) {
            vec_int by = vec_slide_by(shift);
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                vec moved = vec_slide(frames[v], frames[v + 1], by);
                sum[r * vectors + v] = vec_fma(vec_splat(weight[0]), moved, sum[r * vectors + v]);
            }
            shift -= job->dilation;
            weight += rows;
            if (shift > 0) {
                BL_UNROLL
                for (int v = 0; v < vectors; v++) {
                    sum[r * vectors + v] = vec_fma(vec_splat(weight[0]), vec_load(x + v * VEC_FRAMES - shift),
                                                   sum[r * vectors + v]);
                }
                shift -= job->dilation;
                weight += rows;
            }
        }
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[r * vectors + v] = vec_fma(vec_splat(weight[0]), frames[v + 1], sum[r * vectors + v]);
        }
    }
}
#endif

/* A few tanh in a row are done before a function is called. */
#define CONV_NEAR_TANH 8

/* Apply any activation: by way of memory, where its function finds the vectors one after the other. */
BL_INLINE void conv_activate_far(vec *sum, const bl_conv_job *job, int32_t row, int rows, int vectors)
{
    float lanes[CONV_ACCUMULATORS * VEC_FRAMES];
    BL_UNROLL
    for (int i = 0; i < rows * vectors; i++) {
        vec_store(lanes + i * VEC_FRAMES, sum[i]);
    }
    /* Rows with the same parameters are one long row. */
    const int own = job->parameter_step > 0;
    const float *parameters = own ? job->parameters + row * job->parameter_step : job->parameters;
    const int32_t frames = (own ? 1 : rows) * vectors * VEC_FRAMES;
    bl_rows at = {lanes, frames};
    activate(job->activation, parameters, job->parameter_step, at, at, own ? rows : 1, frames);
    BL_UNROLL
    for (int i = 0; i < rows * vectors; i++) {
        sum[i] = vec_load(lanes + i * VEC_FRAMES);
    }
}

BL_INLINE void conv_activate(vec *sum, const bl_conv_job *job, int32_t row, int rows, int vectors)
{
    const int count = rows * vectors;
    if (job->epilogue == BL_CONV_RELU) {
        BL_UNROLL
        for (int i = 0; i < count; i++) {
            sum[i] = vec_max(vec_splat(0.0f), sum[i]);
        }
    } else if (job->epilogue == BL_CONV_LEAKY) {
        vec slope = vec_splat(job->slope);
        BL_UNROLL
        for (int i = 0; i < count; i++) {
            sum[i] = vec_max(sum[i] * slope, sum[i]);
        }
    } else if (job->activation == BL_ACT_TANH && count <= CONV_NEAR_TANH) {
        BL_UNROLL
        for (int i = 0; i < count; i++) {
            sum[i] = vec_tanh(sum[i]);
        }
    } else if (job->epilogue == BL_CONV_ACTIVATE) {
        conv_activate_far(sum, job, row, rows, vectors);
    }
}

/* Add `from` to the tile and keep what comes out in `to`. */
BL_INLINE void conv_sum(vec *sum, bl_rows from, bl_rows to, int32_t row, int rows, int vectors, int32_t first,
                        int keep)
{
    const float *p = from.p + row * from.pitch + first;
    float *q = to.p + row * to.pitch + first;
    BL_UNROLL
    for (int r = 0; r < rows; r++, p += from.pitch, q += to.pitch) {
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            vec total = vec_load(p + v * VEC_FRAMES) + sum[r * vectors + v];
            vec_store(q + v * VEC_FRAMES, total);
            if (keep) {
                sum[r * vectors + v] = total;
            }
        }
    }
}

BL_INLINE void conv_finish(vec *sum, const bl_conv_job *job, int32_t row, int rows, int vectors,
                           int32_t first)
{
    conv_activate(sum, job, row, rows, vectors);
    if (job->residual.p) {
        conv_sum(sum, job->residual, job->y, row, rows, vectors, first, 1);
    } else if (job->y.p) {
        const int64_t pitch = job->y.pitch; /* for all a compiler knows, storing changes the job */
        float *y = job->y.p + row * pitch + first;
        BL_UNROLL
        for (int r = 0; r < rows; r++, y += pitch) {
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                vec_store(y + v * VEC_FRAMES, sum[r * vectors + v]);
            }
        }
    }
    if (job->skip.p) {
        conv_sum(sum, job->skip, job->skip_sum, row, rows, vectors, first, 0);
    }
}

/* The joined convolution, of a tile that is all of y. */
BL_INLINE void conv_next(const vec *sum, const bl_conv_job *job, int rows, int vectors, int32_t first)
{
    const float *w = job->next_weights,
                *residual = job->next_residual.p ? job->next_residual.p + first : NULL;
    const int64_t pitch = job->next_y.pitch, residual_pitch = job->next_residual.pitch;
    const int32_t count = job->next_rows;
    float *y = job->next_y.p + first;
    for (int32_t row = 0; row < count; row++, w += 1 + rows, y += pitch) {
        vec next[8];
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            next[v] = vec_splat(w[0]);
        }
        BL_UNROLL
        for (int r = 0; r < rows; r++) {
            vec weight = vec_splat(w[1 + r]);
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                next[v] = vec_fma(weight, sum[r * vectors + v], next[v]);
            }
        }
        if (residual) {
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                next[v] = next[v] + vec_load(residual + v * VEC_FRAMES);
            }
            residual += residual_pitch;
        }
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            vec_store(y + v * VEC_FRAMES, next[v]);
        }
    }
}

/* Where mix has its rows for the tile at hand. */
BL_INLINE const float *conv_mix(const bl_conv_job *job, const conv_tile *tile)
{
    int32_t group = job->mix_groups == 1 ? 0 : tile->first_row / job->out_per_mix_group;
    return job->mix.p + (int64_t)group * job->mix_per_group * job->mix.pitch;
}

BL_INLINE void conv_block(const bl_conv_job *job, const conv_tile *tile, conv_walk walk, int rows,
                          int vectors, int32_t first)
{
    vec sum[CONV_ACCUMULATORS];
    const float *w = tile->weights;
    BL_UNROLL
    for (int r = 0; r < rows; r++) {
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[r * vectors + v] = vec_splat(w[r]);
        }
    }
    w += rows;
    const float *x = tile->x + (int64_t)first * (walk == CONV_STRIDED ? job->stride : 1);
#ifdef VEC_HAS_SLIDE
    if (walk == CONV_NEAR) {
        conv_add_near(sum, w, x, job, rows, vectors);
        conv_finish(sum, job, tile->first_row, rows, vectors, first);
        return;
    }
#endif
    if (walk == CONV_DEPTHWISE) {
        x -= (int64_t)(job->kernel - 1) * job->dilation;
        for (int32_t tap = 0; tap < job->kernel; tap++, x += job->dilation) {
            const float *frames = tap < job->wrapped_taps ? x + job->wrap : x;
            w = conv_add_depthwise(sum, w, frames, job->x.pitch, rows, vectors);
        }
        conv_finish(sum, job, tile->first_row, rows, vectors, first);
        return;
    }
    const int split = walk == CONV_DENSE && rows <= CONV_SPLIT_ROWS;
    vec other[CONV_ACCUMULATORS];
    if (split) {
        BL_UNROLL
        for (int i = 0; i < rows * vectors; i++) {
            other[i] = vec_splat(0.0f);
        }
    }
    w = conv_add_terms(sum, other, w, x, job, walk, rows, vectors, first);
    if (job->mix_per_group) {
        conv_add_mix(split ? other : sum, w, conv_mix(job, tile) + first, job, rows, vectors);
    }
    if (split) {
        BL_UNROLL
        for (int i = 0; i < rows * vectors; i++) {
            sum[i] = sum[i] + other[i];
        }
    }
    conv_finish(sum, job, tile->first_row, rows, vectors, first);
    if (walk == CONV_DENSE && job->next_rows) {
        conv_next(sum, job, rows, vectors, first);
    }
}

/* A tile over all frames: blocks of `vectors` vectors, then what is left in ever smaller ones. */
BL_INLINE void conv_rows(const bl_conv_job *job, const conv_tile *tile, conv_walk walk, int rows, int vectors)
{
    int32_t first = 0;
    int32_t frames = bl_round_up(job->frames, VEC_FRAMES);
    for (; first + vectors * VEC_FRAMES <= frames; first += vectors * VEC_FRAMES) {
        conv_block(job, tile, walk, rows, vectors, first);
    }
    if (vectors > 4 && first + 4 * VEC_FRAMES <= frames) {
        conv_block(job, tile, walk, rows, 4, first);
        first += 4 * VEC_FRAMES;
    }
    if (vectors > 2 && first + 2 * VEC_FRAMES <= frames) {
        conv_block(job, tile, walk, rows, 2, first);
        first += 2 * VEC_FRAMES;
    }
    if (vectors > 1 && first < frames) {
        conv_block(job, tile, walk, rows, 1, first);
    }
}

/* `tiles` tiles of `rows` rows in each of `groups` groups. Leaves `tile` behind them. */
BL_INLINE void conv_tiles(const bl_conv_job *job, conv_tile *tile, int32_t groups, int32_t tiles,
                          conv_walk walk, int rows, int vectors)
{
    const int depthwise = walk == CONV_DEPTHWISE || walk == CONV_NEAR;
    const int64_t inputs = depthwise ? rows : job->in_per_group;
    const int64_t terms = depthwise ? 1 : job->in_per_group;
    const int64_t depth = 1 + job->kernel * terms + job->mix_per_group;
    for (int32_t g = 0; g < groups; g++) {
        for (int32_t t = 0; t < tiles; t++) {
            conv_rows(job, tile, walk, rows, vectors);
            tile->weights += depth * rows;
            tile->first_row += rows;
        }
        tile->x += inputs * job->x.pitch;
    }
}

typedef void conv_tile_function(const bl_conv_job *job, conv_tile *tile, int32_t groups, int32_t tiles);

/* One function per tile height, so that the accumulators are registers. */
#define CONV_FUNCTION(name, walk, rows, vectors)                                                             \
    static void name##rows(const bl_conv_job *job, conv_tile *tile, int32_t groups, int32_t tiles)           \
    {                                                                                                        \
        conv_tiles(job, tile, groups, tiles, walk, rows, vectors);                                           \
    }

/* Dense ones are there once more for blocks of one vector, which then have less to prepare. */
#define CONV_TILE(rows)                                                                                      \
    CONV_FUNCTION(conv_dense_, CONV_DENSE, rows, CONV_VECTORS(rows))                                         \
    CONV_FUNCTION(conv_short_, CONV_DENSE, rows, 1)                                                          \
    CONV_FUNCTION(conv_strided_, CONV_STRIDED, rows, 1)

CONV_TILE(1)
CONV_TILE(2)
CONV_TILE(3)
CONV_TILE(4)
CONV_FUNCTION(conv_depthwise_, CONV_DEPTHWISE, 1, 4)
CONV_FUNCTION(conv_depthwise_, CONV_DEPTHWISE, 2, 4)
CONV_FUNCTION(conv_depthwise_, CONV_DEPTHWISE, 3, CONV_VECTORS(3))
CONV_FUNCTION(conv_depthwise_, CONV_DEPTHWISE, 4, CONV_VECTORS(4))
#ifdef VEC_HAS_SLIDE
CONV_FUNCTION(conv_near_, CONV_NEAR, 1, 4)
CONV_FUNCTION(conv_near_, CONV_NEAR, 2, 4)
CONV_FUNCTION(conv_near_, CONV_NEAR, 3, 4)
CONV_FUNCTION(conv_near_, CONV_NEAR, 4, 4)
#endif
#if CONV_TILE_ROWS > 4
CONV_TILE(5)
CONV_TILE(6)
CONV_TILE(7)
CONV_TILE(8)
#endif

#if CONV_TILE_ROWS > 4
#define CONV_FUNCTIONS(name) {name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8}
#else
#define CONV_FUNCTIONS(name) {name##1, name##2, name##3, name##4}
#endif

static conv_tile_function *const conv_dense[] = CONV_FUNCTIONS(conv_dense_);
static conv_tile_function *const conv_short[] = CONV_FUNCTIONS(conv_short_);
static conv_tile_function *const conv_strided[] = CONV_FUNCTIONS(conv_strided_);
static conv_tile_function *const conv_depthwise[] = {conv_depthwise_1, conv_depthwise_2, conv_depthwise_3,
                                                     conv_depthwise_4};
#ifdef VEC_HAS_SLIDE
static conv_tile_function *const conv_near[] = {conv_near_1, conv_near_2, conv_near_3, conv_near_4};
#endif

static conv_tile_function *const *conv_functions(const bl_conv_job *job)
{
    if (job->depthwise) {
#ifdef VEC_HAS_SLIDE
        const int near = (job->kernel - 1) * job->dilation <= VEC_FRAMES && job->frames_before >= VEC_FRAMES;
        if (near && job->frames > VEC_FRAMES) {
            return conv_near;
        }
#endif
        return conv_depthwise;
    }
    return job->stride > 1 ? conv_strided : job->frames <= VEC_FRAMES ? conv_short : conv_dense;
}

/* As bl_conv_job says the weights lie: the rows of a group, or of all groups of a depthwise convolution, in tiles
 * whose heights differ by one at most, the higher ones first. */
static void conv1d(const bl_conv_job *job)
{
    conv_tile_function *const *functions = conv_functions(job);
    conv_tile tile = {job->weights, job->x.p, 0};
    int32_t rows = job->tile_rows, higher = job->higher_tiles, lower = job->lower_tiles;
    if (job->depthwise) {
        if (higher) {
            functions[rows](job, &tile, higher, 1);
        }
        functions[rows - 1](job, &tile, lower, 1);
    } else if (higher == 0) {
        functions[rows - 1](job, &tile, job->groups, lower);
    } else {
        for (int32_t g = 0; g < job->groups; g++) {
            const float *x = tile.x;
            functions[rows](job, &tile, 1, higher);
            tile.x = x;
            functions[rows - 1](job, &tile, 1, lower);
        }
    }
}
