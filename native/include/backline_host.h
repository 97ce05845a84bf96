/* Backline's host: what an audio device calls, models that replace one another while it does, and what can be
 * seen of it from outside. The vocabulary, the units, and what [main], [audio] and [any] mean are those of
 * backline.h. More words:
 *
 *   device    whatever calls bl_host_callback: PortAudio, a bl_timer, a test.
 *   channel   one of the device's, counted from 0; rows are the engine's, [stream][row] counted through.
 *   take      a recording that the engine hears in place of the device's input.
 *   monitor   what a host shows of itself: counters, meters, the log, the capture. Plain memory without a pointer in
 *             it: another process that maps it reads it too, also when the host's process has died.
 *   capture   what has been played, row by row, handed to a thread that may write files.
 *   command   what bl_host_set leaves in the mailbox; the next callback takes all that are there.
 *   swap      the way of another engine into the host: handed over, run unheard on the live input until it is warm,
 *             then crossfaded at equal gain with the one that played, which is handed back. One at a time; the
 *             latest of those that come meanwhile waits, and takes the place of an earlier one. Where two callbacks
 *             in a row take longer than their block while it warms, the one that played is faded out first.
 *
 * The host cuts a block up inside, so its size is free and may change from call to call. Values that are not finite
 * become 0 on their way into the engine and out of it, and are counted; an engine that has put one out is
 * settled again, as it would stay in a recurrent state for ever. */
#ifndef BACKLINE_HOST_H
#define BACKLINE_HOST_H

#include "backline.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* begin cdef */
enum {
    BL_HOST_ROWS = 64,           /* most input rows, and output rows, of a host's engine */
    BL_HOST_CHANNELS = 256,      /* most channels of a device, each way */
    BL_HOST_COMMANDS = 256,      /* commands the mailbox holds */
    BL_HOST_BLOCK_FRAMES = 8192, /* largest block of a bl_timer */
    BL_HOST_EVEN_FRAMES = 8192,  /* most frames of latency that a crossfade evens out */
    BL_MONITOR_LOG = 4096,       /* callbacks the log holds */
    BL_MONITOR_LOADS = 576       /* bins of the histogram of loads */
};

/* What the device says of a block; PortAudio's PaStreamCallbackFlags have these values. */
typedef enum bl_host_flag {
    BL_HOST_INPUT_UNDERFLOW = 1,  /* silence stands where input should be */
    BL_HOST_INPUT_OVERFLOW = 2,   /* input before this block was lost */
    BL_HOST_OUTPUT_UNDERFLOW = 4, /* a gap was heard before this block */
    BL_HOST_OUTPUT_OVERFLOW = 8,  /* this block will not be heard */
    BL_HOST_OUTPUT_PRIMING = 16   /* the block fills the device's buffers before it starts; not a fault */
} bl_host_flag;

/* What a callback did besides playing one engine; any of them together. */
typedef enum bl_host_doing {
    BL_DOING_TWO = 1,       /* a second engine ran */
    BL_DOING_CROSSFADE = 2, /* both were heard, or one at two delays */
    BL_DOING_FADE = 4,      /* an engine was faded out, or in, or warmed in silence */
    BL_DOING_MUTED = 8,
    BL_DOING_COMMANDS = 16, /* knobs were turned */
    BL_DOING_SETTLE = 32    /* an engine was settled again */
} bl_host_doing;

/* ---- monitor ---- */

typedef struct bl_monitor_config {
    double rate_hz;
    int32_t input_rows;     /* of the host's engines, all streams together: streams * bl_info.input_rows */
    int32_t output_rows;    /* streams * bl_info.output_rows */
    int64_t capture_frames; /* frames the capture holds; 0 for no capture */
    int64_t
        heard_frames; /* frames of the first input row that are kept for a reader, a tuner say; 0 for none */
} bl_monitor_config;

/* One callback. */
typedef struct bl_record {
    int64_t began_ns; /* of the system's monotonic clock */
    uint32_t busy_ns; /* from there to the end of the callback */
    uint32_t frames;
    uint32_t flags;   /* bl_host_flag */
    uint32_t doing;   /* bl_host_doing */
    int64_t at_frame; /* the first of the frames, counted as in bl_stats */
} bl_record;

