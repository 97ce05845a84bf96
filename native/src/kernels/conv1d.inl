/* Grouped convolution. Frames lie in the lanes; a register tile holds `rows` output rows by `vectors`
 * vectors of frames, and every (input row, tap) adds one broadcast weight per output row to it. On every
 * path the sum runs bias, input row, tap, then mix: bits do not depend on the tile a frame falls into. */

/* Tiles that fill the accumulators: half of the registers or a little more, the rest hold operands. */
#if VEC_REGISTERS >= 32
#define CONV_TILE_ROWS 8
#define CONV_ACCUMULATORS 16
#else
#define CONV_TILE_ROWS 4
#define CONV_ACCUMULATORS 8
#endif
#define CONV_MOST_VECTORS 8

/* Where one tile of one group reads and writes. */
typedef struct conv_tile {
    const float *weights;
    const float *x;
    const float *mix;
    int32_t first_row; /* of y, residual, skip and skip_sum */
} conv_tile;

BL_INLINE void conv_taps(vec *sum, const float *w, const float *x, int32_t taps, const bl_conv_job *job,
                         int rows, int vectors, int strided, int32_t first)
{
    for (int32_t tap = 0; tap < taps; tap++, x += job->dilation, w += rows) {
        vec frames[CONV_MOST_VECTORS];
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            int32_t at = first + v * VEC_FRAMES;
            frames[v] = strided
                            ? vec_load_strided(x + at * (int64_t)job->stride, job->stride, job->frames - at)
                            : vec_load(x + at);
        }
        BL_UNROLL
        for (int r = 0; r < rows; r++) {
            vec weight = vec_splat(w[r]);
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] = vec_fma(weight, frames[v], sum[r * vectors + v]);
            }
        }
    }
}

BL_INLINE void conv_finish(const vec *sum, const bl_conv_job *job, int32_t first_row, int rows, int vectors,
                           int32_t first)
{
    BL_UNROLL
    for (int r = 0; r < rows; r++) {
        int64_t row = first_row + r;
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            int32_t at = first + v * VEC_FRAMES;
            vec y = sum[r * vectors + v];
            if (job->leaky) {
                y = vec_leaky(y, job->slope);
            }
            if (job->residual.p) {
                y = y + vec_load(job->residual.p + row * job->residual.pitch + at);
            }
            if (job->skip.p) {
                vec total = vec_load(job->skip.p + row * job->skip.pitch + at) + y;
                vec_store(job->skip_sum.p + row * job->skip_sum.pitch + at, total);
            }
            vec_store(job->y.p + row * job->y.pitch + at, y);
        }
    }
}

BL_INLINE void conv_block(const bl_conv_job *job, const conv_tile *tile, int rows, int vectors, int strided,
                          int32_t first)
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
    int32_t wrapped = job->wrapped_taps;
    const float *x = tile->x - (int64_t)(job->kernel - 1) * job->dilation;
    for (int32_t i = 0; i < job->in_per_group; i++, x += job->x.pitch) {
        conv_taps(sum, w, x + job->wrap, wrapped, job, rows, vectors, strided, first);
        conv_taps(sum, w + wrapped * rows, x + (int64_t)wrapped * job->dilation, job->kernel - wrapped, job,
                  rows, vectors, strided, first);
        w += (int64_t)job->kernel * rows;
    }
    const float *mix = tile->mix + first;
    for (int32_t i = 0; i < job->mix_per_group; i++, mix += job->mix.pitch, w += rows) {
        vec frames[CONV_MOST_VECTORS];
        BL_UNROLL
        for (int v = 0; v < vectors; v++) {
            frames[v] = vec_load(mix + v * VEC_FRAMES);
        }
        BL_UNROLL
        for (int r = 0; r < rows; r++) {
            BL_UNROLL
            for (int v = 0; v < vectors; v++) {
                sum[r * vectors + v] = vec_fma(vec_splat(w[r]), frames[v], sum[r * vectors + v]);
            }
        }
    }
    conv_finish(sum, job, tile->first_row, rows, vectors, first);
}

