/* Making and reading a monitor. [main] */
#include "monitor.h"

#include <math.h>

static const uint64_t MAGIC = 0x6261636b6c696e65u ^ BL_ABI_VERSION;
static const int64_t MOST_VALUES = (int64_t)1 << 30;

static int64_t whole_lines(int64_t bytes)
{
    return (bytes + BL_CACHE_LINE_BYTES - 1) / BL_CACHE_LINE_BYTES * BL_CACHE_LINE_BYTES;
}

static int64_t ring_bytes(int64_t frames, int32_t rows)
{
    return whole_lines(frames * rows * (int64_t)sizeof(float));
}

static int64_t heard_offset(const bl_monitor_config *config)
{
    return whole_lines(sizeof(bl_monitor)) + ring_bytes(config->capture_frames, config->output_rows);
}

bl_status bl_monitor_size(const bl_monitor_config *config, int64_t *bytes)
{
    if (!isfinite(config->rate_hz) || config->rate_hz < 1.0 || config->rate_hz > 1e7) {
        return BL_ERROR_VALUE;
    }
    if (config->input_rows < 1 || config->input_rows > BL_HOST_ROWS || config->output_rows < 1
        || config->output_rows > BL_HOST_ROWS) {
        return BL_ERROR_SIZE;
    }
    if (config->capture_frames < 0 || config->capture_frames > MOST_VALUES / config->output_rows
        || config->heard_frames < 0 || config->heard_frames > MOST_VALUES) {
        return BL_ERROR_SIZE;
    }
    *bytes = heard_offset(config) + ring_bytes(config->heard_frames, 1);
    return BL_OK;
}

bl_status bl_monitor_init(void *memory, const bl_monitor_config *config)
{
    int64_t bytes;
    const bl_status status = bl_monitor_size(config, &bytes);
    if (status != BL_OK) {
        return status;
    }
    bl_monitor *monitor = memory;
    memset(memory, 0, (size_t)bytes);
    monitor->bytes = bytes;
    monitor->frame_ns = 1e9 / config->rate_hz;
    monitor->input_rows = config->input_rows;
    monitor->output_rows = config->output_rows;
    monitor->capture.rows = config->output_rows;
    monitor->capture.capacity_frames = config->capture_frames;
    monitor->capture_offset = whole_lines(sizeof *monitor);
    monitor->heard.rows = 1;
    monitor->heard.capacity_frames = config->heard_frames;
    monitor->heard_offset = heard_offset(config);
    monitor->magic = MAGIC;
    return BL_OK;
}

bl_status bl_monitor_check(const void *memory, int64_t bytes)
{
    const bl_monitor *monitor = memory;
    if (bytes < (int64_t)sizeof *monitor || monitor->magic != MAGIC || monitor->bytes > bytes) {
        return BL_ERROR_VALUE;
    }
    const bl_monitor_config config = {
        .rate_hz = 1e9 / monitor->frame_ns,
        .input_rows = monitor->input_rows,
        .output_rows = monitor->output_rows,
        .capture_frames = monitor->capture.capacity_frames,
        .heard_frames = monitor->heard.capacity_frames,
    };
    int64_t expected;
    if (bl_monitor_size(&config, &expected) != BL_OK || expected != monitor->bytes) {
        return BL_ERROR_VALUE;
    }
    const int rings = monitor->capture.rows == config.output_rows && monitor->heard.rows == 1
                      && monitor->capture_offset == whole_lines(sizeof *monitor)
                      && monitor->heard_offset == heard_offset(&config);
    return rings ? BL_OK : BL_ERROR_VALUE;
}

double bl_monitor_load_edge(int32_t bin)
{
    return (double)bl_bits_float((uint32_t)(bin + BL_LOAD_FIRST) << BL_LOAD_SHIFT);
}

void bl_monitor_loads(const bl_monitor *monitor, int64_t *counts)
{
    for (int32_t bin = 0; bin < BL_MONITOR_LOADS; bin++) {
        counts[bin] = bl_counter_get(&monitor->load_bins[bin]);
    }
}

