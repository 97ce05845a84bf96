/* The C engine on its own, for sanitizers: programs that run, specs that lie, allocations that fail.
 *
 * Link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=aligned_alloc. Prints one line per test and exits
 * non-zero at the first failure. BACKLINE_SOAK in the environment multiplies how many lying specs are tried. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backline.h"

/* Allocations that fail on demand. */

static int64_t allowed = -1; /* allocations until one fails; negative: all succeed */

static int refuse(void) { return allowed == 0 || (allowed > 0 && --allowed == 0); }

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }

void *__wrap_calloc(size_t count, size_t size) { return refuse() ? NULL : __real_calloc(count, size); }

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refuse() ? NULL : __real_aligned_alloc(alignment, size);
}

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static float random_float(void) { return (float)(int32_t)next_random() / 2147483648.0f; }

/* One program with every op, a stride, a view, sums in place and a knob:
 *
 *   x[2] -> knob gain -> grouped conv (ring) with mix, residual -> conv with skip -> lstm -> stride 3 */
enum { RATES = 2, BUFFERS = 10, TENSORS = 11, OPS = 9, BLOB = 1024 };

typedef struct tables {
    bl_rate rates[RATES];
    bl_buffer buffers[BUFFERS];
    bl_tensor tensors[TENSORS];
    bl_op ops[OPS];
    float blob[BLOB];
    bl_spec spec;
} tables;

static void point_at_tables(tables *t)
{
    t->spec.rates = t->rates;
    t->spec.buffers = t->buffers;
    t->spec.tensors = t->tensors;
    t->spec.ops = t->ops;
    t->spec.blob = t->blob;
}

static bl_op op_of(int32_t kind, int32_t a, int32_t b, int32_t c, int32_t d, int32_t y, int32_t sum)
{
    return (bl_op){.kind = kind, .inputs = {a, b, c, d}, .outputs = {y, sum}};
}

static bl_span span_of(int64_t *at, int64_t count)
{
    bl_span span = {*at, count};
    *at += count;
    return span;
}

static void fill_convolutions(tables *t, int64_t *at)
{
    bl_op *grouped = &t->ops[2], *skipping = &t->ops[3], *strided = &t->ops[8];
    *grouped = op_of(BL_OP_CONV1D, 2, 0, 2, BL_NONE, 3, BL_NONE);
    grouped->kernel = 3, grouped->dilation = 5, grouped->stride = 1, grouped->groups = 2,
    grouped->mix_groups = 1;
    grouped->activation = BL_ACT_TANH;
    grouped->arrays[0] = span_of(at, 4 * 2 * 3);
    grouped->arrays[1] = span_of(at, 4);
    grouped->arrays[2] = span_of(at, 4 * 2);
    *skipping = op_of(BL_OP_CONV1D, 3, BL_NONE, BL_NONE, 2, 4, 5);
    skipping->kernel = 2, skipping->dilation = 150, skipping->stride = 1, skipping->groups = 4;
    skipping->activation = BL_ACT_LEAKY_RELU;
    skipping->arrays[0] = span_of(at, 4 * 1 * 2);
    skipping->arrays[3] = span_of(at, 1);
    *strided = op_of(BL_OP_CONV1D, 8, BL_NONE, BL_NONE, BL_NONE, 9, BL_NONE);
    strided->kernel = 4, strided->dilation = 2, strided->stride = 3, strided->groups = 1;
    strided->arrays[0] = span_of(at, 2 * 3 * 4);
}

static void fill_ops(tables *t)
{
    int64_t at = 0;
    fill_convolutions(t, &at);
    t->ops[0] = op_of(BL_OP_KNOB, BL_NONE, BL_NONE, BL_NONE, BL_NONE, 1, BL_NONE);
    t->ops[0].ramp_frames = 100;
    t->blob[at] = 1.0f, t->blob[at + 1] = 0.0f, t->blob[at + 2] = 2.0f;
    t->ops[0].arrays[0] = span_of(&at, 3);
    /* A four-row ring from two rows of input: through a 1x1 convolution. */
    t->ops[1] = op_of(BL_OP_CONV1D, 0, BL_NONE, BL_NONE, BL_NONE, 2, BL_NONE);
    t->ops[1].kernel = t->ops[1].dilation = t->ops[1].stride = t->ops[1].groups = 1;
    t->ops[1].arrays[0] = span_of(&at, 4 * 2);
    t->ops[4] = op_of(BL_OP_MULTIPLY, 5, 1, BL_NONE, BL_NONE, 5, BL_NONE);
    t->ops[5] = op_of(BL_OP_CROSSFADE, 4, 5, 1, BL_NONE, 6, BL_NONE);
    t->ops[6] = op_of(BL_OP_AFFINE, 6, BL_NONE, BL_NONE, BL_NONE, 7, BL_NONE);
    t->ops[6].arrays[0] = span_of(&at, 4);
    t->ops[6].arrays[1] = span_of(&at, 1);
    t->ops[7] = op_of(BL_OP_LSTM, 10, BL_NONE, BL_NONE, BL_NONE, 8, BL_NONE);
    t->ops[7].arrays[0] = span_of(&at, 4 * 3 * 2);
    t->ops[7].arrays[1] = span_of(&at, 4 * 3 * 3);
    t->ops[7].arrays[2] = span_of(&at, 4 * 3);
    t->ops[7].arrays[3] = span_of(&at, 3);
    EXPECT(at <= BLOB);
}