/* All counts are since bl_monitor_init. "Samples" below are single values of single rows. */
typedef struct bl_stats {
    int64_t callbacks;
    int64_t frames;
    int64_t input_underflows; /* xruns: callbacks that carried the flag. A callback may carry several */
    int64_t input_overflows;
    int64_t output_underflows;
    int64_t output_overflows;
    int64_t output_primings;
    int64_t xruns;            /* callbacks with any flag but priming */
    int64_t input_clips;      /* samples at or above 1 - 2^-15, the top code of a 16 bit converter */
    int64_t output_clips;     /* samples above 1, as they were played */
    int64_t input_not_finite; /* samples replaced by 0 */
    int64_t output_not_finite;
    int64_t output_limited;      /* samples that the limiter has made smaller */
    int64_t mutes;               /* times the output was muted */
    int64_t muted;               /* 1 while it is */
    int64_t swaps;               /* that have come to their end */
    int64_t relieved;            /* swaps that were faded out and in, as two engines at once took too long */
    int64_t playing_serial;      /* serial of the engine that is heard, or that the host began with */
    int64_t capture_lost_frames; /* replaced by silence because the capture was full */
    double load_mean;            /* time in the callback over the time its frames last: 1 is all there is */
    double load_p99;             /* 99 % of callbacks stayed below it; at most 1/32 too high, never too low */
    double load_worst;
    double load_recent;               /* mean since the bl_monitor_stats before */
    double load_recent_worst;         /* worst since then */
    float input_peaks[BL_HOST_ROWS];  /* [input_rows] largest magnitude since then */
    float output_peaks[BL_HOST_ROWS]; /* [output_rows] */
} bl_stats;

typedef struct bl_monitor bl_monitor;

/* Bytes that a monitor takes. BL_ERROR_VALUE, BL_ERROR_SIZE: no monitor is like that. [main] */
bl_status bl_monitor_size(const bl_monitor_config *config, int64_t *bytes);

/* Make a monitor of memory of that size, aligned to 64 bytes: all counts 0, every page touched. [main] */
bl_status bl_monitor_init(void *memory, const bl_monitor_config *config);

/* Whether memory of that size, mapped from elsewhere, is a monitor that this library reads: else
 * BL_ERROR_VALUE. [main] */
bl_status bl_monitor_check(const void *memory, int64_t bytes);

/* Read the counters and take the peaks: reading sets them to 0. Each number is whole, but a callback may run
 * between one and the next. Frames counted in `frames` are in the capture, or lost. One thread at a
 * time. [main] */
void bl_monitor_stats(bl_monitor *monitor, bl_stats *stats);

/* Move at most `max_frames` frames from the capture to `frames`, [frame][row], and return how many. Frames
 * come in order from the first callback on; silence stands for those that were lost, so that frame n
 * stays frame n. One thread at a time, any thread but the audio thread. [main] */
int64_t bl_monitor_capture_read(bl_monitor *monitor, float *frames, int64_t max_frames);

/* Move at most `max_frames` frames of the first input row to `frames`; what nobody fetched in time is
 * missing. One thread at a time. [main] */
int64_t bl_monitor_heard_read(bl_monitor *monitor, float *frames, int64_t max_frames);

/* Copy the last callbacks, oldest first, to `records` [BL_MONITOR_LOG] and return how many. [main] */
int32_t bl_monitor_log(const bl_monitor *monitor, bl_record *records);

/* Copy the histogram of loads to `counts` [BL_MONITOR_LOADS]. [main] */
void bl_monitor_loads(const bl_monitor *monitor, int64_t *counts);

/* The load that bin `bin` begins with; the first holds all below its end, the last all above its begin. [any] */
double bl_monitor_load_edge(int32_t bin);

/* ---- host ---- */

