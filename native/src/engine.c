/* [audio] Running a program: chunks, streams, rings. */
#include <string.h>

#include "fpu.h"
#include "internal.h"

/* Store a second time what this chunk left on either side of a ring's seam, so that no read wraps. */
static void mirror_tensor(const bl_moment *m, int32_t tensor)
{
    const bl_tensor *t = bl_tensor_at(m, tensor);
    const bl_place *place = &m->engine->places[t->buffer];
    if (place->length == 0) {
        return;
    }
    int32_t begin = place->cursor, end = begin + bl_tensor_frames(m, tensor);
    float *row = m->memory + place->offset + t->first_row * place->pitch;
    int32_t low_end = end < place->mirror ? end : place->mirror;
    for (int32_t r = 0; r < bl_tensor_row_count(t); r++, row += place->pitch) {
        if (begin < low_end) {
            memcpy(row + place->length + begin, row + begin, (size_t)(low_end - begin) * sizeof *row);
        }
        if (end > place->length) {
            memcpy(row, row + place->length, (size_t)(end - place->length) * sizeof *row);
        }
    }
}

static void copy_in(const bl_moment *m, const float *in, int64_t stride, int32_t frames)
{
    int32_t tensor = m->engine->program->input;
    bl_rows to = bl_tensor_rows(m, tensor);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, tensor)); r++) {
        memcpy(to.p + r * to.pitch, in + r * stride, (size_t)frames * sizeof *in);
    }
    mirror_tensor(m, tensor);
}

static void copy_out(const bl_moment *m, float *out, int64_t stride)
{
    int32_t tensor = m->engine->program->output;
    bl_rows from = bl_tensor_rows(m, tensor);
    size_t bytes = (size_t)bl_tensor_frames(m, tensor) * sizeof *out;
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, tensor)); r++) {
        memcpy(out + r * stride, from.p + r * from.pitch, bytes);
    }
}

static void run_step(const bl_engine *engine, const bl_step *step)
{
    bl_moment moment = {engine, engine->memory};
    if (step->run_all) {
        step->run_all(step, engine);
    }
    for (int32_t s = 0; s < engine->streams; s++, moment.memory += engine->stream_floats) {
        if (!step->run_all) {
            step->run(step, &moment);
        }
        for (int i = 0; i < BL_OP_OUTPUTS; i++) {
            if (step->op.outputs[i] != BL_NONE) {
                mirror_tensor(&moment, step->op.outputs[i]);
            }
        }
    }
}

static void begin_chunk(bl_engine *engine, int32_t frames)
{
    for (int32_t i = 0; i < engine->program->rate_count; i++) {
        const bl_rate *rate = &engine->program->rates[i];
        int64_t before = bl_rate_frames(rate, engine->position_frames);
        engine->frames_before[i] = before;
        engine->frames_now[i] = (int32_t)(bl_rate_frames(rate, engine->position_frames + frames) - before);
    }
}

static void end_chunk(bl_engine *engine, int32_t frames)
{
    const bl_program *program = engine->program;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        bl_place *place = &engine->places[b];
        if (place->length) {
            int32_t next = place->cursor + engine->frames_now[program->buffers[b].rate];
            place->cursor = next < place->length ? next : next - place->length;
        }
    }
    engine->position_frames += frames;
    for (int32_t k = 0; k < program->knob_count; k++) {
        bl_knob_advance(&engine->knobs[k], engine->position_frames);
    }
}

