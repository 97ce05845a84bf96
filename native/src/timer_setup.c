/* Making and freeing a timer, and its thread. [main] */
#include "timer.h"

#include <stdlib.h>

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
        refused = refused || pthread_create(&timer->thread, &attributes, bl_timer_run, timer);
        pthread_attr_destroy(&attributes);
        if (!refused) {
            return BL_OK;
        }
    }
    timer->priority = 0;
    return pthread_create(&timer->thread, NULL, bl_timer_run, timer) == 0 ? BL_OK : BL_ERROR_SYSTEM;
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