/* Maps are copied; monitor and take are borrowed until bl_host_free. */
typedef struct bl_host_config {
    bl_monitor *monitor;       /* says rows and rate; goes on counting from where it stands */
    int32_t input_channels;    /* of the device's blocks; 0 if it has no input */
    int32_t output_channels;   /* of the device's blocks; 0 if it has no output */
    const int32_t *input_map;  /* [input_rows] the channel that feeds each row, or BL_NONE for silence */
    const int32_t *output_map; /* [output_channels] the row each channel carries, or BL_NONE for silence */
    const float *take;         /* [input_rows][take_frames], or NULL to hear the device; then silence */
    int64_t take_frames;       /* what is heard first is frame bl_stats.frames of it */
    int32_t fade_in_frames;    /* from silence, at the very beginning; 0 for none */
    int32_t calm_frames;       /* of a level below 1 that end a mute */
    int32_t limiter;           /* 1: samples above -1 dBFS are bent so that none reaches 1; 0: left alone */
} bl_host_config;

/* An engine on its way in. */
typedef struct bl_entry {
    bl_engine *engine;
    int64_t serial;         /* any number of the caller's that no other engine of the host has */
    int32_t latency_frames; /* by which its output lags: evened out during the crossfade */
    int32_t warm_frames;    /* of input it hears before it is heard */
    int32_t fade_frames;    /* of the crossfade, or of each fade; 0 switches at once */
    int32_t alone; /* 1: never runs beside the other, which is faded out first; silence while it warms */
} bl_entry;

typedef struct bl_host bl_host;
typedef struct bl_timer bl_timer;

/* PortAudio's, never looked into. */
struct PaStreamCallbackTimeInfo;

/* Make a host that plays `first`, whose engine goes on from where it stands, at once. Until it comes back from
 * bl_host_reclaim, or bl_host_free, only the host may touch it. BL_ERROR_SHAPE: the rows are not the
 * monitor's, or its program's output_rate is not 1/1. [main] */
bl_status bl_host_new(const bl_host_config *config, const bl_entry *first, bl_host **host);

/* Close the device first. Frees no engine. [main] */
void bl_host_free(bl_host *host);

/* A PaStreamCallback for blocks of interleaved float32; `user_data` is the bl_host. A NULL `input` is
 * silence; a NULL `output` is not written. `time_info` is not read. Always returns 0, paContinue. [audio] */
int bl_host_callback(const void *input, void *output, unsigned long frame_count,
                     const struct PaStreamCallbackTimeInfo *time_info, unsigned long status_flags,
                     void *user_data);

/* Hand in another engine, which the host owns as it does the first. While a swap is going on it waits; one that
 * waited already will never play, and comes back. Errors as bl_host_new, and BL_ERROR_BUSY: one that will never
 * play has not been reclaimed yet. One thread for this and all that follows. [main] */
bl_status bl_host_swap(bl_host *host, const bl_entry *entry);

/* Let the engine that waits go in once there is room, and return one that the host needs no more, or
 * NULL: call it again until it is NULL, many times a second. [main] */
bl_engine *bl_host_reclaim(bl_host *host);

/* Whether a swap is going on or waits. [main] */
int32_t bl_host_swapping(const bl_host *host);

/* Leave a bl_engine_set for engine `serial` in the mailbox: knob `knob` goes to `value` from frame `at_frame` of
 * that engine on, or, when it has passed, from the first frame of the next callback on. Nothing happens if the
 * host has no such engine any more. BL_ERROR_BUSY: BL_HOST_COMMANDS wait already, nothing was left.
 * BL_ERROR_VALUE: `value` is not finite. [main] */
bl_status bl_host_set(bl_host *host, int64_t serial, int32_t knob, float value, int64_t at_frame);

/* A device without hardware: a thread that calls bl_host_callback with silence every `block_frames` of the
 * host's rate, at deadlines that do not drift, until bl_timer_free. A block that is not done when the next is due
 * is an xrun as on a device: the next call carries input overflow and output underflow, and comes a whole
 * block after. No frame is left out. `priority` is a POSIX SCHED_FIFO priority to ask for, 0 for none. [main] */
bl_status bl_timer_new(bl_host *host, int32_t block_frames, int32_t priority, bl_timer **timer);

/* Stop the thread and wait for it: the callback it may be in, and at most 50 ms. [main] */
void bl_timer_free(bl_timer *timer);

/* The SCHED_FIFO priority the thread was given: what was asked for, or 0 where the system refused. [any] */
int32_t bl_timer_priority(const bl_timer *timer);
/* end cdef */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
