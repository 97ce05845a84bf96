/* The C engine on its own, for sanitizers: programs that run, specs that lie, allocations that fail.
 *
 * Link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=aligned_alloc. Prints one line per test and exits
 * non-zero at the first failure. BACKLINE_SOAK in the environment multiplies how many lying specs are tried. */
#include <math.h>

#include "tables.h"

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

typedef void maker(tables *t);

enum { FRAMES = 1500, MOST_OUT = 3 * 3 * FRAMES };

static void test_blocks(bl_isa isa, maker *make)
{
    static float in[2 * 4 * FRAMES], whole[2 * MOST_OUT], cut[2 * MOST_OUT];
    tables t;
    bl_program *program;
    bl_engine *engine;
    make(&t);
    EXPECT(bl_program_new(&t.spec, isa, &program, NULL) == BL_OK);
    EXPECT(bl_engine_new(program, 2, 64, &engine) == BL_OK);
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        in[i] = random_float();
    }
    int64_t most = bl_engine_output_frames(engine, FRAMES);
    EXPECT(most * bl_program_info(program).output_rows <= MOST_OUT);
    bl_engine_process(engine, in, FRAMES, whole, most, FRAMES);
    for (int repeat = 0; repeat < 20; repeat++) {
        bl_engine_reset(engine);
        int64_t read = 0, written = 0;
        while (read < FRAMES) {
            int64_t frames = 1 + next_random() % (repeat % 2 ? 200 : 5);
            frames = frames < FRAMES - read ? frames : FRAMES - read;
            int64_t now = bl_engine_output_frames(engine, frames);
            bl_engine_process(engine, in + read, FRAMES, cut + written, most, frames);
            read += frames;
            written += now;
        }
        EXPECT(bl_engine_position_frames(engine) == FRAMES);
        EXPECT(written == most);
        EXPECT(memcmp(whole, cut, sizeof whole) == 0);
    }
    bl_engine_free(engine);
    bl_program_free(program);
}

/* A program one of whose output rows is its input. */
static void test_input_in_output(bl_isa isa)
{
    enum { BLOCK = 64 };
    float in[BLOCK], out[2 * BLOCK];
    tables t;
    bl_program *program;
    bl_engine *engine;
    make_input_in_output(&t);
    EXPECT(bl_program_new(&t.spec, isa, &program, NULL) == BL_OK);
    EXPECT(bl_engine_new(program, 1, BLOCK, &engine) == BL_OK);
    for (int64_t frames = BLOCK - 1; frames <= BLOCK; frames++) {
        for (int i = 0; i < BLOCK; i++) {
            in[i] = random_float();
            out[i] = out[BLOCK + i] = -7.0f;
        }
        bl_engine_process(engine, in, BLOCK, out, BLOCK, frames);
        EXPECT(memcmp(out, in, (size_t)frames * sizeof *in) == 0);
        EXPECT(fabsf(out[BLOCK + frames - 1] - tanhf(0.5f)) < 1e-6f);
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

/* What a device may deliver: sound, and now and then a number that is none or out of all bounds. */
static void fill_input(float *in, size_t count)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f, -0.0f};
    for (size_t i = 0; i < count; i++) {
        in[i] = next_random() % 64 ? random_float() : odd[next_random() % (sizeof odd / sizeof odd[0])];
    }
}

static void test_lies(int count, maker *make)
{
    int accepted = 0;
    static float in[1 << 16], out[1 << 20];
    fill_input(in, sizeof in / sizeof in[0]);
    for (int i = 0; i < count; i++) {
        tables t;
        bl_error error;
        bl_program *program;
        bl_engine *engine;
        make(&t);
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

static void test_failing_allocations(maker *make)
{
    tables t;
    make(&t);
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
    const char *soak = getenv("BACKLINE_SOAK");
    maker *const makers[] = {make_layers, make_rates};
    for (int isa = 0; isa < BL_ISA_COUNT; isa++) {
        if (bl_isa_available((bl_isa)isa)) {
            test_input_in_output((bl_isa)isa);
        }
    }
    printf("an input that is part of the output comes out in its place\n");
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        for (int isa = 0; isa < BL_ISA_COUNT; isa++) {
            if (bl_isa_available((bl_isa)isa)) {
                test_blocks((bl_isa)isa, makers[i]);
                printf("blocks give the same bits on %s\n", bl_isa_name((bl_isa)isa));
            }
        }
        test_failing_allocations(makers[i]);
        printf("failing allocations are reported and leak nothing\n");
        test_lies(12000 * (soak ? atoi(soak) : 1), makers[i]);
    }
    return 0;
}
