/* The audio callback and what it calls. [audio] only: see DESIGN, house rule 3. */
#include "host.h"

/* Silence repaid to the capture per chunk: faster than frames come, yet bounded. */
enum { REPAID_FRAMES = 8 * BL_CHUNK_FRAMES };

/* Callbacks in a row that took longer than their block, until only one engine runs. */
enum { MOST_OVERLOADS = 2 };

static const float INPUT_CLIP = 0x1.fffcp-1f; /* 1 - 2^-15: converters do not go higher */

/* What waits is counted first and the swap begun next: commands to an engine come after it. */
static void obey_commands(bl_host *host)
{
    const uint32_t waiting = bl_commands_waiting(&host->commands);
    bl_voices_begin(host);
    for (uint32_t done = 0; done < waiting; done++) {
        bl_voices_obey(host, bl_commands_get(&host->commands));
    }
}

static void hear_take(bl_host *host, int64_t frames)
{
    const int64_t position = host->take_position_frames;
    const int64_t left = host->take_frames - position;
    const size_t run = (size_t)(frames < left ? frames : left);
    const size_t rest = (size_t)frames - run;
    for (int32_t row = 0; row < host->monitor->input_rows; row++) {
        float *line = host->input + row * BL_CHUNK_FRAMES;
        memcpy(line, host->take + row * host->take_frames + position, run * sizeof *line);
        memset(line + run, 0, rest * sizeof *line);
    }
    host->take_position_frames = position + (int64_t)run;
}

static void hear_device(bl_host *host, const float *input, int64_t frames)
{
    for (int32_t row = 0; row < host->monitor->input_rows; row++) {
        float *line = host->input + row * BL_CHUNK_FRAMES;
        const int32_t channel = host->input_map[row];
        if (!input || channel == BL_NONE) {
            memset(line, 0, (size_t)frames * sizeof *line);
            continue;
        }
        for (int64_t frame = 0; frame < frames; frame++) {
            line[frame] = input[frame * host->input_channels + channel];
        }
    }
}

static void measure_input(bl_host *host, int64_t frames)
{
    bl_monitor *monitor = host->monitor;
    for (int32_t row = 0; row < monitor->input_rows; row++) {
        float *line = host->input + row * BL_CHUNK_FRAMES;
        int32_t clips = 0, not_finite = 0;
        const float peak = bl_guard_finite(&monitor->input_meter, line, frames, &not_finite);
        bl_peak_raise(&monitor->input_meter.peaks[row], peak);
        for (int64_t frame = 0; peak >= INPUT_CLIP && frame < frames; frame++) {
            clips += __builtin_fabsf(line[frame]) >= INPUT_CLIP;
        }
        bl_counter_add(&monitor->input_meter.clips, clips);
    }
    if (monitor->heard.capacity_frames && bl_ring_room(&monitor->heard) >= frames) {
        bl_ring_put(&monitor->heard, bl_monitor_data(monitor, monitor->heard_offset), host->input, 0, frames);
    }
}

static void play(const bl_host *host, float *output, int64_t frames)
{
    for (int32_t channel = 0; channel < host->output_channels; channel++) {
        const int32_t row = host->output_map[channel];
        const float *line = row == BL_NONE ? NULL : host->output + row * BL_CHUNK_FRAMES;
        for (int64_t frame = 0; frame < frames; frame++) {
            output[frame * host->output_channels + channel] = line ? line[frame] : 0.0f;
        }
    }
}

