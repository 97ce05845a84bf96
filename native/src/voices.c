/* The engines of a host: one that plays, and another on its way in. [audio] */
#include "host.h"
#include "internal.h"

/* How far the stage is at frame `frame` of the chunk; 1 at its last frame, so that what comes after fits on. */
static inline float way(const bl_host *host, int64_t frame)
{
    return (float)(host->stage_at + 1 + (int32_t)frame) / (float)host->stage_frames;
}

static void enter_stage(bl_host *host, bl_stage stage, int32_t frames)
{
    host->stage = stage;
    host->stage_frames = frames;
    host->stage_at = 0;
}

static void retire(bl_host *host, bl_voice *voice)
{
    bl_handoff_put(&host->retired, voice);
    bl_counter_add(&host->monitor->swaps, 1);
    bl_counter_set(&host->monitor->playing, host->entering->entry.serial);
}

static int32_t longer(int32_t a, int32_t b) { return a > b ? a : b; }

/* How much later the entering voice is than the playing one, as far as the delay lines reach. */
static int32_t apart_frames(const bl_host *host)
{
    const int32_t apart = host->entering->entry.latency_frames - host->playing->entry.latency_frames;
    return apart > BL_HOST_EVEN_FRAMES ? BL_HOST_EVEN_FRAMES : longer(apart, -BL_HOST_EVEN_FRAMES);
}

/* Both delay lines have to be full before anything is heard at a delay. */
static int32_t warming(const bl_host *host)
{
    const int32_t apart = apart_frames(host);
    return longer(host->entering->entry.warm_frames, apart < 0 ? -apart : apart);
}

static void begin_alone(bl_host *host)
{
    host->entering->delay_frames = 0;
    enter_stage(host, BL_STAGE_OUT, host->entering->entry.fade_frames);
}

/* The one that replaces the other at the end of a crossfade, at the delay it has had in it. */
static void promote(bl_host *host)
{
    host->playing = host->entering;
    host->entering = NULL;
}

static void settle_down(bl_host *host)
{
    enter_stage(host, BL_STAGE_PLAY, 0);
    if (host->swapping) {
        host->swapping = 0;
        bl_handoff_put(&host->offered, NULL);
    }
}

static void end_warm(bl_host *host)
{
    bl_voice *playing = host->playing, *entering = host->entering;
    const int32_t apart = apart_frames(host);
    entering->delay_frames = apart < 0 ? -apart : 0;
    host->moved_from = playing->delay_frames;
    playing->delay_frames = apart > 0 ? apart : 0;
    enter_stage(host, BL_STAGE_STRETCH, apart > 0 ? entering->entry.fade_frames : 0);
}

static void end_stage(bl_host *host)
{
    switch (host->stage) {
    case BL_STAGE_PLAY: break;
    case BL_STAGE_WARM: end_warm(host); break;
    case BL_STAGE_STRETCH: enter_stage(host, BL_STAGE_CROSS, host->entering->entry.fade_frames); break;
    case BL_STAGE_CROSS:
        retire(host, host->playing);
        promote(host);
        host->moved_from = host->playing->delay_frames;
        host->playing->delay_frames = 0;
        enter_stage(host, BL_STAGE_RELAX, host->moved_from ? host->playing->entry.fade_frames : 0);
        break;
    case BL_STAGE_OUT:
        retire(host, host->playing);
        promote(host);
        enter_stage(host, BL_STAGE_SILENT, host->playing->entry.warm_frames);
        break;
    case BL_STAGE_SILENT: enter_stage(host, BL_STAGE_IN, host->playing->entry.fade_frames); break;
    case BL_STAGE_RELAX:
    case BL_STAGE_IN: settle_down(host); break;
    }
}

/* End the stages that are over, those without a frame too. */
static void end_stages(bl_host *host)
{
    while (host->stage != BL_STAGE_PLAY && host->stage_at >= host->stage_frames) {
        end_stage(host);
    }
}

void bl_voices_begin(bl_host *host)
{
    bl_voice *offered = host->stage == BL_STAGE_PLAY ? bl_handoff_get(&host->offered) : NULL;
    if (!offered) {
        return;
    }
    host->swapping = 1;
    host->entering = offered;
    if (offered->entry.alone) {
        begin_alone(host);
    } else {
        enter_stage(host, BL_STAGE_WARM, warming(host));
    }
    end_stages(host);
}

void bl_voices_relieve(bl_host *host)
{
    if (host->stage == BL_STAGE_WARM) {
        bl_counter_add(&host->monitor->relieved, 1);
        begin_alone(host);
        end_stages(host);
    }
}

void bl_voices_obey(bl_host *host, bl_command command)
{
    /* One that is offered is entering, or plays already, or waits for the end of the fade at the beginning. */
    bl_voice *offered = bl_handoff_get(&host->offered);
    bl_voice *voices[] = {host->playing, offered == host->playing ? NULL : offered};
    for (int32_t i = 0; i < 2; i++) {
        if (voices[i] && voices[i]->entry.serial == command.serial) {
            bl_engine_set(voices[i]->entry.engine, command.knob, command.value, command.at_frame);
            host->doing |= BL_DOING_COMMANDS;
        }
    }
}

int64_t bl_voices_run(const bl_host *host, int64_t frames)
{
    const int64_t left = host->stage_frames - host->stage_at;
    frames = frames < BL_CHUNK_FRAMES ? frames : BL_CHUNK_FRAMES;
    return host->stage == BL_STAGE_PLAY || frames < left ? frames : left;
}

