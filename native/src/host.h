/* The inside of a bl_host: shared by host.c [audio] and host_setup.c [main], nobody else. */
#ifndef BL_HOST_H
#define BL_HOST_H

#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* clock_gettime and clock_nanosleep, also under -std=c11 */
#endif

#include "backline.h"
#include "mailbox.h"

#include <time.h>

/* Histogram of callback loads, for percentiles that need no list of loads. A bin is an exponent and the first five
 * bits of the mantissa of a float, so it is at most 1/32 of its value wide, and finding it needs no logarithm.
 * From 2^-12 (0.02 %) to 2^6 (64 times too slow); the ends take what lies beyond. */
enum {
    BL_LOAD_MANTISSA_BITS = 5,
    BL_LOAD_LOWEST_EXPONENT = -12,
    BL_LOAD_OCTAVES = 18,
    BL_LOAD_BINS = BL_LOAD_OCTAVES << BL_LOAD_MANTISSA_BITS,
    BL_LOAD_SHIFT = 23 - BL_LOAD_MANTISSA_BITS,
    BL_LOAD_FIRST = (127 + BL_LOAD_LOWEST_EXPONENT) << BL_LOAD_MANTISSA_BITS
};

typedef struct bl_meter {
    bl_counter clips;
    bl_counter not_finite;
    bl_peak peaks[BL_HOST_ROWS];
} bl_meter;

/* xruns by flag, in the order of the flags' bits */
enum { BL_HOST_FLAGS = 5 };

struct bl_host {
    /* set by host_setup.c, constant from then on */
    bl_engine *engine;
    double frame_ns;
    const float *take;
    int64_t take_frames;
    int32_t input_rows;
    int32_t output_rows;
    int32_t input_channels;
    int32_t output_channels;
    int32_t input_map[BL_HOST_ROWS];
    int32_t output_map[BL_HOST_CHANNELS];

    /* the audio thread's own */
    float *input;  /* [input_rows][BL_CHUNK_FRAMES] */
    float *output; /* [output_rows][BL_CHUNK_FRAMES] */
    int64_t take_position_frames;
    int64_t owed_frames; /* of silence, to the capture */

    /* shared */
    bl_commands commands;
    bl_ring capture;
    bl_counter callbacks;
    bl_counter frames;
    bl_counter flags[BL_HOST_FLAGS];
    bl_counter xruns;
    bl_counter capture_lost_frames;
    bl_counter busy_ns;
    bl_counter load_bins[BL_LOAD_BINS];
    bl_peak load_worst;
    bl_meter input_meter;
    bl_meter output_meter;
};

static inline int64_t bl_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* For the timer, which has to offer blocks of the right shape. [any] */
int32_t bl_host_input_channels(const bl_host *host);
int32_t bl_host_output_channels(const bl_host *host);
double bl_host_frame_ns(const bl_host *host);

#endif