/* Frames that find no room are owed as silence: what comes after them then keeps its place. */
static void capture(const bl_host *host, int64_t frames)
{
    bl_monitor *monitor = host->monitor;
    bl_ring *ring = &monitor->capture;
    float *data = bl_monitor_data(monitor, monitor->capture_offset);
    if (!ring->capacity_frames) {
        return;
    }
    int64_t room = bl_ring_room(ring);
    const int64_t owed = bl_counter_get(&monitor->owed_frames);
    int64_t repaid = owed < REPAID_FRAMES ? owed : REPAID_FRAMES;
    repaid = repaid < room ? repaid : room;
    if (repaid > 0) {
        bl_ring_put(ring, data, NULL, 0, repaid);
        bl_counter_add(&monitor->owed_frames, -repaid);
    }
    room -= repaid;
    if (owed == repaid && room >= frames) {
        bl_ring_put(ring, data, host->output, BL_CHUNK_FRAMES, frames);
    } else {
        bl_counter_add(&monitor->owed_frames, frames);
        bl_counter_add(&monitor->capture_lost_frames, frames);
    }
}

static void note_flags(bl_monitor *monitor, unsigned long flags)
{
    const unsigned long all = (1ul << BL_HOST_FLAGS) - 1;
    for (int32_t bit = 0; bit < BL_HOST_FLAGS; bit++) {
        if (flags >> bit & 1) {
            bl_counter_add(&monitor->flags[bit], 1);
        }
    }
    if (flags & all & ~(unsigned long)BL_HOST_OUTPUT_PRIMING) {
        bl_counter_add(&monitor->xruns, 1);
    }
}

static void note_load(bl_host *host, int64_t busy_ns, int64_t frames)
{
    bl_monitor *monitor = host->monitor;
    const float load = (float)((double)busy_ns / ((double)frames * monitor->frame_ns));
    int32_t bin = (int32_t)(bl_float_bits(load) >> BL_LOAD_SHIFT) - BL_LOAD_FIRST;
    bin = bin < 0 ? 0 : bin;
    bin = bin < BL_MONITOR_LOADS ? bin : BL_MONITOR_LOADS - 1;
    bl_counter_add(&monitor->load_bins[bin], 1);
    bl_counter_add(&monitor->busy_ns, busy_ns);
    bl_peak_raise(&monitor->load_worst, load);
    bl_peak_raise(&monitor->load_recent, load);
    host->overloads = load > 1.0f ? host->overloads + 1 : 0;
    if (host->overloads >= MOST_OVERLOADS) {
        bl_voices_relieve(host);
    }
}

/* Everything about a callback that is known at its end. */
static void note(bl_host *host, int64_t began_ns, int64_t frames, unsigned long flags)
{
    bl_monitor *monitor = host->monitor;
    const int64_t busy_ns = bl_now_ns() - began_ns;
    note_flags(monitor, flags);
    if (frames > 0) {
        note_load(host, busy_ns, frames);
    }
    bl_log_put(&monitor->log, (bl_record){
                                  .began_ns = began_ns,
                                  .busy_ns = busy_ns < UINT32_MAX ? (uint32_t)busy_ns : UINT32_MAX,
                                  .frames = (uint32_t)frames,
                                  .flags = (uint32_t)flags,
                                  .doing = host->doing,
                                  .at_frame = bl_counter_get(&monitor->frames),
                              });
    bl_counter_add(&monitor->callbacks, 1);
    bl_counter_add_release(&monitor->frames, frames);
}

int bl_host_callback(const void *input, void *output, unsigned long frame_count,
                     const struct PaStreamCallbackTimeInfo *time_info, unsigned long status_flags,
                     void *user_data)
{
    const int64_t began_ns = bl_now_ns();
    bl_host *host = user_data;
    const float *in = input;
    float *out = output;
    const int64_t frames = (int64_t)frame_count;
    (void)time_info;

    host->doing = 0;
    obey_commands(host);
    for (int64_t done = 0, now; done < frames; done += now) {
        now = bl_voices_run(host, frames - done);
        if (host->take) {
            hear_take(host, now);
        } else {
            hear_device(host, in ? in + done * host->input_channels : NULL, now);
        }
        measure_input(host, now);
        bl_voices_process(host, now);
        if (out) {
            play(host, out + done * host->output_channels, now);
        }
        capture(host, now);
    }
    note(host, began_ns, frames, status_flags);
    return 0;
}