/* Run a voice's engine and remember what it puts out; returns how much of that was not finite. */
static int32_t run_voice(bl_host *host, bl_voice *voice, float *rows, int64_t frames)
{
    const int32_t count = host->monitor->output_rows;
    const int64_t at = voice->line_frames & (BL_LINE_FRAMES - 1);
    const size_t run = (size_t)(frames < BL_LINE_FRAMES - at ? frames : BL_LINE_FRAMES - at);
    int32_t wild = 0;
    bl_engine_process(voice->entry.engine, host->input, BL_CHUNK_FRAMES, rows, BL_CHUNK_FRAMES, frames);
    for (int32_t row = 0; row < count; row++) {
        float *from = rows + row * BL_CHUNK_FRAMES, *line = voice->line + (int64_t)row * BL_LINE_FRAMES;
        bl_guard_finite(&host->monitor->output_meter, from, frames, &wild);
        memcpy(line + at, from, run * sizeof *line);
        memcpy(line, from + run, ((size_t)frames - run) * sizeof *line);
    }
    voice->line_frames += frames;
    if (wild) { /* it may hold what is not finite for ever */
        bl_engine_import(voice->entry.engine, voice->program->settled);
        host->doing |= BL_DOING_SETTLE;
    }
    return wild;
}

/* Frame `frame` of the chunk that was last put into the line of `row`, `delay` frames late. */
static inline float line_at(const bl_voice *voice, int32_t row, int64_t frame, int64_t frames, int32_t delay)
{
    const int64_t at = voice->line_frames - frames + frame - delay;
    return at < 0 ? 0.0f : voice->line[(int64_t)row * BL_LINE_FRAMES + (at & (BL_LINE_FRAMES - 1))];
}

/* Let `rows` be what the voice puts out at its delay; on the way to another one, at both. */
static void delay_voice(const bl_host *host, const bl_voice *voice, float *rows, int64_t frames, int moving)
{
    const int32_t to = voice->delay_frames, from = moving ? host->moved_from : to;
    if (to == 0 && from == 0) {
        return;
    }
    for (int32_t row = 0; row < host->monitor->output_rows; row++) {
        for (int64_t frame = 0; frame < frames; frame++) {
            const float now = line_at(voice, row, frame, frames, to);
            const float before = line_at(voice, row, frame, frames, from);
            const float mixed = before + (now - before) * way(host, frame);
            rows[row * BL_CHUNK_FRAMES + frame] = moving ? mixed : now;
        }
    }
}

static void crossfade(bl_host *host, int64_t frames)
{
    for (int32_t row = 0; row < host->monitor->output_rows; row++) {
        float *out = host->output + row * BL_CHUNK_FRAMES;
        const float *in = host->second + row * BL_CHUNK_FRAMES;
        for (int64_t frame = 0; frame < frames; frame++) {
            out[frame] += (in[frame] - out[frame]) * way(host, frame); /* equal signals stay what they are */
        }
    }
}

/* Multiply the output by a ramp: `from` where the stage begins, `to` where it ends. */
static void fade(bl_host *host, int64_t frames, float from, float to)
{
    for (int32_t row = 0; row < host->monitor->output_rows; row++) {
        float *out = host->output + row * BL_CHUNK_FRAMES;
        for (int64_t frame = 0; frame < frames; frame++) {
            out[frame] *= from + (to - from) * way(host, frame);
        }
    }
}

static const uint32_t DOING[] = {
    [BL_STAGE_PLAY] = 0,
    [BL_STAGE_WARM] = BL_DOING_TWO,
    [BL_STAGE_STRETCH] = BL_DOING_TWO | BL_DOING_CROSSFADE,
    [BL_STAGE_CROSS] = BL_DOING_TWO | BL_DOING_CROSSFADE,
    [BL_STAGE_RELAX] = BL_DOING_CROSSFADE,
    [BL_STAGE_OUT] = BL_DOING_FADE,
    [BL_STAGE_SILENT] = BL_DOING_FADE,
    [BL_STAGE_IN] = BL_DOING_FADE,
};

void bl_voices_process(bl_host *host, int64_t frames)
{
    const bl_stage stage = host->stage;
    const int moving = stage == BL_STAGE_STRETCH || stage == BL_STAGE_RELAX;
    host->doing |= DOING[stage];
    int32_t wild = run_voice(host, host->playing, host->output, frames);
    wild = stage == BL_STAGE_SILENT ? 0 : wild; /* it is not heard yet */
    delay_voice(host, host->playing, host->output, frames, moving);
    if (DOING[stage] & BL_DOING_TWO) {
        const int32_t unheard = run_voice(host, host->entering, host->second, frames);
        wild += stage == BL_STAGE_CROSS ? unheard : 0;
        delay_voice(host, host->entering, host->second, frames, 0);
    }
    if (stage == BL_STAGE_CROSS) {
        crossfade(host, frames);
    } else if (stage == BL_STAGE_OUT) {
        fade(host, frames, 1.0f, 0.0f);
    } else if (stage == BL_STAGE_SILENT) {
        fade(host, frames, 0.0f, 0.0f);
    } else if (stage == BL_STAGE_IN) {
        fade(host, frames, 0.0f, 1.0f);
    }
    bl_guard_output(host, frames, wild);
    host->stage_at += stage == BL_STAGE_PLAY ? 0 : (int32_t)frames;
    end_stages(host);
}
