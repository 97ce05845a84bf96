/* All threads of a live session at once, for the sanitizers: a clock that calls the host, a writer that
 * empties the capture, the main thread turning knobs, swapping engines and reading whatever there is at random,
 * and a second round with a device of our own that never sleeps. The model multiplies by 2, whichever of its engines
 * plays, so every frame that comes out of the capture can be checked. Exits 0 if all is well. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "twice.h"

#include <pthread.h>

enum { TAKE_FRAMES = 40000, BLOCK_FRAMES = 64, ROWS = 2 };

static float take[ROWS][TAKE_FRAMES];

static bl_host *new_host(bl_monitor *monitor, bl_engine *engine)
{
    const bl_entry first = {.engine = engine};
    const int32_t input_map[ROWS] = {BL_NONE, BL_NONE}, output_map[3] = {0, BL_NONE, 1};
    const bl_host_config config = {
        .monitor = monitor,
        .output_channels = 3,
        .input_map = input_map,
        .output_map = output_map,
        .take = take[0],
        .take_frames = TAKE_FRAMES,
        .calm_frames = 100,
    };
    bl_host *host = NULL;
    CHECK(bl_host_new(&config, &first, &host) == BL_OK);
    return host;
}

typedef struct session {
    bl_host *host;
    bl_monitor *monitor;
    int wild;            /* swaps that are heard: delays, and silence in between */
    int64_t lost_frames; /* out: frames that came as silence */
} session;

/* Reads until the take is over; every frame has to be twice the take's, or silence if it was lost. */
static void *write_file(void *argument)
{
    session *self = argument;
    float frames[300 * ROWS];
    int64_t at = 0;
    while (at < TAKE_FRAMES) {
        const int64_t count = bl_monitor_capture_read(self->monitor, frames, 300);
        for (int64_t frame = 0; frame < count && at + frame < TAKE_FRAMES; frame++) {
            const int lost = frames[frame * ROWS] == 0.0f && frames[frame * ROWS + 1] == 0.0f;
            self->lost_frames += lost;
            for (int row = 0; row < ROWS; row++) {
                CHECK(lost || self->wild || frames[frame * ROWS + row] == 2.0f * take[row][at + frame]);
            }
        }
        at += count;
        if (count == 0) {
            sleep_ms(1);
        }
    }
    return NULL;
}

/* Let an engine that is not the one that plays take its place, in one of all ways. */
static void swap_at_random(const session *self, const bl_program *program, unsigned seed, int64_t serial)
{
    const bl_entry entry = {
        .engine = new_engine(program, ROWS),
        .serial = serial,
        .latency_frames = self->wild ? (int32_t)(seed >> 12 & 1023) : 0,
        .alone = self->wild && (seed >> 22 & 3) == 0,
        .warm_frames = (int32_t)(seed >> 8 & 511),
        .fade_frames = (int32_t)(seed >> 4 & 255),
    };
    if (bl_host_swap(self->host, &entry) != BL_OK) {
        free_engine(entry.engine);
    }
}

/* Turns the knob to where it stands, swaps, frees, reads and compares the counters, until the take has been played. */
static int64_t supervise(const session *self, const bl_program *program)
{
    static bl_record records[BL_MONITOR_LOG];
    static int64_t loads[BL_MONITOR_LOADS];
    bl_host *host = self->host;
    bl_stats stats;
    float heard[512];
    int64_t frames = 0, serial = 0;
    unsigned seed = 1;
    do {
        seed = seed * 1664525u + 1013904223u;
        const bl_status status = bl_host_set(host, serial - (seed >> 30), 0, 1.0f, 0);
        CHECK(status == BL_OK || status == BL_ERROR_BUSY);
        if ((seed >> 16 & 3) == 0) {
            swap_at_random(self, program, seed, ++serial);
        }
        reclaim(host);
        bl_monitor_stats(self->monitor, &stats);
        CHECK(stats.frames >= frames && stats.load_worst >= 0.0 && stats.input_peaks[0] <= 1.0f);
        CHECK(stats.playing_serial <= serial && stats.swaps <= serial);
        const int32_t logged = bl_monitor_log(self->monitor, records);
        for (int32_t at = 1; at < logged; at++) {
            CHECK(records[at].at_frame == records[at - 1].at_frame + records[at - 1].frames);
        }
        bl_monitor_loads(self->monitor, loads);
        bl_monitor_heard_read(self->monitor, heard, 512);
        frames = stats.frames;
        sleep_ms(1);
    } while (frames < TAKE_FRAMES);
    CHECK(stats.input_not_finite == 0 && stats.output_not_finite == 0 && stats.mutes == 0);
    return serial;
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

/* Free what the host has had; it gives back all engines but those that still have something to do. */
static void end(const session *self)
{
    float silence[BLOCK_FRAMES * 3];
    while (bl_host_swapping(self->host)) {
        bl_host_callback(NULL, silence, BLOCK_FRAMES, NULL, 0, self->host);
        reclaim(self->host);
    }
}

static void run(const bl_program *program, int with_timer, int wild)
{
    bl_engine *first = new_engine(program, ROWS);
    bl_timer *timer = NULL;
    pthread_t writer, device;
    session self = {.wild = wild, .monitor = new_monitor(ROWS, with_timer ? TAKE_FRAMES : 2000)};
    self.host = new_host(self.monitor, first);
    CHECK(pthread_create(&writer, NULL, write_file, &self) == 0);
    if (with_timer) {
        CHECK(bl_timer_new(self.host, BLOCK_FRAMES, 20, &timer) == BL_OK);
    } else {
        CHECK(pthread_create(&device, NULL, call_without_rest, &self) == 0);
    }
    supervise(&self, program);
    pthread_join(writer, NULL);
    if (!with_timer) {
        pthread_join(device, NULL);
    }
    bl_timer_free(timer);
    end(&self);

    bl_stats stats;
    bl_monitor_stats(self.monitor, &stats);
    CHECK(stats.callbacks > 0 && stats.frames >= TAKE_FRAMES && stats.swaps > 0);
    CHECK(wild || self.lost_frames <= stats.capture_lost_frames);
    CHECK(!with_timer || stats.capture_lost_frames == 0);
    printf("%s: %lld callbacks, %lld swaps, %lld xruns, %lld frames lost\n",
           with_timer ? "clock" : "own device", (long long)stats.callbacks, (long long)stats.swaps,
           (long long)stats.xruns, (long long)stats.capture_lost_frames);
    free_host(self.host);
    free(self.monitor);
}

int main(void)
{
    for (int row = 0; row < ROWS; row++) {
        for (int frame = 0; frame < TAKE_FRAMES; frame++) {
            take[row][frame] = (float)(1 + (frame * 7 + row * 3) % 101) / 128.0f;
        }
    }
    bl_program *program = new_program();
    for (int wild = 0; wild < 2; wild++) {
        run(program, 1, wild);
        run(program, 0, wild);
    }
    bl_program_free(program);
    return 0;
}
