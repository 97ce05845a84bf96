/* The clock device's own thread, in place of a sound card's. [audio] but for one thing: it sleeps between blocks,
 * as a driver's thread does. */
#include "timer.h"

/* The longest sleep, and so the longest that bl_timer_free waits for one. */
static const int64_t SLICE_NS = 50000000;

/* 0 if the timer is to stop, which may be before the deadline. */
static int sleep_until(bl_timer *timer, int64_t deadline_ns)
{
    for (;;) {
        if (bl_flag_get(&timer->stop)) {
            return 0;
        }
        const int64_t now_ns = bl_now_ns();
        if (now_ns >= deadline_ns) {
            return 1;
        }
        const int64_t wake_ns = deadline_ns - now_ns > SLICE_NS ? now_ns + SLICE_NS : deadline_ns;
        const struct timespec wake = {.tv_sec = (time_t)(wake_ns / 1000000000),
                                      .tv_nsec = (long)(wake_ns % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL);
    }
}

/* Deadlines are counted from `origin_ns` in whole blocks, not from one another, so they do not drift. A late
 * block moves the origin: the time is lost as it is on a device, and a thread that is too slow for its blocks
 * still sleeps between them. */
void *bl_timer_run(void *argument)
{
    bl_timer *timer = argument;
    const double block_ns = (double)timer->block_frames * timer->frame_ns;
    const unsigned long lost = BL_HOST_INPUT_OVERFLOW | BL_HOST_OUTPUT_UNDERFLOW;
    unsigned long flags = 0;
    int64_t origin_ns = bl_now_ns();
    int64_t blocks = 1;

    while (sleep_until(timer, origin_ns + (int64_t)((double)blocks * block_ns))) {
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
    return NULL;
}
