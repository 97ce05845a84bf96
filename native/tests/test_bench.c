/* What benchmarks run, for sanitizers: that neither reads nor writes beyond what it was given. */
#include "tables.h"

enum { BLOCK = 48, IN_FRAMES = 3 * BLOCK + 5, BLOCKS = 7, MOST_OUT = 3 * BLOCK + 1 };

static void test_multiply_adds(bl_isa isa)
{
    uint32_t *times_ns = calloc(BLOCKS, sizeof *times_ns);
    EXPECT((bl_bench_fma_flops(isa) > 0) == (bl_isa_available(isa) != 0));
    EXPECT(bl_bench_fma(isa, 1000, BLOCKS, times_ns).wall_ns >= 0);
    EXPECT(bl_bench_fma(isa, 0, BLOCKS, NULL).thread_ns >= 0);
    EXPECT(bl_bench_fma(isa, 1000, 0, times_ns).wall_ns >= 0);
    free(times_ns);
}

/* The last block's answer is that of an engine which has been given the same blocks. */
static void test_engine(bl_isa isa, void (*make)(tables *t))
{
    tables t;
    bl_program *program;
    bl_engine *engine, *other;
    make(&t);
    EXPECT(bl_program_new(&t.spec, isa, &program, NULL) == BL_OK);
    EXPECT(bl_engine_new(program, 1, BLOCK, &engine) == BL_OK);
    EXPECT(bl_engine_new(program, 1, BLOCK, &other) == BL_OK);
    size_t in_rows = (size_t)bl_program_info(program).input_rows;
    size_t out_floats = (size_t)bl_program_info(program).output_rows * MOST_OUT;
    float *in = malloc(in_rows * IN_FRAMES * sizeof *in);
    float *out = calloc(out_floats, sizeof *out), *expected = calloc(out_floats, sizeof *expected);
    uint32_t *times_ns = calloc(BLOCKS, sizeof *times_ns);
    for (size_t i = 0; i < in_rows * IN_FRAMES; i++) {
        in[i] = random_float();
    }
    bl_bench bench = {in, out, IN_FRAMES, MOST_OUT, BLOCK};
    EXPECT(bl_bench_engine(engine, &bench, BLOCKS, times_ns).wall_ns > 0);
    for (int n = 0; n < BLOCKS; n++) {
        EXPECT(bl_engine_output_frames(other, BLOCK) <= MOST_OUT);
        bl_engine_process(other, in + n % 3 * BLOCK, IN_FRAMES, expected, MOST_OUT, BLOCK);
    }
    EXPECT(bl_engine_position_frames(engine) == BLOCKS * BLOCK);
    EXPECT(memcmp(out, expected, out_floats * sizeof *out) == 0);
    free(times_ns);
    free(expected);
    free(out);
    free(in);
    bl_engine_free(other);
    bl_engine_free(engine);
    bl_program_free(program);
}

int main(void)
{
    for (int isa = 0; isa < BL_ISA_COUNT; isa++) {
        test_multiply_adds((bl_isa)isa);
        if (bl_isa_available((bl_isa)isa)) {
            test_engine((bl_isa)isa, make_layers);
            test_engine((bl_isa)isa, make_rates);
        }
    }
    printf("benchmarks: passed\n");
    return 0;
}
