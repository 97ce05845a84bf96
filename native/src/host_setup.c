/* Making and freeing a host, and handing engines to it. [main] */
#include "host.h"
#include "internal.h"

#include <math.h>
#include <stdlib.h>

static const int64_t MOST_FRAMES = (int64_t)1 << 40;
static const int32_t MOST_STAGE_FRAMES = 1 << 24;

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
    if (config->input_channels < 0 || config->input_channels > BL_HOST_CHANNELS || config->output_channels < 0
        || config->output_channels > BL_HOST_CHANNELS) {
        return BL_ERROR_SIZE;
    }
    if (config->take_frames < 0 || config->take_frames > MOST_FRAMES || config->fade_in_frames < 0
        || config->fade_in_frames > MOST_STAGE_FRAMES || config->calm_frames < 0
        || config->calm_frames > MOST_STAGE_FRAMES) {
        return BL_ERROR_SIZE;
    }
    const bl_monitor *monitor = config->monitor;
    const bl_status status = check_map(config->input_map, monitor->input_rows, config->input_channels);
    if (status != BL_OK) {
        return status;
    }
    return check_map(config->output_map, config->output_channels, monitor->output_rows);
}

/* The rows of the maps have to be those the engine will read and write. */
static bl_status check_entry(const bl_monitor *monitor, const bl_entry *entry)
{
    const bl_engine *engine = entry->engine;
    const bl_info info = bl_program_info(engine->program);
    if (info.output_rate.num != 1 || info.output_rate.den != 1 || info.output_rate.phase != 0) {
        return BL_ERROR_SHAPE;
    }
    if ((int64_t)engine->streams * info.input_rows != monitor->input_rows
        || (int64_t)engine->streams * info.output_rows != monitor->output_rows) {
        return BL_ERROR_SHAPE;
    }
    if (entry->latency_frames < 0 || entry->warm_frames < 0 || entry->fade_frames < 0
        || entry->latency_frames > MOST_STAGE_FRAMES || entry->warm_frames > MOST_STAGE_FRAMES
        || entry->fade_frames > MOST_STAGE_FRAMES) {
        return BL_ERROR_SIZE;
    }
    return BL_OK;
}

static void free_voice(bl_voice *voice)
{
    if (voice) {
        free(voice->line);
        free(voice);
    }
}

static bl_status new_voice(const bl_monitor *monitor, const bl_entry *entry, bl_voice **voice)
{
    const bl_status status = check_entry(monitor, entry);
    if (status != BL_OK) {
        return status;
    }
    bl_voice *made = new_zeroed(sizeof *made);
    if (!made) {
        return BL_ERROR_MEMORY;
    }
    made->entry = *entry;
    made->program = entry->engine->program;
    made->line = new_zeroed((size_t)monitor->output_rows * BL_LINE_FRAMES * sizeof(float));
    if (!made->line) {
        free_voice(made);
        return BL_ERROR_MEMORY;
    }
    *voice = made;
    return BL_OK;
}

static bl_status allocate(bl_host *host, const bl_host_config *config)
{
    const size_t row_bytes = BL_CHUNK_FRAMES * sizeof(float);
    host->input = new_zeroed((size_t)config->monitor->input_rows * row_bytes);
    host->output = new_zeroed((size_t)config->monitor->output_rows * row_bytes);
    host->second = new_zeroed((size_t)config->monitor->output_rows * row_bytes);
    return host->input && host->output && host->second ? BL_OK : BL_ERROR_MEMORY;
}

/* A process that was killed within a callback may have captured frames that it did not come to count. They are
 * counted now: frame n of the capture stays frame n. */
static void count_captured(bl_monitor *monitor)
{
    const int64_t captured = bl_ring_put_frames(&monitor->capture) + bl_counter_get(&monitor->owed_frames);
    const int64_t missed = captured - bl_counter_get(&monitor->frames);
    if (missed > 0) {
        bl_counter_add_release(&monitor->frames, missed);
    }
}