static void make_tables(tables *t)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < BLOB; i++) {
        t->blob[i] = 0.5f * random_float();
    }
    t->rates[0] = (bl_rate){1, 1, 0};
    t->rates[1] = (bl_rate){1, 3, 0};
    const int32_t rows[BUFFERS] = {2, 1, 4, 4, 4, 4, 4, 4, 3, 2};
    const int32_t lookback[BUFFERS] = {0, 0, 10, 150, 0, 0, 0, 0, 6, 0};
    int32_t scratch = 0;
    for (int32_t i = 0; i < BUFFERS; i++) {
        t->buffers[i] = (bl_buffer){.rows = rows[i], .rate = i == 9, .lookback_frames = lookback[i]};
        t->buffers[i].kind = lookback[i] ? BL_BUFFER_RING : BL_BUFFER_SCRATCH;
        if (!lookback[i]) {
            t->buffers[i].scratch_row = scratch;
            scratch += rows[i];
        }
        t->tensors[i] = (bl_tensor){i, 0, rows[i], 1};
    }
    t->tensors[10] = (bl_tensor){7, 1, 2, 1};
    fill_ops(t);
    t->spec =
        (bl_spec){.blob_count = BLOB, .rate_count = RATES, .buffer_count = BUFFERS, .tensor_count = TENSORS};
    t->spec.op_count = OPS, t->spec.scratch_rows = scratch, t->spec.input = 0, t->spec.output = 9;
    t->spec.prewarm_frames = 300;
    point_at_tables(t);
}

static void test_blocks(bl_isa isa)
{
    enum { FRAMES = 1500 };
    static float in[2][2][FRAMES], whole[2][2][FRAMES], cut[2][2][FRAMES];
    tables t;
    bl_program *program;
    bl_engine *engine;
    make_tables(&t);
    EXPECT(bl_program_new(&t.spec, isa, &program, NULL) == BL_OK);
    EXPECT(bl_engine_new(program, 2, 64, &engine) == BL_OK);
    for (int i = 0; i < 4 * FRAMES; i++) {
        (&in[0][0][0])[i] = random_float();
    }
    EXPECT(bl_engine_output_frames(engine, FRAMES) == FRAMES / 3);
    bl_engine_process(engine, &in[0][0][0], FRAMES, &whole[0][0][0], FRAMES, FRAMES);
    for (int repeat = 0; repeat < 20; repeat++) {
        bl_engine_reset(engine);
        int64_t read = 0, written = 0;
        while (read < FRAMES) {
            int64_t frames = 1 + next_random() % 200;
            frames = frames < FRAMES - read ? frames : FRAMES - read;
            int64_t now = bl_engine_output_frames(engine, frames);
            bl_engine_process(engine, &in[0][0][read], FRAMES, &cut[0][0][written], FRAMES, frames);
            read += frames;
            written += now;
        }
        EXPECT(bl_engine_position_frames(engine) == FRAMES);
        EXPECT(written == FRAMES / 3);
        EXPECT(memcmp(whole, cut, sizeof whole) == 0);
    }
    bl_engine_free(engine);
    bl_program_free(program);
}

