/* The inside of a bl_timer: shared by timer.c [audio] and timer_setup.c [main], nobody else. */
#ifndef BL_TIMER_H
#define BL_TIMER_H

#include "host.h"

#include <pthread.h>

struct bl_timer {
    /* set by timer_setup.c, constant while the thread runs */
    bl_host *host;
    float *input;
    float *output;
    double frame_ns;
    int32_t block_frames;
    int32_t priority;
    pthread_t thread;

    /* shared */
    bl_flag stop;
};

/* The thread, from its first block to bl_timer_free; `timer` is the bl_timer. [audio] */
void *bl_timer_run(void *timer);

#endif