void bl_engine_process(bl_engine *engine, const float *in, int64_t in_stride, float *out, int64_t out_stride,
                       int64_t frames)
{
    const bl_program *program = engine->program;
    int64_t in_stream = in_stride * bl_tensor_row_count(&program->tensors[program->input]);
    int64_t out_stream = out_stride * bl_tensor_row_count(&program->tensors[program->output]);
    int32_t out_rate = program->buffers[program->tensors[program->output].buffer].rate;
    uint64_t fpu = bl_fpu_flush();
    while (frames > 0) {
        int32_t now = frames < engine->chunk_frames ? (int32_t)frames : engine->chunk_frames;
        bl_moment moment = {engine, engine->memory};
        begin_chunk(engine, now);
        for (int32_t s = 0; s < engine->streams; s++, moment.memory += engine->stream_floats) {
            copy_in(&moment, in + s * in_stream, in_stride, now);
        }
        for (int32_t i = 0; i < program->step_count; i++) {
            run_step(engine, &program->steps[i]);
        }
        moment.memory = engine->memory;
        for (int32_t s = 0; s < engine->streams; s++, moment.memory += engine->stream_floats) {
            copy_out(&moment, out + s * out_stream, out_stride);
        }
        in += now;
        out += engine->frames_now[out_rate];
        frames -= now;
        end_chunk(engine, now);
    }
    bl_fpu_restore(fpu);
}

int64_t bl_engine_position_frames(const bl_engine *engine) { return engine->position_frames; }

int64_t bl_engine_output_frames(const bl_engine *engine, int64_t frames)
{
    const bl_program *program = engine->program;
    const bl_rate *rate = &program->rates[program->buffers[program->tensors[program->output].buffer].rate];
    return bl_rate_frames(rate, engine->position_frames + frames)
           - bl_rate_frames(rate, engine->position_frames);
}

void bl_engine_set(bl_engine *engine, int32_t knob, float value, int64_t at_frame)
{
    if (knob >= 0 && knob < engine->program->knob_count) {
        bl_knob_set(&engine->knobs[knob], value, at_frame, engine->position_frames);
    }
}

/* A settled state is, ring by ring and row by row, the last lookback_frames frames, then the ops' states. */
void bl_engine_export(const bl_engine *engine, float *settled)
{
    const bl_program *program = engine->program;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        const bl_buffer *buffer = &program->buffers[b];
        const bl_place *place = &engine->places[b];
        if (place->length == 0) {
            continue;
        }
        const float *row = engine->memory + place->offset;
        for (int32_t r = 0; r < buffer->rows; r++, row += place->pitch) {
            for (int32_t i = 0; i < buffer->lookback_frames; i++) {
                int32_t at = place->cursor - buffer->lookback_frames + i;
                *settled++ = row[at < 0 ? at + place->length : at];
            }
        }
    }
    memcpy(settled, engine->memory + engine->state_offset, (size_t)program->state_floats * sizeof *settled);
}

void bl_engine_import(bl_engine *engine, const float *settled)
{
    const bl_program *program = engine->program;
    float *memory = engine->memory;
    for (int32_t s = 0; s < engine->streams; s++, memory += engine->stream_floats) {
        const float *from = settled;
        for (int32_t b = 0; b < program->buffer_count; b++) {
            const bl_buffer *buffer = &program->buffers[b];
            bl_place *place = &engine->places[b];
            if (place->length == 0) {
                continue;
            }
            size_t bytes = (size_t)buffer->lookback_frames * sizeof *from;
            size_t low =
                (size_t)(buffer->lookback_frames < place->mirror ? buffer->lookback_frames : place->mirror);
            float *row = memory + place->offset;
            for (int32_t r = 0; r < buffer->rows; r++, row += place->pitch, from += buffer->lookback_frames) {
                memcpy(row, from, bytes);
                memcpy(row + place->length, from, low * sizeof *from);
            }
            place->cursor = buffer->lookback_frames;
        }
        memcpy(memory + engine->state_offset, from, (size_t)program->state_floats * sizeof *from);
    }
}

void bl_engine_reset(bl_engine *engine)
{
    bl_engine_import(engine, engine->program->settled);
    engine->position_frames = 0;
    for (int32_t k = 0; k < engine->program->knob_count; k++) {
        bl_knob_reset(&engine->knobs[k]);
    }
}
