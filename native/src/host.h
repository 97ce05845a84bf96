/* The inside of a bl_host: shared by host.c, voices.c and guard.c [audio], and host_setup.c [main], nobody else. */
#ifndef BL_HOST_H
#define BL_HOST_H

#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* clock_gettime and clock_nanosleep, also under -std=c11 */
#endif

#include "monitor.h"

#include <time.h>

/* An engine in the host, and the line that delays its output. Made and freed by the main thread; in between the
 * audio thread's, but for the entry, which is constant. */
typedef struct bl_voice {
    bl_entry entry;
    bl_program const *program; /* whose settled state it can go back to */
    float *line;               /* [output_rows][BL_LINE_FRAMES], a ring of what the engine put out */
    int64_t line_frames;       /* put into it since the beginning */
    int32_t delay_frames;      /* at which it is heard */
} bl_voice;

/* A power of two with room for the longest delay and a chunk. */
enum { BL_LINE_FRAMES = 2 * BL_HOST_EVEN_FRAMES };

/* The way of a swap, stage by stage. */
typedef enum bl_stage {
    BL_STAGE_PLAY = 0,
    BL_STAGE_WARM,    /* the entering voice runs unheard */
    BL_STAGE_STRETCH, /* the playing one moves to the delay of the entering one, crossfading with itself */
    BL_STAGE_CROSS,   /* from one to the other */
    BL_STAGE_RELAX,   /* the new one, now alone, moves to no delay */
    BL_STAGE_OUT,     /* alone: the playing one is faded out */
    BL_STAGE_SILENT,  /* the entering one warms, nothing is heard */
    BL_STAGE_IN       /* it is faded in */
} bl_stage;

struct bl_host {
    /* set by host_setup.c, constant from then on */
    bl_monitor *monitor;
    const float *take;
    int64_t take_frames;
    int32_t input_channels;
    int32_t output_channels;
    int32_t calm_frames;
    int32_t limiter;
    int32_t input_map[BL_HOST_ROWS];
    int32_t output_map[BL_HOST_CHANNELS];

    /* the audio thread's own */
    float *input;  /* [input_rows][BL_CHUNK_FRAMES] */
    float *output; /* [output_rows][BL_CHUNK_FRAMES] */
    float *second; /* the same, of the entering voice */
    bl_voice *playing;
    bl_voice *entering;
    int64_t take_position_frames;
    int32_t swapping; /* the stages are those of a swap, not of the beginning */
    bl_stage stage;
    int32_t stage_frames; /* length of the stage; BL_STAGE_PLAY has none */
    int32_t stage_at;
    int32_t moved_from; /* BL_STAGE_STRETCH and RELAX: the delay before */
    int32_t overloads;  /* callbacks in a row that took longer than their block */
    int32_t mute_left_frames;
    int32_t unmute_at; /* frames of the way back from a mute */
    int32_t unmute_frames;
    uint32_t doing; /* bl_host_doing, in this callback */

    /* shared */
    bl_commands commands;
    bl_handoff offered; /* main -> audio: a bl_voice, held until its swap is over */
    bl_handoff retired; /* audio -> main: a bl_voice nobody plays any more */

    /* the main thread's own */
    bl_voice *current; /* the last one known to play */
    bl_voice *handed;  /* what `offered` was given */
    bl_voice *waiting;
    bl_voice *unplayed; /* one that waited in vain */
};

static inline int64_t bl_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Take the voice that is offered, if a swap can begin. [audio] */
void bl_voices_begin(bl_host *host);

/* Frames of `frames` that can be worked on before the stage changes. [audio] */
int64_t bl_voices_run(const bl_host *host, int64_t frames);

/* Let what is heard of the voices come to host->output, from host->input. [audio] */
void bl_voices_process(bl_host *host, int64_t frames);

/* Let a knob of the voice `command` names go where it is told. [audio] */
void bl_voices_obey(bl_host *host, bl_command command);

/* Give up running two engines where they do not fit into the time there is. [audio] */
void bl_voices_relieve(bl_host *host);

/* Replace what is not finite by 0, count it, and return the largest magnitude of the rest. [audio] */
float bl_guard_finite(bl_meter *meter, float *line, int64_t frames, int32_t *not_finite);

/* Mute, limit and measure host->output; `wild` says that an engine put out what is not finite. [audio] */
void bl_guard_output(bl_host *host, int64_t frames, int32_t wild);

/* For the timer, which has to offer blocks of the right shape. [any] */
int32_t bl_host_input_channels(const bl_host *host);
int32_t bl_host_output_channels(const bl_host *host);
double bl_host_frame_ns(const bl_host *host);

#endif
