/* The audio callback and what it calls. [audio] only: see DESIGN, house rule 3. */
#include "host.h"

#include <float.h>

/* Silence repaid to the capture per chunk: faster than frames come, yet bounded. */
enum { REPAID_FRAMES = 8 * BL_CHUNK_FRAMES };

static const float INPUT_CLIP = 0x1.fffcp-1f;   /* 1 - 2^-15: converters do not go higher */
static const float OUTPUT_CLIP = 0x1.000002p0f; /* the first float above 1 */

static void obey_commands(bl_host *host)
{
    for (uint32_t waiting = bl_commands_waiting(&host->commands); waiting > 0; waiting--) {
        const bl_command command = bl_commands_get(&host->commands);
        bl_engine_set(host->engine, command.knob, command.value, command.at_frame);
    }
}

/* Replace what is not finite, and count and measure the rest. Plain selects, so that it vectorises. */
static void meter_row(bl_meter *meter, int32_t row, float *line, int64_t frames, float clip)
{
    int32_t clips = 0, not_finite = 0;
    float peak = 0.0f;
    for (int64_t frame = 0; frame < frames; frame++) {
        float magnitude = __builtin_fabsf(line[frame]);
        const int finite = magnitude <= FLT_MAX;
        line[frame] = finite ? line[frame] : 0.0f;
        magnitude = finite ? magnitude : 0.0f;
        not_finite += !finite;
        clips += magnitude >= clip;
        peak = magnitude > peak ? magnitude : peak;
    }
    bl_peak_raise(&meter->peaks[row], peak);
    bl_counter_add(&meter->clips, clips);
    bl_counter_add(&meter->not_finite, not_finite);
}

static void hear_take(bl_host *host, int64_t frames)
{
    const int64_t position = host->take_position_frames;
    const int64_t left = host->take_frames - position;
    const size_t run = (size_t)(frames < left ? frames : left);
    const size_t rest = (size_t)frames - run;
    for (int32_t row = 0; row < host->input_rows; row++) {
        float *line = host->input + row * BL_CHUNK_FRAMES;
        memcpy(line, host->take + row * host->take_frames + position, run * sizeof *line);
        memset(line + run, 0, rest * sizeof *line);
    }
    host->take_position_frames = position + (int64_t)run;
}

static void hear_device(bl_host *host, const float *input, int64_t frames)
{
    for (int32_t row = 0; row < host->input_rows; row++) {
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
static void capture(bl_host *host, int64_t frames)
{
    bl_ring *ring = &host->capture;
    if (!ring->data) {
        return;
    }
    int64_t room = bl_ring_room(ring);
    int64_t repaid = host->owed_frames < REPAID_FRAMES ? host->owed_frames : REPAID_FRAMES;
    repaid = repaid < room ? repaid : room;
    if (repaid > 0) {
        bl_ring_put(ring, NULL, 0, repaid);
    }
    host->owed_frames -= repaid;
    room -= repaid;
    if (host->owed_frames == 0 && room >= frames) {
        bl_ring_put(ring, host->output, BL_CHUNK_FRAMES, frames);
    } else {
        host->owed_frames += frames;
        bl_counter_add(&host->capture_lost_frames, frames);
    }
}

static void note_flags(bl_host *host, unsigned long flags)
{
    const unsigned long all = (1ul << BL_HOST_FLAGS) - 1;
    for (int32_t bit = 0; bit < BL_HOST_FLAGS; bit++) {
        if (flags >> bit & 1) {
            bl_counter_add(&host->flags[bit], 1);
        }
    }
    if (flags & all & ~(unsigned long)BL_HOST_OUTPUT_PRIMING) {
        bl_counter_add(&host->xruns, 1);
    }
}

static void note_load(bl_host *host, int64_t busy_ns, int64_t frames)
{
    const float load = (float)((double)busy_ns / ((double)frames * host->frame_ns));
    int32_t bin = (int32_t)(bl_float_bits(load) >> BL_LOAD_SHIFT) - BL_LOAD_FIRST;
    bin = bin < 0 ? 0 : bin;
    bin = bin < BL_LOAD_BINS ? bin : BL_LOAD_BINS - 1;
    bl_counter_add(&host->load_bins[bin], 1);
    bl_counter_add(&host->busy_ns, busy_ns);
    bl_peak_raise(&host->load_worst, load);
}

static void process_chunk(bl_host *host, const float *input, float *output, int64_t frames)
{
    if (host->take) {
        hear_take(host, frames);
    } else {
        hear_device(host, input, frames);
    }
    for (int32_t row = 0; row < host->input_rows; row++) {
        meter_row(&host->input_meter, row, host->input + row * BL_CHUNK_FRAMES, frames, INPUT_CLIP);
    }

    bl_engine_process(host->engine, host->input, BL_CHUNK_FRAMES, host->output, BL_CHUNK_FRAMES, frames);

    for (int32_t row = 0; row < host->output_rows; row++) {
        meter_row(&host->output_meter, row, host->output + row * BL_CHUNK_FRAMES, frames, OUTPUT_CLIP);
    }
    if (output) {
        play(host, output, frames);
    }
    capture(host, frames);
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

    obey_commands(host);
    for (int64_t done = 0; done < frames; done += BL_CHUNK_FRAMES) {
        const int64_t left = frames - done;
        process_chunk(host, in ? in + done * host->input_channels : NULL,
                      out ? out + done * host->output_channels : NULL,
                      left < BL_CHUNK_FRAMES ? left : BL_CHUNK_FRAMES);
    }

    note_flags(host, status_flags);
    if (frames > 0) {
        note_load(host, bl_now_ns() - began_ns, frames);
    }
    bl_counter_add(&host->callbacks, 1);
    bl_counter_add_release(&host->frames, frames);
    return 0;
}
