/* All threads of a live session at once, for the sanitizers: a clock that calls the host, a writer that
 * empties the capture, the main thread turning knobs and reading counters, and a second round with a device of
 * our own that never sleeps. The model multiplies by 2 and by a knob that stays at 1, so every frame that
 * comes out of the capture can be checked. Exits 0 if all is well. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "backline.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TAKE_FRAMES = 40000, BLOCK_FRAMES = 64, ROWS = 2 };

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                    \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static void sleep_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* input -> depthwise convolution of one tap, weight 2 -> times a knob */
static bl_program *new_program(void)
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

static float take[ROWS][TAKE_FRAMES];

static bl_host *new_host(bl_engine *engine, int64_t capture_frames)
{
    const int32_t input_map[ROWS] = {BL_NONE, BL_NONE}, output_map[3] = {0, BL_NONE, 1};
    const bl_host_config config = {
        .rate_hz = 48000.0,
        .input_rows = ROWS,
        .output_rows = ROWS,
        .output_channels = 3,
        .input_map = input_map,
        .output_map = output_map,
        .take = take[0],
        .take_frames = TAKE_FRAMES,
        .capture_frames = capture_frames,
    };
    bl_host *host = NULL;
    CHECK(bl_host_new(engine, &config, &host) == BL_OK);
    return host;
}

typedef struct session {
    bl_host *host;
    int64_t lost_frames; /* out: frames that came as silence */
} session;

/* Reads until the take is over; every frame has to be twice the take's, or silence if it was lost. */
static void *write_file(void *argument)
{
    session *self = argument;
    float frames[300 * ROWS];
    int64_t at = 0;
    while (at < TAKE_FRAMES) {
        const int64_t count = bl_host_capture_read(self->host, frames, 300);
        for (int64_t frame = 0; frame < count && at + frame < TAKE_FRAMES; frame++) {
            const int lost = frames[frame * ROWS] == 0.0f && frames[frame * ROWS + 1] == 0.0f;
            self->lost_frames += lost;
            for (int row = 0; row < ROWS; row++) {
                CHECK(lost || frames[frame * ROWS + row] == 2.0f * take[row][at + frame]);
            }
        }
        at += count;
        if (count == 0) {
            sleep_ms(1);
        }
    }
    return NULL;
}

/* Turns the knob to where it stands and reads the counters, until the take has been played. */
static void supervise(bl_host *host)
{
    bl_stats stats;
    int64_t frames = 0;
    do {
        const bl_status status = bl_host_set(host, 0, 1.0f, 0);
        CHECK(status == BL_OK || status == BL_ERROR_BUSY);
        bl_host_stats(host, &stats);
        CHECK(stats.frames >= frames && stats.load_worst >= 0.0 && stats.input_peaks[0] <= 1.0f);
        frames = stats.frames;
        sleep_ms(1);
    } while (frames < TAKE_FRAMES);
    CHECK(stats.input_not_finite == 0 && stats.output_not_finite == 0);
}

static void *call_without_rest(void *argument)
{
    session *self = argument;
    float output[BLOCK_FRAMES * 4 * 3];
    unsigned seed = 1;
    /* As long after the take as it needs to pay back what the capture is owed. */
    for (int64_t frames = 0; frames < 3 * TAKE_FRAMES;) {
        const unsigned long block = 1 + (seed = seed * 1664525u + 1013904223u) % (BLOCK_FRAMES * 4);
        CHECK(bl_host_callback(NULL, output, block, NULL, seed >> 9 & 31, self->host) == 0);
        frames += (int64_t)block;
        if (seed % 8 == 0) {
            sleep_ms(1);
        }
    }
    return NULL;
}

static void run(const bl_program *program, int with_timer)
{
    bl_engine *engine = NULL;
    bl_timer *timer = NULL;
    pthread_t writer, device;
    CHECK(bl_engine_new(program, ROWS, BL_CHUNK_FRAMES, &engine) == BL_OK);
    session self = {.host = new_host(engine, with_timer ? TAKE_FRAMES : 2000)};
    CHECK(pthread_create(&writer, NULL, write_file, &self) == 0);
    if (with_timer) {
        CHECK(bl_timer_new(self.host, BLOCK_FRAMES, 20, &timer) == BL_OK);
    } else {
        CHECK(pthread_create(&device, NULL, call_without_rest, &self) == 0);
    }
    supervise(self.host);
    pthread_join(writer, NULL);
    if (!with_timer) {
        pthread_join(device, NULL);
    }
    bl_timer_free(timer);

    bl_stats stats;
    bl_host_stats(self.host, &stats);
    CHECK(stats.callbacks > 0 && stats.frames >= TAKE_FRAMES);
    if (with_timer) {
        CHECK(self.lost_frames == 0 && stats.capture_lost_frames == 0);
    }
    CHECK(self.lost_frames <= stats.capture_lost_frames);
    printf("%s: %lld callbacks, %lld xruns, %lld frames lost\n", with_timer ? "clock" : "own device",
           (long long)stats.callbacks, (long long)stats.xruns, (long long)stats.capture_lost_frames);
    bl_host_free(self.host);
    bl_engine_free(engine);
}

int main(void)
{
    for (int row = 0; row < ROWS; row++) {
        for (int frame = 0; frame < TAKE_FRAMES; frame++) {
            take[row][frame] = (float)(1 + (frame * 7 + row * 3) % 101) / 128.0f;
        }
    }
    bl_program *program = new_program();
    run(program, 1);
    run(program, 0);
    bl_program_free(program);
    return 0;
}