/* Replace a random word of a random table by a number that hurts. */
static void lie(tables *t)
{
    static const int32_t bad[] = {-1, 0,  1,  2,    3,       4,       5,       7,         8,         9,
                                  10, 11, 64, 1000, 1 << 20, 1 << 24, 1 << 30, INT32_MAX, INT32_MIN, -2};
    static const size_t at[] = {offsetof(tables, rates), offsetof(tables, buffers), offsetof(tables, tensors),
                                offsetof(tables, ops),
                                offsetof(tables, spec) + offsetof(bl_spec, blob_count)};
    static const size_t size[] = {sizeof t->rates, sizeof t->buffers, sizeof t->tensors, sizeof t->ops,
                                  sizeof t->spec - offsetof(bl_spec, blob_count)};
    uint32_t table = next_random() % 5;
    size_t word = next_random() % (size[table] / sizeof(int32_t));
    int32_t value = bad[next_random() % (sizeof bad / sizeof bad[0])];
    int32_t *found = (int32_t *)((char *)t + at[table]) + word;
    *found = next_random() % 2 ? value : (int32_t)((uint32_t)*found + next_random() % 3 - 1);
}

static void keep_counts_honest(tables *t)
{
    /* Counts above the tables' real sizes would be the caller's lie about its own memory. */
    t->spec.rate_count = t->spec.rate_count > RATES ? RATES : t->spec.rate_count;
    t->spec.buffer_count = t->spec.buffer_count > BUFFERS ? BUFFERS : t->spec.buffer_count;
    t->spec.tensor_count = t->spec.tensor_count > TENSORS ? TENSORS : t->spec.tensor_count;
    t->spec.op_count = t->spec.op_count > OPS ? OPS : t->spec.op_count;
    t->spec.blob_count = t->spec.blob_count > BLOB ? BLOB : t->spec.blob_count;
    t->spec.prewarm_frames = t->spec.prewarm_frames > 5000 ? 5000 : t->spec.prewarm_frames;
}

static void test_lies(int count)
{
    int accepted = 0;
    static float in[1 << 16], out[1 << 20];
    for (int i = 0; i < count; i++) {
        tables t;
        bl_error error;
        bl_program *program;
        bl_engine *engine;
        make_tables(&t);
        for (uint32_t lies = 1 + next_random() % 3; lies > 0; lies--) {
            lie(&t);
        }
        keep_counts_honest(&t);
        bl_isa isa = next_random() % 8 ? bl_isa_best() : BL_ISA_SCALAR;
        bl_status status = bl_program_new(&t.spec, isa, &program, &error);
        if (status != BL_OK) {
            EXPECT(error.what != NULL && bl_status_text(status)[0]);
            continue;
        }
        bl_info info = bl_program_info(program);
        if (info.stream_bytes < (1 << 26) && info.output_rows < 64 && info.input_rows < 64
            && bl_engine_new(program, 1 + (int32_t)(next_random() % 3), 1 + (int32_t)(next_random() % 200),
                             &engine)
                   == BL_OK) {
            accepted++;
            bl_engine_set(engine, (int32_t)(next_random() % 3) - 1, random_float(), 50);
            for (int block = 0; block < 5; block++) {
                int64_t frames = 1 + next_random() % 250;
                int64_t written = bl_engine_output_frames(engine, frames);
                if (written * 3 * info.output_rows <= 1 << 20) {
                    bl_engine_process(engine, in, frames, out, written, frames);
                }
            }
            bl_engine_free(engine);
        }
        bl_program_free(program);
    }
    printf("%d of %d lying specs still made sense\n", accepted, count);
    EXPECT(accepted > 0 && accepted < count);
}

static void test_failing_allocations(void)
{
    tables t;
    make_tables(&t);
    for (int64_t after = 1;; after++) {
        bl_program *program = NULL;
        bl_engine *engine = NULL;
        allowed = after;
        bl_status status = bl_program_new(&t.spec, bl_isa_best(), &program, NULL);
        if (status == BL_OK) {
            status = bl_engine_new(program, 2, 64, &engine);
        }
        allowed = -1;
        bl_engine_free(engine);
        bl_program_free(program);
        if (status == BL_OK) {
            EXPECT(after > 10);
            return;
        }
        EXPECT(status == BL_ERROR_MEMORY);
    }
}

int main(void)
{
    for (int isa = 0; isa < BL_ISA_COUNT; isa++) {
        if (bl_isa_available((bl_isa)isa)) {
            test_blocks((bl_isa)isa);
            printf("blocks give the same bits on %s\n", bl_isa_name((bl_isa)isa));
        }
    }
    test_failing_allocations();
    printf("failing allocations are reported and leak nothing\n");
    const char *soak = getenv("BACKLINE_SOAK");
    test_lies(20000 * (soak ? atoi(soak) : 1));
    return 0;
}
