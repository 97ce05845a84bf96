/* What bl_info says of memory is what is allocated, to the byte.
 *
 * Link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=aligned_alloc,--wrap=free. Prints one line per test and exits
 * non-zero at the first failure. */
#include "tables.h"

/* Allocations that are alive, with the sizes that were asked for. */

enum { MOST_ALIVE = 64 };

static struct {
    void *at;
    size_t bytes;
} alive[MOST_ALIVE];

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *at);

static void *remember(void *at, size_t bytes)
{
    for (int i = 0; at; i++) {
        EXPECT(i < MOST_ALIVE);
        if (!alive[i].at) {
            alive[i].at = at;
            alive[i].bytes = bytes;
            break;
        }
    }
    return at;
}

void *__wrap_malloc(size_t size) { return remember(__real_malloc(size), size); }

void *__wrap_calloc(size_t count, size_t size) { return remember(__real_calloc(count, size), count * size); }

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return remember(__real_aligned_alloc(alignment, size), size);
}

void __wrap_free(void *at)
{
    for (int i = 0; at && i < MOST_ALIVE; i++) {
        if (alive[i].at == at) {
            alive[i].at = NULL;
            alive[i].bytes = 0;
        }
    }
    __real_free(at);
}

static int64_t bytes_alive(void)
{
    size_t sum = 0;
    for (int i = 0; i < MOST_ALIVE; i++) {
        sum += alive[i].bytes;
    }
    return (int64_t)sum;
}

static void test_memory(bl_isa isa, void (*make)(tables *t))
{
    tables t;
    bl_program *program;
    bl_engine *engine;
    make(&t);
    int64_t before = bytes_alive();
    EXPECT(bl_program_new(&t.spec, isa, &program, NULL) == BL_OK);
    bl_info info = bl_program_info(program);
    EXPECT(info.program_bytes == bytes_alive() - before);
    EXPECT(info.stream_bytes > 0);
    for (int32_t streams = 1; streams <= 3; streams++) {
        int64_t without = bytes_alive();
        EXPECT(bl_engine_new(program, streams, BL_CHUNK_FRAMES, &engine) == BL_OK);
        EXPECT(bytes_alive() - without == info.engine_bytes + streams * info.stream_bytes);
        bl_engine_free(engine);
        EXPECT(bytes_alive() == without);
        EXPECT(bl_engine_new(program, streams, 16, &engine) == BL_OK); /* shorter chunks take less */
        EXPECT(bytes_alive() - without < info.engine_bytes + streams * info.stream_bytes);
        bl_engine_free(engine);
    }
    bl_program_free(program);
    EXPECT(bytes_alive() == before);
}

static void test_statements(void (*make)(tables *t))
{
    tables t;
    bl_program *program;
    bl_error error;
    make(&t);
    t.spec.latency_frames = 12;
    t.spec.receptive_field_frames = INT64_C(1) << 40;
    EXPECT(bl_program_new(&t.spec, BL_ISA_SCALAR, &program, NULL) == BL_OK);
    EXPECT(bl_program_info(program).latency_frames == 12);
    EXPECT(bl_program_info(program).receptive_field_frames == INT64_C(1) << 40);
    bl_program_free(program);
    t.spec.receptive_field_frames = BL_NONE;
    EXPECT(bl_program_new(&t.spec, BL_ISA_SCALAR, &program, NULL) == BL_OK);
    EXPECT(bl_program_info(program).receptive_field_frames == BL_NONE);
    bl_program_free(program);
    t.spec.receptive_field_frames = -2;
    EXPECT(bl_program_new(&t.spec, BL_ISA_SCALAR, &program, &error) == BL_ERROR_SIZE);
    EXPECT(strcmp(error.what, "receptive field") == 0 && error.found == -2);
    t.spec.receptive_field_frames = 1;
    t.spec.latency_frames = -1;
    EXPECT(bl_program_new(&t.spec, BL_ISA_SCALAR, &program, &error) == BL_ERROR_SIZE);
    EXPECT(strcmp(error.what, "latency") == 0 && error.found == -1);
}

int main(void)
{
    for (int isa = 0; isa < BL_ISA_COUNT; isa++) {
        if (bl_isa_available((bl_isa)isa)) {
            test_memory((bl_isa)isa, make_layers);
            test_memory((bl_isa)isa, make_rates);
            printf("memory on %s: ok\n", bl_isa_name((bl_isa)isa));
        }
    }
    test_statements(make_layers);
    printf("latency and receptive field: ok\n");
    return 0;
}
