/* The clock device: a thread of its own in place of a sound card's. bl_timer_new and bl_timer_free are [main];
 * the thread may sleep between blocks, as a driver's does, and is otherwise an audio thread. */
#include "host.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct bl_timer {
    bl_host *host;
    float *input;
    float *output;
    double frame_ns;
    int32_t block_frames;
    int32_t priority;
    bl_flag stop;
    pthread_t thread;
};

static void sleep_until(int64_t deadline_ns)
{
    const struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                      .tv_nsec = (long)(deadline_ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR) {
        continue;
    }
}

/* Deadlines are counted from `origin_ns` in whole blocks, not from one another, so they do not drift. A late
 * block moves the origin: the time is lost as it is on a device, and a thread that is too slow for its blocks
 * still sleeps between them. */
static void *run(void *argument)
{
    bl_timer *timer = argument;
    const double block_ns = (double)timer->block_frames * timer->frame_ns;
    const unsigned long lost = BL_HOST_INPUT_OVERFLOW | BL_HOST_OUTPUT_UNDERFLOW;
    unsigned long flags = 0;
    int64_t origin_ns = bl_now_ns();
    int64_t blocks = 1;

    for (;;) {
        sleep_until(origin_ns + (int64_t)((double)blocks * block_ns));
        if (bl_flag_get(&timer->stop)) {
            return NULL;
        }
        bl_host_callback(timer->input, timer->output, (unsigned long)timer->block_frames, NULL, flags,
                         timer->host);
        blocks++;
        flags = 0;
        const int64_t done_ns = bl_now_ns();
        if (done_ns > origin_ns + (int64_t)((double)blocks * block_ns)) {
            flags = lost;
            origin_ns = done_ns;
            blocks = 1;
        }
    }
}

static bl_status start(bl_timer *timer, int32_t priority)
{
    if (priority > 0) {
        const struct sched_param parameters = {.sched_priority = priority};
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes) != 0) {
            return BL_ERROR_SYSTEM;
        }
        int refused = pthread_attr_setschedpolicy(&attributes, SCHED_FIFO)
                      || pthread_attr_setschedparam(&attributes, &parameters)
                      || pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        timer->priority = priority;
        refused = refused || pthread_create(&timer->thread, &attributes, run, timer);
        pthread_attr_destroy(&attributes);
        if (!refused) {
            return BL_OK;
        }
    }
    timer->priority = 0;
    return pthread_create(&timer->thread, NULL, run, timer) == 0 ? BL_OK : BL_ERROR_SYSTEM;
}

static void free_memory(bl_timer *timer)
{
    free(timer->output);
    free(timer->input);
    free(timer);
}

static float *new_block(int32_t channels, int32_t frames)
{
    return calloc((size_t)channels * (size_t)frames + 1, sizeof(float)); /* never of size 0 */
}

bl_status bl_timer_new(bl_host *host, int32_t block_frames, int32_t priority, bl_timer **timer)
{
    if (block_frames < 1 || block_frames > BL_HOST_BLOCK_FRAMES) {
        return BL_ERROR_SIZE;
    }
    bl_timer *made = calloc(1, sizeof *made);
    if (!made) {
        return BL_ERROR_MEMORY;
    }
    made->host = host;
    made->frame_ns = bl_host_frame_ns(host);
    made->block_frames = block_frames;
    made->input = new_block(bl_host_input_channels(host), block_frames);
    made->output = new_block(bl_host_output_channels(host), block_frames);
    const bl_status status = made->input && made->output ? start(made, priority) : BL_ERROR_MEMORY;
    if (status != BL_OK) {
        free_memory(made);
        return status;
    }
    *timer = made;
    return BL_OK;
}

void bl_timer_free(bl_timer *timer)
{
    if (!timer) {
        return;
    }
    bl_flag_raise(&timer->stop);
    pthread_join(timer->thread, NULL);
    free_memory(timer);
}

int32_t bl_timer_priority(const bl_timer *timer) { return timer->priority; }