/* A tile over all frames: blocks of `vectors` vectors, then what is left in ever smaller ones. */
BL_INLINE void conv_rows(const bl_conv_job *job, const conv_tile *tile, int rows, int vectors, int strided)
{
    int32_t first = 0;
    int32_t frames = bl_round_up(job->frames, VEC_FRAMES);
    for (; first + vectors * VEC_FRAMES <= frames; first += vectors * VEC_FRAMES) {
        conv_block(job, tile, rows, vectors, strided, first);
    }
    if (vectors > 4 && first + 4 * VEC_FRAMES <= frames) {
        conv_block(job, tile, rows, 4, strided, first);
        first += 4 * VEC_FRAMES;
    }
    if (vectors > 2 && first + 2 * VEC_FRAMES <= frames) {
        conv_block(job, tile, rows, 2, strided, first);
        first += 2 * VEC_FRAMES;
    }
    if (vectors > 1 && first < frames) {
        conv_block(job, tile, rows, 1, strided, first);
    }
}

#define CONV_VECTORS(rows) (CONV_ACCUMULATORS / (rows) >= 8 ? 8 : CONV_ACCUMULATORS / (rows) >= 4 ? 4 : 2)

/* One function per tile height, so that the accumulators are registers. */
#define CONV_TILE(rows)                                                                                      \
    static void conv_tile_##rows(const bl_conv_job *job, const conv_tile *tile)                              \
    {                                                                                                        \
        conv_rows(job, tile, rows, CONV_VECTORS(rows), 0);                                                   \
    }                                                                                                        \
    static void conv_tile_strided_##rows(const bl_conv_job *job, const conv_tile *tile)                      \
    {                                                                                                        \
        conv_rows(job, tile, rows, 1, 1);                                                                    \
    }

CONV_TILE(1)
CONV_TILE(2)
CONV_TILE(3)
CONV_TILE(4)
#if CONV_TILE_ROWS > 4
CONV_TILE(5)
CONV_TILE(6)
CONV_TILE(7)
CONV_TILE(8)
#endif

typedef void (*conv_tile_function)(const bl_conv_job *job, const conv_tile *tile);

static const conv_tile_function conv_tiles[2][CONV_TILE_ROWS] = {
#if CONV_TILE_ROWS > 4
    {conv_tile_1, conv_tile_2, conv_tile_3, conv_tile_4, conv_tile_5, conv_tile_6, conv_tile_7, conv_tile_8},
    {conv_tile_strided_1, conv_tile_strided_2, conv_tile_strided_3, conv_tile_strided_4, conv_tile_strided_5,
     conv_tile_strided_6, conv_tile_strided_7, conv_tile_strided_8},
#else
    {conv_tile_1, conv_tile_2, conv_tile_3, conv_tile_4},
    {conv_tile_strided_1, conv_tile_strided_2, conv_tile_strided_3, conv_tile_strided_4},
#endif
};

static void conv1d(const bl_conv_job *job)
{
    const conv_tile_function *functions = conv_tiles[job->stride > 1];
    const float *weights = job->weights;
    int32_t tiles = bl_tile_count(job->out_per_group, CONV_TILE_ROWS);
    int32_t depth = job->in_per_group * job->kernel + job->mix_per_group + 1;
    int32_t out_per_mix_group = job->groups * job->out_per_group / job->mix_groups;
    conv_tile tile = {0};
    for (int32_t g = 0; g < job->groups; g++) {
        tile.x = job->x.p + (int64_t)g * job->in_per_group * job->x.pitch;
        for (int32_t t = 0; t < tiles; t++) {
            int32_t rows = bl_tile_rows(job->out_per_group, tiles, t);
            int32_t mix_group = tile.first_row / out_per_mix_group;
            tile.weights = weights;
            tile.mix = job->mix.p + (int64_t)mix_group * job->mix_per_group * job->mix.pitch;
            functions[rows - 1](job, &tile);
            weights += (int64_t)depth * rows;
            tile.first_row += rows;
        }
    }
}
