/* [main] Timing engines and multiply-adds, without anything slower than C in between. */
#include <time.h>

#include "internal.h"

/* As many results as any instruction set's fma_loop leaves. */
#define MOST_RESULTS (32 * 16)

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bl_bench_time time_now(void)
{
    return (bl_bench_time){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_THREAD_CPUTIME_ID)};
}

static bl_bench_time time_since(bl_bench_time start)
{
    bl_bench_time end = time_now();
    return (bl_bench_time){end.wall_ns - start.wall_ns, end.thread_ns - start.thread_ns};
}

/* Fill in how long one block took that began at `start_ns`, and return when the next begins: now, so that no
 * time is lost between blocks. */
static int64_t note_time(uint32_t *time_ns, int64_t start_ns)
{
    int64_t end_ns = clock_ns(CLOCK_MONOTONIC), took_ns = end_ns - start_ns;
    *time_ns = took_ns < UINT32_MAX ? (uint32_t)took_ns : UINT32_MAX;
    return end_ns;
}

int32_t bl_bench_fma_flops(bl_isa isa)
{
    const bl_kernels *kernels = bl_kernels_for(isa);
    return kernels ? kernels->fma_flops : 0;
}

bl_bench_time bl_bench_fma(bl_isa isa, int64_t rounds, int64_t blocks, uint32_t *times_ns)
{
    const bl_kernels *kernels = bl_kernels_for(isa);
    float sink[MOST_RESULTS];
    if (!kernels) {
        return (bl_bench_time){0, 0};
    }
    bl_bench_time start = time_now();
    int64_t block_start_ns = clock_ns(CLOCK_MONOTONIC);
    for (int64_t n = 0; n < blocks; n++) {
        sink[0] = 1e-30f; /* too little to change anything, so that all numbers stay normal ones */
        sink[1] = 1.0f;
        kernels->fma_loop(rounds, sink);
        if (times_ns) {
            block_start_ns = note_time(&times_ns[n], block_start_ns);
        }
    }
    return time_since(start);
}

bl_bench_time bl_bench_engine(bl_engine *engine, const bl_bench *bench, int64_t blocks, uint32_t *times_ns)
{
    int64_t frames = bench->block_frames, end = bench->in_frames / frames * frames, at = 0;
    bl_bench_time start = time_now();
    int64_t block_start_ns = clock_ns(CLOCK_MONOTONIC);
    for (int64_t n = 0; n < blocks; n++) {
        bl_engine_process(engine, bench->in + at, bench->in_frames, bench->out, bench->out_frames, frames);
        at = at + frames < end ? at + frames : 0;
        if (times_ns) {
            block_start_ns = note_time(&times_ns[n], block_start_ns);
        }
    }
    return time_since(start);
}