int32_t bl_monitor_log(const bl_monitor *monitor, bl_record *records)
{
    return bl_log_get(&monitor->log, records);
}

/* The upper edge of the bin that 99 % of callbacks lie in or below, or the worst load if that is less. */
static double load_percentile_99(const bl_monitor *monitor, double worst)
{
    int64_t counts[BL_MONITOR_LOADS];
    int64_t total = 0, seen = 0;
    bl_monitor_loads(monitor, counts);
    for (int32_t bin = 0; bin < BL_MONITOR_LOADS; bin++) {
        total += counts[bin];
    }
    for (int32_t bin = 0; bin < BL_MONITOR_LOADS - 1; bin++) {
        seen += counts[bin];
        if (seen * 100 >= total * 99) {
            const double edge = bl_monitor_load_edge(bin + 1);
            return edge < worst ? edge : worst;
        }
    }
    return worst;
}

static void read_loads(bl_monitor *monitor, bl_stats *stats)
{
    const int64_t busy_ns = bl_counter_get(&monitor->busy_ns);
    const int64_t frames = stats->frames - monitor->seen_frames;
    if (stats->frames > 0) {
        stats->load_mean = (double)busy_ns / ((double)stats->frames * monitor->frame_ns);
    }
    if (frames > 0) {
        stats->load_recent = (double)(busy_ns - monitor->seen_busy_ns) / ((double)frames * monitor->frame_ns);
    }
    monitor->seen_frames = stats->frames;
    monitor->seen_busy_ns = busy_ns;
    stats->load_worst = (double)bl_peak_get(&monitor->load_worst);
    stats->load_recent_worst = (double)bl_peak_take(&monitor->load_recent);
    stats->load_p99 = load_percentile_99(monitor, stats->load_worst);
}

static void take_peaks(bl_meter *meter, int32_t rows, float *peaks)
{
    for (int32_t row = 0; row < rows; row++) {
        peaks[row] = bl_peak_take(&meter->peaks[row]);
    }
}

void bl_monitor_stats(bl_monitor *monitor, bl_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->frames = bl_counter_get_acquire(&monitor->frames); /* first: what it counts is in the rest */
    stats->callbacks = bl_counter_get(&monitor->callbacks);
    stats->input_underflows = bl_counter_get(&monitor->flags[0]);
    stats->input_overflows = bl_counter_get(&monitor->flags[1]);
    stats->output_underflows = bl_counter_get(&monitor->flags[2]);
    stats->output_overflows = bl_counter_get(&monitor->flags[3]);
    stats->output_primings = bl_counter_get(&monitor->flags[4]);
    stats->xruns = bl_counter_get(&monitor->xruns);
    stats->input_clips = bl_counter_get(&monitor->input_meter.clips);
    stats->output_clips = bl_counter_get(&monitor->output_meter.clips);
    stats->input_not_finite = bl_counter_get(&monitor->input_meter.not_finite);
    stats->output_not_finite = bl_counter_get(&monitor->output_meter.not_finite);
    stats->output_limited = bl_counter_get(&monitor->limited);
    stats->mutes = bl_counter_get(&monitor->mutes);
    stats->muted = bl_counter_get(&monitor->muted);
    stats->swaps = bl_counter_get(&monitor->swaps);
    stats->relieved = bl_counter_get(&monitor->relieved);
    stats->playing_serial = bl_counter_get(&monitor->playing);
    stats->capture_lost_frames = bl_counter_get(&monitor->capture_lost_frames);
    read_loads(monitor, stats);
    take_peaks(&monitor->input_meter, monitor->input_rows, stats->input_peaks);
    take_peaks(&monitor->output_meter, monitor->output_rows, stats->output_peaks);
}

int64_t bl_monitor_capture_read(bl_monitor *monitor, float *frames, int64_t max_frames)
{
    return bl_ring_get(&monitor->capture, bl_monitor_data(monitor, monitor->capture_offset), frames,
                       max_frames);
}

int64_t bl_monitor_heard_read(bl_monitor *monitor, float *frames, int64_t max_frames)
{
    return bl_ring_get(&monitor->heard, bl_monitor_data(monitor, monitor->heard_offset), frames, max_frames);
}
