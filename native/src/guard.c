/* What keeps ears and loudspeakers safe: numbers that are none, levels that run away, clipping. [audio] */
#include "host.h"

#include <float.h>

static const float OUTPUT_CLIP = 0x1.000002p0f; /* the first float above 1 */
static const float KNEE = 0.891250938f;         /* -1 dBFS */
static const float CEILING = 0x1.fffffep-1f;    /* the last float below 1 */
static const float RUNAWAY = 15.8489319f;       /* +24 dBFS */

/* Plain selects, so that it vectorises. */
float bl_guard_finite(bl_meter *meter, float *line, int64_t frames, int32_t *not_finite)
{
    int32_t found = 0;
    float peak = 0.0f;
    for (int64_t frame = 0; frame < frames; frame++) {
        float magnitude = __builtin_fabsf(line[frame]);
        const int finite = magnitude <= FLT_MAX;
        line[frame] = finite ? line[frame] : 0.0f;
        magnitude = finite ? magnitude : 0.0f;
        found += !finite;
        peak = magnitude > peak ? magnitude : peak;
    }
    bl_counter_add(&meter->not_finite, found);
    *not_finite += found;
    return peak;
}

static float peak_of(const float *line, int64_t frames)
{
    float peak = 0.0f;
    for (int64_t frame = 0; frame < frames; frame++) {
        const float magnitude = __builtin_fabsf(line[frame]);
        peak = magnitude > peak ? magnitude : peak;
    }
    return peak;
}

/* Above the knee a curve that leaves it with slope 1 and never reaches 1: no delay, no memory, no change below.
 * With u the excess over what is left to 1, that is u / (1 + u) of it, or all but 1 / (1 + u): each rounding of
 * the latter is monotonic, and so is the whole. */
static void limit(bl_monitor *monitor, float *line, int64_t frames)
{
    int32_t limited = 0;
    for (int64_t frame = 0; frame < frames; frame++) {
        const float x = line[frame], magnitude = __builtin_fabsf(x);
        const float excess = (magnitude - KNEE) / (1.0f - KNEE);
        float bent = 1.0f - (1.0f - KNEE) / (1.0f + excess);
        bent = bent < CEILING ? bent : CEILING;
        const int over = magnitude > KNEE;
        limited += over;
        line[frame] = over ? __builtin_copysignf(bent, x) : x;
    }
    bl_counter_add(&monitor->limited, limited);
}

static void count_clips(bl_monitor *monitor, const float *line, int64_t frames)
{
    int32_t clips = 0;
    for (int64_t frame = 0; frame < frames; frame++) {
        clips += __builtin_fabsf(line[frame]) >= OUTPUT_CLIP;
    }
    bl_counter_add(&monitor->output_meter.clips, clips);
}

/* Begin, keep up or end a mute; returns whether this chunk is one. */
static int is_muted(bl_host *host, int64_t frames, int32_t wild, float peak)
{
    bl_monitor *monitor = host->monitor;
    if (wild || peak > RUNAWAY) {
        bl_counter_add(&monitor->mutes, host->mute_left_frames == 0);
        bl_counter_set(&monitor->muted, 1);
        host->mute_left_frames = host->calm_frames > 0 ? host->calm_frames : 1;
        return 1;
    }
    if (host->mute_left_frames == 0) {
        return 0;
    }
    if (peak > 1.0f) {
        host->mute_left_frames = host->calm_frames > 0 ? host->calm_frames : 1;
        return 1;
    }
    const int64_t left = host->mute_left_frames - frames;
    host->mute_left_frames = left > 0 ? (int32_t)left : 0;
    if (left <= 0) {
        bl_counter_set(&monitor->muted, 0);
        host->unmute_at = 0;
        host->unmute_frames = host->calm_frames / 4;
    }
    return 1;
}

/* The way back from a mute. */
static void unmute(bl_host *host, int64_t frames)
{
    for (int32_t row = 0; row < host->monitor->output_rows; row++) {
        float *line = host->output + row * BL_CHUNK_FRAMES;
        for (int64_t frame = 0; frame < frames; frame++) {
            const float way = (float)(host->unmute_at + 1 + (int32_t)frame) / (float)host->unmute_frames;
            line[frame] *= way < 1.0f ? way : 1.0f;
        }
    }
    host->unmute_at += (int32_t)frames;
}

void bl_guard_output(bl_host *host, int64_t frames, int32_t wild)
{
    bl_monitor *monitor = host->monitor;
    float peaks[BL_HOST_ROWS], peak = 0.0f;
    for (int32_t row = 0; row < monitor->output_rows; row++) {
        peaks[row] = peak_of(host->output + row * BL_CHUNK_FRAMES, frames);
        peak = peaks[row] > peak ? peaks[row] : peak;
    }
    const int muted = is_muted(host, frames, wild, peak);
    host->doing |= muted ? BL_DOING_MUTED : 0;
    if (!muted && host->unmute_at < host->unmute_frames) {
        unmute(host, frames);
    }
    for (int32_t row = 0; row < monitor->output_rows; row++) {
        float *line = host->output + row * BL_CHUNK_FRAMES;
        if (muted) {
            memset(line, 0, (size_t)frames * sizeof *line);
            continue;
        }
        if (peaks[row] > KNEE && host->limiter) {
            limit(monitor, line, frames);
            peaks[row] = peak_of(line, frames);
        }
        if (peaks[row] >= OUTPUT_CLIP) {
            count_clips(monitor, line, frames);
        }
        bl_peak_raise(&monitor->output_meter.peaks[row], peaks[row]);
    }
}
