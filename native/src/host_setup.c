/* Making, asking and freeing a host. [main] */
#include "host.h"
#include "internal.h"

#include <math.h>
#include <stdlib.h>

static const int64_t MOST_FRAMES = (int64_t)1 << 40;
static const int64_t MOST_CAPTURED_VALUES = (int64_t)1 << 30;

/* Zeroed, aligned, and touched: a page the audio thread touches first costs it a fault. calloc would put
 * that off, and compilers turn malloc and memset into calloc, but not this. */
static void *new_zeroed(size_t bytes)
{
    const size_t rounded = (bytes + BL_CACHE_LINE_BYTES - 1) / BL_CACHE_LINE_BYTES * BL_CACHE_LINE_BYTES;
    void *memory = aligned_alloc(BL_CACHE_LINE_BYTES, rounded);
    if (memory) {
        memset(memory, 0, rounded);
    }
    return memory;
}

static bl_status check_map(const int32_t *map, int32_t entries, int32_t targets)
{
    if (entries > 0 && !map) {
        return BL_ERROR_INDEX;
    }
    for (int32_t entry = 0; entry < entries; entry++) {
        if (map[entry] != BL_NONE && (map[entry] < 0 || map[entry] >= targets)) {
            return BL_ERROR_INDEX;
        }
    }
    return BL_OK;
}

static bl_status check_config(const bl_host_config *config)
{
    if (!isfinite(config->rate_hz) || config->rate_hz < 1.0 || config->rate_hz > 1e7) {
        return BL_ERROR_VALUE;
    }
    if (config->input_rows < 1 || config->input_rows > BL_HOST_ROWS || config->output_rows < 1
        || config->output_rows > BL_HOST_ROWS) {
        return BL_ERROR_SIZE;
    }
    if (config->input_channels < 0 || config->input_channels > BL_HOST_CHANNELS || config->output_channels < 0
        || config->output_channels > BL_HOST_CHANNELS) {
        return BL_ERROR_SIZE;
    }
    if (config->take_frames < 0 || config->take_frames > MOST_FRAMES || config->capture_frames < 0
        || config->capture_frames > MOST_CAPTURED_VALUES / config->output_rows) {
        return BL_ERROR_SIZE;
    }
    const bl_status status = check_map(config->input_map, config->input_rows, config->input_channels);
    if (status != BL_OK) {
        return status;
    }
    return check_map(config->output_map, config->output_channels, config->output_rows);
}

/* The rows of the maps have to be those the engine will read and write. */
static bl_status check_engine(const bl_engine *engine, const bl_host_config *config)
{
    const bl_info info = bl_program_info(engine->program);
    if (info.output_rate.num != 1 || info.output_rate.den != 1 || info.output_rate.phase != 0) {
        return BL_ERROR_SHAPE;
    }
    if ((int64_t)engine->streams * info.input_rows != config->input_rows
        || (int64_t)engine->streams * info.output_rows != config->output_rows) {
        return BL_ERROR_SHAPE;
    }
    return BL_OK;
}

static bl_status allocate(bl_host *host, const bl_host_config *config)
{
    const size_t row_bytes = BL_CHUNK_FRAMES * sizeof(float);
    host->input = new_zeroed((size_t)config->input_rows * row_bytes);
    host->output = new_zeroed((size_t)config->output_rows * row_bytes);
    if (!host->input || !host->output) {
        return BL_ERROR_MEMORY;
    }
    host->capture.rows = config->output_rows;
    host->capture.capacity_frames = config->capture_frames;
    if (config->capture_frames > 0) {
        host->capture.data =
            new_zeroed((size_t)config->capture_frames * (size_t)config->output_rows * sizeof(float));
        if (!host->capture.data) {
            return BL_ERROR_MEMORY;
        }
    }
    return BL_OK;
}

