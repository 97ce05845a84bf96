/* What the tests of the host share: checking, sleeping, and a model that is easy to foresee: it multiplies by 2 and
 * by a knob that stands at 1. */
#ifndef TWICE_H
#define TWICE_H

#include "backline_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                    \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static inline void sleep_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* input -> depthwise convolution of one tap, weight 2 -> times a knob */
static inline bl_program *new_program(void)
{
    static const float blob[] = {2.0f, 1.0f, 0.0f, 4.0f};
    const bl_rate rates[] = {{1, 1, 0}};
    const bl_buffer buffers[] = {
        {BL_BUFFER_RING, 0, 1, 0, 0},
        {BL_BUFFER_SCRATCH, 0, 1, 0, 0},
        {BL_BUFFER_SCRATCH, 0, 1, 0, 1},
        {BL_BUFFER_SCRATCH, 0, 1, 0, 2},
    };
    const bl_tensor tensors[] = {{0, 0, 1, 1}, {1, 0, 1, 1}, {2, 0, 1, 1}, {3, 0, 1, 1}};
    const bl_op ops[] = {
        {.kind = BL_OP_KNOB,
         .inputs = {BL_NONE, BL_NONE, BL_NONE, BL_NONE},
         .outputs = {1, BL_NONE},
         .ramp_frames = 960,
         .arrays = {{1, 3}}},
        {.kind = BL_OP_CONV1D,
         .inputs = {0, BL_NONE, BL_NONE, BL_NONE},
         .outputs = {2, BL_NONE},
         .kernel = 1,
         .dilation = 1,
         .stride = 1,
         .groups = 1,
         .arrays = {{0, 1}}},
        {.kind = BL_OP_MULTIPLY, .inputs = {2, 1, BL_NONE, BL_NONE}, .outputs = {3, BL_NONE}},
    };
    const bl_spec spec = {
        .rates = rates,
        .buffers = buffers,
        .tensors = tensors,
        .ops = ops,
        .blob = blob,
        .blob_count = 4,
        .rate_count = 1,
        .buffer_count = 4,
        .tensor_count = 4,
        .op_count = 3,
        .scratch_rows = 3,
        .input = 0,
        .output = 3,
    };
    bl_program *program = NULL;
    bl_error error = {0};
    if (bl_program_new(&spec, bl_isa_best(), &program, &error) != BL_OK) {
        fprintf(stderr, "op %d: %s is %lld, against %lld\n", (int)error.op, error.what ? error.what : "?",
                (long long)error.found, (long long)error.expected);
        exit(1);
    }
    return program;
}

static inline bl_monitor *new_monitor(int32_t rows, int64_t capture_frames)
{
    const bl_monitor_config config = {
        .rate_hz = 48000.0,
        .input_rows = rows,
        .output_rows = rows,
        .capture_frames = capture_frames,
        .heard_frames = 4096,
    };
    int64_t bytes = 0;
    CHECK(bl_monitor_size(&config, &bytes) == BL_OK);
    void *memory = aligned_alloc(64, (size_t)bytes);
    CHECK(memory && bl_monitor_init(memory, &config) == BL_OK && bl_monitor_check(memory, bytes) == BL_OK);
    return memory;
}

/* Those of the one host that there is at a time: playing, entering, waiting, and some that come back. */
enum { ENGINES = 8 };
static bl_engine *engines[ENGINES];

static inline bl_engine *new_engine(const bl_program *program, int32_t streams)
{
    bl_engine *engine = NULL;
    CHECK(bl_engine_new(program, streams, BL_CHUNK_FRAMES, &engine) == BL_OK);
    for (int slot = 0; slot < ENGINES; slot++) {
        if (!engines[slot]) {
            return engines[slot] = engine;
        }
    }
    CHECK(!"more engines than a host ever holds");
    return NULL;
}

static inline void free_engine(bl_engine *engine)
{
    for (int slot = 0; slot < ENGINES; slot++) {
        engines[slot] = engines[slot] == engine ? NULL : engines[slot];
    }
    bl_engine_free(engine);
}

/* Free those the host needs no more. */
static inline void reclaim(bl_host *host)
{
    for (bl_engine *engine; (engine = bl_host_reclaim(host));) {
        free_engine(engine);
    }
}

/* Free a host with all its engines. */
static inline void free_host(bl_host *host)
{
    bl_host_free(host);
    for (int slot = 0; slot < ENGINES; slot++) {
        bl_engine_free(engines[slot]);
        engines[slot] = NULL;
    }
}

#endif
