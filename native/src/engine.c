/* [audio] Running a program: chunks, streams, rings. */
#include <string.h>

#include "fpu.h"
#include "internal.h"

/* Store a second time what this chunk left on either side of a ring's seam, so that no read wraps. */
static void mirror_tensor(const bl_moment *m, int32_t tensor)
{
    const bl_port *port = &m->engine->ports[tensor];
    const bl_place *place = &m->engine->places[port->buffer];
    int32_t begin = place->cursor, end = begin + m->engine->frames_now[port->rate];
    if (place->past != BL_PAST_RING || (begin >= place->mirror && end <= place->length)) {
        return;
    }
    const bl_kernels *kernels = m->engine->program->kernels;
    float *row = bl_stream_memory(m) + port->offset;
    int32_t low_end = end < place->mirror ? end : place->mirror;
    if (begin < low_end) {
        bl_rows low = {row + begin, port->pitch};
        kernels->copy(low, bl_rows_from(low, place->length), port->rows, low_end - begin);
    }
    if (end > place->length) {
        bl_rows low = {row, port->pitch};
        kernels->copy(bl_rows_from(low, place->length), low, port->rows, end - place->length);
    }
}

/* Where the rows of tensors in rings are now that the cursors have moved. */
static void move_ports(bl_engine *engine)
{
    for (int32_t i = 0; i < engine->moving_count; i++) {
        bl_port *port = &engine->ports[engine->moving[i]];
        port->p = engine->memory + port->offset + engine->places[port->buffer].cursor;
    }
    for (int32_t i = 0; i < engine->link_count; i++) {
        engine->links[i].rows->p = engine->ports[engine->links[i].tensor].p;
    }
}

static void copy_in(const bl_moment *m, const float *in, int64_t stride, int32_t frames)
{
    int32_t tensor = m->engine->program->input;
    bl_rows from = {(float *)in, stride}; /* only read */
    m->engine->program->kernels->copy(from, bl_tensor_rows(m, tensor), m->engine->ports[tensor].rows, frames);
    mirror_tensor(m, tensor);
}

static void copy_out(const bl_moment *m, bl_rows out)
{
    int32_t tensor = m->engine->program->output;
    m->engine->program->kernels->copy(bl_tensor_rows(m, tensor), out, m->engine->ports[tensor].rows,
                                      bl_tensor_frames(m, tensor));
}

static void run_step(const bl_engine *engine, const bl_step *step)
{
    if (step->run_all) {
        step->run_all(step, engine);
    }
    for (bl_moment m = {engine, 0}; m.stream < engine->streams; m.stream++) {
        if (!step->run_all) {
            step->run(step, &m);
        }
        for (int32_t i = 0; i < step->remembered_count; i++) {
            mirror_tensor(&m, step->remembered[i]);
        }
    }
}

static void run_steps(const bl_engine *engine)
{
    const bl_step *end = engine->program->steps + engine->program->step_count;
    for (const bl_step *step = engine->program->steps; step < end; step++) {
        if (!step->joined) {
            run_step(engine, step);
        }
    }
}

/* Run all ops and leave the output in the caller's rows: it is written there at once, where they have room
 * for whole vectors. */
static void run_chunk(bl_engine *engine, bl_rows out)
{
    const bl_program *program = engine->program;
    const bl_port *output = &engine->ports[program->output];
    const int64_t out_stream = out.pitch * output->rows;
    if (program->direct != BL_NONE
        && (engine->frames_now[output->rate] & (program->kernels->vector_frames - 1)) == 0) {
        bl_port *direct = &engine->ports[program->direct];
        const bl_port own = *direct;
        direct->p = out.p;
        direct->pitch = out.pitch;
        direct->stream = out_stream;
        run_steps(engine);
        *direct = own;
        return;
    }
    run_steps(engine);
    for (bl_moment m = {engine, 0}; m.stream < engine->streams; m.stream++, out.p += out_stream) {
        copy_out(&m, out);
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

/* Bring the newest frames of every row before where the next chunk begins. */
static void shift_past(const bl_engine *engine, const bl_place *place, int32_t rows, int32_t frames)
{
    bl_rows to = {engine->memory + place->offset, place->pitch};
    for (int32_t s = 0; s < engine->streams; s++, to.p += engine->stream_floats) {
        engine->program->kernels->copy(bl_rows_from(to, frames), to, rows, place->cursor);
    }
}

static void end_chunk(bl_engine *engine, int32_t frames)
{
    const bl_program *program = engine->program;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        bl_place *place = &engine->places[b];
        int32_t now = engine->frames_now[program->buffers[b].rate];
        if (place->past == BL_PAST_RING) {
            int32_t next = place->cursor + now;
            place->cursor = next < place->length ? next : next - place->length;
        } else if (place->past == BL_PAST_SHIFTED && now > 0) {
            shift_past(engine, place, program->buffers[b].rows, now);
        }
    }
    move_ports(engine);
    engine->position_frames += frames;
    for (int32_t k = 0; k < program->knob_count; k++) {
        bl_knob_advance(&engine->knobs[k], engine->position_frames);
    }
}

void bl_engine_process(bl_engine *engine, const float *in, int64_t in_stride, float *out, int64_t out_stride,
                       int64_t frames)
{
    const bl_port *input = &engine->ports[engine->program->input];
    const bl_port *output = &engine->ports[engine->program->output];
    uint64_t fpu = bl_fpu_flush();
    while (frames > 0) {
        int32_t now = frames < engine->chunk_frames ? (int32_t)frames : engine->chunk_frames;
        begin_chunk(engine, now);
        for (bl_moment m = {engine, 0}; m.stream < engine->streams; m.stream++) {
            copy_in(&m, in + m.stream * in_stride * input->rows, in_stride, now);
        }
        run_chunk(engine, (bl_rows){out, out_stride});
        in += now;
        out += engine->frames_now[output->rate];
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

/* A settled state is, buffer by buffer that has a past and row by row, the last lookback_frames frames,
 * then the ops' states. */
void bl_engine_export(const bl_engine *engine, float *settled)
{
    const bl_program *program = engine->program;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        const bl_buffer *buffer = &program->buffers[b];
        const bl_place *place = &engine->places[b];
        if (place->past == BL_PAST_NONE) {
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
            if (place->past == BL_PAST_NONE) {
                continue;
            }
            /* The first frame to come begins a cache line. */
            int32_t cursor = bl_round_up(buffer->lookback_frames, BL_ALIGN_FLOATS);
            int32_t first = cursor - buffer->lookback_frames;
            int32_t low = cursor < place->mirror ? cursor : place->mirror;
            float *row = memory + place->offset;
            for (int32_t r = 0; r < buffer->rows; r++, row += place->pitch, from += buffer->lookback_frames) {
                memcpy(row + first, from, (size_t)buffer->lookback_frames * sizeof *from);
                if (first < low) {
                    memcpy(row + place->length + first, from, (size_t)(low - first) * sizeof *from);
                }
            }
            place->cursor = cursor;
        }
        memcpy(memory + engine->state_offset, from, (size_t)program->state_floats * sizeof *from);
    }
    move_ports(engine);
}

void bl_engine_reset(bl_engine *engine)
{
    bl_engine_import(engine, engine->program->settled);
    engine->position_frames = 0;
    for (int32_t k = 0; k < engine->program->knob_count; k++) {
        bl_knob_reset(&engine->knobs[k]);
    }
}
