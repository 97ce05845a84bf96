/* The inside of a bl_monitor: written by host.c and what it calls [audio], read by monitor.c [main].
 *
 * No pointer and nothing of one process lies in it: it may be mapped by two, at two addresses. */
#ifndef BL_MONITOR_H
#define BL_MONITOR_H

#include "mailbox.h"

/* Histogram of callback loads, for percentiles that need no list of loads. A bin is an exponent and the first five
 * bits of the mantissa of a float, so it is at most 1/32 of its value wide, and finding it needs no logarithm.
 * From 2^-12 (0.02 %) to 2^6 (64 times too slow); the ends take what lies beyond. */
enum {
    BL_LOAD_MANTISSA_BITS = 5,
    BL_LOAD_LOWEST_EXPONENT = -12,
    BL_LOAD_OCTAVES = BL_MONITOR_LOADS >> BL_LOAD_MANTISSA_BITS,
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

struct bl_monitor {
    /* constant after bl_monitor_init */
    uint64_t magic;
    int64_t bytes;
    double frame_ns;
    int32_t input_rows;
    int32_t output_rows;
    int64_t capture_offset; /* from the beginning of the monitor */
    int64_t heard_offset;

    /* the reader's own: what bl_monitor_stats saw the time before */
    int64_t seen_frames;
    int64_t seen_busy_ns;

    /* shared */
    bl_ring capture;
    bl_ring heard;
    bl_counter callbacks;
    bl_counter frames;
    bl_counter flags[BL_HOST_FLAGS];
    bl_counter xruns;
    bl_counter capture_lost_frames;
    bl_counter owed_frames; /* of silence, to the capture */
    bl_counter limited;
    bl_counter mutes;
    bl_counter muted;
    bl_counter swaps;
    bl_counter relieved;
    bl_counter playing;
    bl_counter busy_ns;
    bl_counter load_bins[BL_MONITOR_LOADS];
    bl_peak load_worst;
    bl_peak load_recent;
    bl_meter input_meter;
    bl_meter output_meter;
    bl_log log;
};

static inline float *bl_monitor_data(const bl_monitor *monitor, int64_t offset)
{
    return (float *)((char *)monitor + offset);
}

#endif