bl_status bl_host_new(bl_engine *engine, const bl_host_config *config, bl_host **host)
{
    bl_status status = check_config(config);
    if (status == BL_OK) {
        status = check_engine(engine, config);
    }
    if (status != BL_OK) {
        return status;
    }
    bl_host *made = new_zeroed(sizeof *made);
    if (!made) {
        return BL_ERROR_MEMORY;
    }
    if (allocate(made, config) != BL_OK) {
        bl_host_free(made);
        return BL_ERROR_MEMORY;
    }
    made->engine = engine;
    made->frame_ns = 1e9 / config->rate_hz;
    made->take = config->take;
    made->take_frames = config->take_frames;
    made->input_rows = config->input_rows;
    made->output_rows = config->output_rows;
    made->input_channels = config->input_channels;
    made->output_channels = config->output_channels;
    memcpy(made->input_map, config->input_map, (size_t)config->input_rows * sizeof(int32_t));
    if (config->output_channels > 0) {
        memcpy(made->output_map, config->output_map, (size_t)config->output_channels * sizeof(int32_t));
    }
    *host = made;
    return BL_OK;
}

void bl_host_free(bl_host *host)
{
    if (!host) {
        return;
    }
    free(host->capture.data);
    free(host->output);
    free(host->input);
    free(host);
}

bl_status bl_host_set(bl_host *host, int32_t knob, float value, int64_t at_frame)
{
    if (!isfinite(value)) {
        return BL_ERROR_VALUE;
    }
    const bl_command command = {.at_frame = at_frame, .value = value, .knob = knob};
    return bl_commands_put(&host->commands, command) ? BL_OK : BL_ERROR_BUSY;
}

/* The upper edge of the bin that 99 % of callbacks lie in or below, or the worst load if that is less. */
static double load_percentile_99(const bl_host *host, double worst)
{
    int64_t counts[BL_LOAD_BINS];
    int64_t total = 0, seen = 0;
    for (int32_t bin = 0; bin < BL_LOAD_BINS; bin++) {
        total += counts[bin] = bl_counter_get(&host->load_bins[bin]);
    }
    for (int32_t bin = 0; bin < BL_LOAD_BINS - 1; bin++) {
        seen += counts[bin];
        if (seen * 100 >= total * 99) {
            const double edge = bl_bits_float((uint32_t)(bin + 1 + BL_LOAD_FIRST) << BL_LOAD_SHIFT);
            return edge < worst ? edge : worst;
        }
    }
    return worst;
}

static void take_peaks(bl_meter *meter, int32_t rows, float *peaks)
{
    for (int32_t row = 0; row < rows; row++) {
        peaks[row] = bl_peak_take(&meter->peaks[row]);
    }
}

void bl_host_stats(bl_host *host, bl_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->frames = bl_counter_get_acquire(&host->frames); /* first: what it counts is in the rest */
    stats->callbacks = bl_counter_get(&host->callbacks);
    stats->input_underflows = bl_counter_get(&host->flags[0]);
    stats->input_overflows = bl_counter_get(&host->flags[1]);
    stats->output_underflows = bl_counter_get(&host->flags[2]);
    stats->output_overflows = bl_counter_get(&host->flags[3]);
    stats->output_primings = bl_counter_get(&host->flags[4]);
    stats->xruns = bl_counter_get(&host->xruns);
    stats->input_clips = bl_counter_get(&host->input_meter.clips);
    stats->output_clips = bl_counter_get(&host->output_meter.clips);
    stats->input_not_finite = bl_counter_get(&host->input_meter.not_finite);
    stats->output_not_finite = bl_counter_get(&host->output_meter.not_finite);
    stats->capture_lost_frames = bl_counter_get(&host->capture_lost_frames);
    if (stats->frames > 0) {
        stats->load_mean = (double)bl_counter_get(&host->busy_ns) / ((double)stats->frames * host->frame_ns);
    }
    stats->load_worst = (double)bl_peak_get(&host->load_worst);
    stats->load_p99 = load_percentile_99(host, stats->load_worst);
    take_peaks(&host->input_meter, host->input_rows, stats->input_peaks);
    take_peaks(&host->output_meter, host->output_rows, stats->output_peaks);
}

int64_t bl_host_capture_read(bl_host *host, float *frames, int64_t max_frames)
{
    return host->capture.data ? bl_ring_get(&host->capture, frames, max_frames) : 0;
}

int32_t bl_host_input_channels(const bl_host *host) { return host->input_channels; }

int32_t bl_host_output_channels(const bl_host *host) { return host->output_channels; }

double bl_host_frame_ns(const bl_host *host) { return host->frame_ns; }