static void copy_config(bl_host *host, const bl_host_config *config)
{
    const int64_t heard_frames = bl_counter_get(&config->monitor->frames);
    host->monitor = config->monitor;
    host->take = config->take;
    host->take_frames = config->take_frames;
    host->take_position_frames = heard_frames < config->take_frames ? heard_frames : config->take_frames;
    host->input_channels = config->input_channels;
    host->output_channels = config->output_channels;
    host->calm_frames = config->calm_frames;
    host->limiter = config->limiter != 0;
    memcpy(host->input_map, config->input_map, (size_t)config->monitor->input_rows * sizeof(int32_t));
    if (config->output_channels > 0) {
        memcpy(host->output_map, config->output_map, (size_t)config->output_channels * sizeof(int32_t));
    }
    host->stage = config->fade_in_frames > 0 ? BL_STAGE_IN : BL_STAGE_PLAY;
    host->stage_frames = config->fade_in_frames;
}

bl_status bl_host_new(const bl_host_config *config, const bl_entry *first, bl_host **host)
{
    bl_voice *voice = NULL;
    bl_status status = check_config(config);
    if (status == BL_OK) {
        status = new_voice(config->monitor, first, &voice);
    }
    if (status != BL_OK) {
        return status;
    }
    bl_host *made = new_zeroed(sizeof *made);
    if (!made || allocate(made, config) != BL_OK) {
        free_voice(voice);
        bl_host_free(made);
        return BL_ERROR_MEMORY;
    }
    count_captured(config->monitor);
    copy_config(made, config);
    made->playing = made->current = voice;
    bl_counter_set(&config->monitor->playing, first->serial);
    bl_counter_set(&config->monitor->muted, 0);
    *host = made;
    return BL_OK;
}

void bl_host_free(bl_host *host)
{
    if (!host) {
        return;
    }
    free_voice(host->unplayed);
    free_voice(host->waiting);
    free_voice(host->handed);
    free_voice(host->current);
    free(host->second);
    free(host->output);
    free(host->input);
    free(host);
}

/* Whether the voice that was handed over last is still on its way, or the one it replaces has not been fetched. */
static int is_busy(const bl_host *host)
{
    return bl_handoff_get(&host->offered) || bl_handoff_get(&host->retired);
}

static void hand_over(bl_host *host, bl_voice *voice)
{
    host->handed = voice;
    bl_handoff_put(&host->offered, voice);
}

bl_status bl_host_swap(bl_host *host, const bl_entry *entry)
{
    if (host->unplayed) {
        return BL_ERROR_BUSY;
    }
    bl_voice *voice = NULL;
    const bl_status status = new_voice(host->monitor, entry, &voice);
    if (status != BL_OK) {
        return status;
    }
    if (is_busy(host) || host->waiting) {
        host->unplayed = host->waiting;
        host->waiting = voice;
    } else {
        hand_over(host, voice);
    }
    return BL_OK;
}

static bl_engine *give_back(bl_voice *voice)
{
    bl_engine *engine = voice->entry.engine;
    free_voice(voice);
    return engine;
}

bl_engine *bl_host_reclaim(bl_host *host)
{
    bl_voice *unplayed = host->unplayed;
    host->unplayed = NULL;
    if (unplayed) {
        return give_back(unplayed);
    }
    bl_voice *retired = bl_handoff_get(&host->retired);
    if (retired) {
        host->current = host->handed;
        host->handed = NULL;
        bl_handoff_put(&host->retired, NULL);
        return give_back(retired);
    }
    if (host->waiting && !is_busy(host)) {
        bl_voice *waiting = host->waiting;
        host->waiting = NULL;
        hand_over(host, waiting);
    }
    return NULL;
}

int32_t bl_host_swapping(const bl_host *host) { return host->waiting || is_busy(host); }

bl_status bl_host_set(bl_host *host, int64_t serial, int32_t knob, float value, int64_t at_frame)
{
    if (!isfinite(value)) {
        return BL_ERROR_VALUE;
    }
    if (host->waiting && host->waiting->entry.serial == serial) {
        bl_engine_set(host->waiting->entry.engine, knob, value, at_frame); /* not yet the audio thread's */
        return BL_OK;
    }
    const bl_command command = {.serial = serial, .at_frame = at_frame, .value = value, .knob = knob};
    return bl_commands_put(&host->commands, command) ? BL_OK : BL_ERROR_BUSY;
}

int32_t bl_host_input_channels(const bl_host *host) { return host->input_channels; }

int32_t bl_host_output_channels(const bl_host *host) { return host->output_channels; }

double bl_host_frame_ns(const bl_host *host) { return host->monitor->frame_ns; }
