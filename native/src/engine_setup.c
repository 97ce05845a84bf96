/* [main] Engines: one arena each, laid out once. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MOST_STREAMS 4096
#define MOST_SHIFTED 48 /* frames of past that are moved after every chunk; more are kept in a ring */
#define SEAM_CHUNKS 4 /* how many more chunks a ring holds than it must, so that few of them touch its seam */

static int64_t round_up_64(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/* Rows a whole number of cache lines apart, and an odd one: rows of one frame then fall into different
 * cache sets. */
static int64_t pitch_of(int64_t frames)
{
    int64_t lines = round_up_64(frames, BL_ALIGN_FLOATS) / BL_ALIGN_FLOATS;
    return (lines | 1) * BL_ALIGN_FLOATS;
}

/* Most frames at `rate` that a chunk of `chunk_frames` makes, in whole vectors. */
static int64_t frames_at(const bl_program *program, int32_t rate, int32_t chunk_frames)
{
    const bl_rate *r = &program->rates[rate];
    return round_up_64(((int64_t)chunk_frames * r->num + r->den - 1) / r->den,
                       program->kernels->vector_frames);
}

/* The place of a buffer with a past, but for its offset. */
static bl_place remembering(const bl_program *program, const bl_buffer *buffer, int64_t chunk)
{
    int32_t vector = program->kernels->vector_frames;
    int32_t past = bl_round_up(buffer->lookback_frames, BL_ALIGN_FLOATS);
    if (past <= MOST_SHIFTED) {
        return (bl_place){.past = BL_PAST_SHIFTED, .pitch = pitch_of(past + chunk + vector), .cursor = past};
    }
    bl_place place = {.past = BL_PAST_RING, .mirror = (int32_t)chunk + vector};
    place.length =
        (int32_t)round_up_64(buffer->lookback_frames + place.mirror + SEAM_CHUNKS * chunk, BL_ALIGN_FLOATS);
    place.pitch = pitch_of((int64_t)place.length + place.mirror);
    return place;
}

/* Fill `places` (may be NULL) and return the floats of one stream; the state area begins at *state_offset.
 * A ring holds the lookback, a chunk and a vector, and some chunks more so that few touch its seam, then a mirror
 * of a chunk and a vector: stores round up to whole vectors, and what they spill over is older than any reader
 * looks back. Its length is a whole number of cache lines, so that chunks of as many stay on them. */
static int64_t lay_out(const bl_program *program, int32_t chunk_frames, bl_place *places,
                       int64_t *state_offset)
{
    int64_t scratch_frames = 1, at = 0;
    int32_t vector = program->kernels->vector_frames;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        int64_t frames = frames_at(program, program->buffers[b].rate, chunk_frames);
        scratch_frames = frames > scratch_frames ? frames : scratch_frames;
    }
    int64_t scratch_pitch = pitch_of(scratch_frames + vector);
    int64_t ring_offset = program->scratch_rows * scratch_pitch;
    for (int32_t b = 0; b < program->buffer_count; b++) {
        const bl_buffer *buffer = &program->buffers[b];
        bl_place place = {.offset = buffer->scratch_row * scratch_pitch, .pitch = scratch_pitch};
        if (buffer->kind == BL_BUFFER_RING) {
            place = remembering(program, buffer, frames_at(program, buffer->rate, chunk_frames));
            place.offset = ring_offset + at;
            at += buffer->rows * place.pitch;
        }
        if (places) {
            places[b] = place;
        }
    }
    *state_offset = ring_offset + at;
    return round_up_64(*state_offset + program->state_floats, BL_ALIGN_FLOATS);
}

int64_t bl_stream_bytes(const bl_program *program)
{
    int64_t state_offset;
    return lay_out(program, BL_CHUNK_FRAMES, NULL, &state_offset) * (int64_t)sizeof(float);
}

int64_t bl_engine_bytes(const bl_program *program)
{
    int64_t per_rate = sizeof(int64_t) + sizeof(int32_t);
    return (int64_t)(sizeof(bl_engine) + BL_ALIGN_FLOATS * sizeof(float))
           + program->buffer_count * (int64_t)sizeof(bl_place)
           + (program->tensor_count + 1) * (int64_t)(sizeof(bl_port) + sizeof(int32_t))
           + (program->conv_count + 1) * (int64_t)(sizeof(bl_conv_job) + BL_CONV_PORTS * sizeof(bl_link))
           + (program->term_count + 1) * (int64_t)sizeof(int32_t)
           + (program->knob_count + 1) * (int64_t)sizeof(bl_knob) + program->rate_count * per_rate;
}

static void set_job(bl_engine *engine, const bl_step *step)
{
    bl_conv_job *job = &engine->jobs[step->index];
    int32_t *offset = &engine->offsets[step->first_term];
    const int64_t pitch = engine->ports[step->op.inputs[0]].pitch;
    const bl_moment first = {engine, 0};
    *job = step->conv;
    bl_locate_conv1d(step, &first, job);
    job->offsets = offset;
    for (int64_t tap = 0; tap < job->kernel; tap++) {
        for (int64_t i = 0; i < job->in_per_group; i++) {
            *offset++ = (int32_t)(i * pitch - (job->kernel - 1 - tap) * job->dilation);
        }
    }
}

/* Remember which rows of a job are in rings. */
static void link_job(bl_engine *engine, const bl_step *step)
{
    bl_conv_job *job = &engine->jobs[step->index];
    bl_rows *const rows[BL_CONV_PORTS] = {
        [BL_CONV_X] = &job->x,
        [BL_CONV_MIX] = &job->mix,
        [BL_CONV_RESIDUAL] = &job->residual,
        [BL_CONV_SKIP] = &job->skip,
        [BL_CONV_Y] = &job->y,
        [BL_CONV_SKIP_SUM] = &job->skip_sum,
        [BL_CONV_NEXT_RESIDUAL] = &job->next_residual,
        [BL_CONV_NEXT_Y] = &job->next_y,
    };
    for (int i = 0; i < BL_CONV_PORTS; i++) {
        const int32_t tensor = step->ports[i];
        if (tensor != BL_NONE && engine->places[engine->ports[tensor].buffer].past == BL_PAST_RING) {
            engine->links[engine->link_count++] = (bl_link){rows[i], tensor};
        }
    }
}

static void set_jobs(bl_engine *engine)
{
    for (int32_t i = 0; i < engine->program->step_count; i++) {
        const bl_step *step = &engine->program->steps[i];
        if (step->op.kind == BL_OP_CONV1D && !step->joined) {
            set_job(engine, step);
            link_job(engine, step);
        }
    }
}

static void set_knobs(bl_engine *engine)
{
    for (int32_t i = 0; i < engine->program->step_count; i++) {
        const bl_step *step = &engine->program->steps[i];
        if (step->op.kind == BL_OP_KNOB) {
            bl_knob *knob = &engine->knobs[step->index];
            knob->initial = step->weights[0];
            knob->minimum = step->weights[1];
            knob->maximum = step->weights[2];
            knob->ramp_frames = step->op.ramp_frames;
            bl_knob_reset(knob);
        }
    }
}

/* A chunk frame count of whole vectors, at most BL_CHUNK_FRAMES. */
static int32_t chunk_of(const bl_program *program, int32_t max_frames)
{
    int32_t wanted = max_frames < BL_CHUNK_FRAMES ? max_frames : BL_CHUNK_FRAMES;
    return bl_round_up(wanted, program->kernels->vector_frames);
}

static void set_ports(bl_engine *engine)
{
    const bl_program *program = engine->program;
    for (int32_t t = 0; t < program->tensor_count; t++) {
        const bl_tensor *tensor = &program->tensors[t];
        const bl_place *place = &engine->places[tensor->buffer];
        const int64_t offset = place->offset + tensor->first_row * place->pitch;
        engine->ports[t] = (bl_port){
            .p = engine->memory + offset + place->cursor,
            .pitch = place->pitch,
            .stream = engine->stream_floats,
            .offset = offset,
            .buffer = tensor->buffer,
            .rate = program->buffers[tensor->buffer].rate,
            .rows = bl_tensor_row_count(tensor),
        };
        if (place->past == BL_PAST_RING) {
            engine->moving[engine->moving_count++] = t;
        }
    }
}

static bl_status allocate(bl_engine *engine)
{
    const bl_program *program = engine->program;
    engine->places = calloc((size_t)program->buffer_count, sizeof *engine->places);
    bl_port *ports = calloc((size_t)program->tensor_count + 1, sizeof *ports);
    engine->ports = ports ? ports - BL_NONE : NULL;
    engine->moving = calloc((size_t)program->tensor_count + 1, sizeof *engine->moving);
    engine->knobs = calloc((size_t)program->knob_count + 1, sizeof *engine->knobs);
    engine->jobs = calloc((size_t)program->conv_count + 1, sizeof *engine->jobs);
    engine->links = calloc((size_t)program->conv_count + 1, BL_CONV_PORTS * sizeof *engine->links);
    engine->offsets = calloc((size_t)program->term_count + 1, sizeof *engine->offsets);
    engine->frames_before = calloc((size_t)program->rate_count, sizeof *engine->frames_before);
    engine->frames_now = calloc((size_t)program->rate_count, sizeof *engine->frames_now);
    if (!engine->places || !engine->ports || !engine->moving || !engine->knobs || !engine->jobs
        || !engine->links || !engine->offsets || !engine->frames_before || !engine->frames_now) {
        return BL_ERROR_MEMORY;
    }
    engine->stream_floats = lay_out(program, engine->chunk_frames, engine->places, &engine->state_offset);
    size_t bytes = (size_t)(engine->stream_floats * engine->streams + BL_ALIGN_FLOATS) * sizeof(float);
    engine->memory = aligned_alloc(BL_ALIGN_FLOATS * sizeof(float), bytes);
    if (!engine->memory) {
        return BL_ERROR_MEMORY;
    }
    memset(engine->memory, 0, bytes);
    set_ports(engine);
    return BL_OK;
}

bl_status bl_engine_new(const bl_program *program, int32_t streams, int32_t max_frames, bl_engine **engine)
{
    if (streams < 1 || streams > MOST_STREAMS || max_frames < 1) {
        return BL_ERROR_SIZE;
    }
    bl_engine *made = calloc(1, sizeof *made);
    if (!made) {
        return BL_ERROR_MEMORY;
    }
    made->program = program;
    made->streams = streams;
    made->chunk_frames = chunk_of(program, max_frames);
    bl_status status = allocate(made);
    if (status != BL_OK) {
        bl_engine_free(made);
        return status;
    }
    set_jobs(made);
    set_knobs(made);
    bl_engine_reset(made);
    *engine = made;
    return BL_OK;
}

void bl_engine_free(bl_engine *engine)
{
    if (engine) {
        free(engine->places);
        free(engine->ports ? engine->ports + BL_NONE : NULL);
        free(engine->moving);
        free(engine->knobs);
        free(engine->jobs);
        free(engine->links);
        free(engine->offsets);
        free(engine->frames_before);
        free(engine->frames_now);
        free(engine->memory);
        free(engine);
    }
}

/* The state of frame 0 before any prewarm: silence in every ring, a recurrent op's own first state. */
static void set_initial(const bl_program *program, float *settled)
{
    for (int32_t i = 0; i < program->step_count; i++) {
        const bl_step *step = &program->steps[i];
        const bl_span *spans = step->op.arrays;
        float *state = settled + program->history_floats + step->state_offset;
        if (step->op.kind == BL_OP_LSTM) {
            float *c = state + step->width;
            memcpy(state, program->blob + spans[3].offset, (size_t)spans[3].count * sizeof *state);
            memcpy(c, program->blob + spans[4].offset, (size_t)spans[4].count * sizeof *c);
        }
        if (step->op.kind == BL_OP_GRU) {
            memcpy(state, program->blob + spans[4].offset, (size_t)spans[4].count * sizeof *state);
        }
    }
}

static bl_status run_silence(bl_engine *engine, int32_t frames)
{
    enum { BLOCK = BL_CHUNK_FRAMES }; /* no more memory than the engine itself takes */
    bl_info info = bl_program_info(engine->program);
    size_t out_frames = (size_t)bl_engine_output_frames(engine, BLOCK) + 1;
    float *in = calloc((size_t)info.input_rows * BLOCK, sizeof *in);
    float *out = malloc((size_t)info.output_rows * out_frames * sizeof *out);
    if (in && out) {
        for (int32_t left = frames; left > 0; left -= BLOCK) {
            bl_engine_process(engine, in, BLOCK, out, (int64_t)out_frames, left < BLOCK ? left : BLOCK);
        }
    }
    bl_status status = in && out ? BL_OK : BL_ERROR_MEMORY;
    free(in);
    free(out);
    return status;
}

bl_status bl_program_settle(bl_program *program, int32_t prewarm_frames)
{
    int64_t floats = program->history_floats + program->state_floats;
    program->settled = calloc((size_t)floats + 1, sizeof *program->settled);
    if (!program->settled) {
        return BL_ERROR_MEMORY;
    }
    program->bytes += (floats + 1) * (int64_t)sizeof *program->settled;
    set_initial(program, program->settled);
    if (prewarm_frames == 0) {
        return BL_OK;
    }
    bl_engine *engine;
    bl_status status = bl_engine_new(program, 1, BL_CHUNK_FRAMES, &engine);
    if (status != BL_OK) {
        return status;
    }
    engine->position_frames = -prewarm_frames;
    status = run_silence(engine, prewarm_frames);
    if (status == BL_OK) {
        bl_engine_export(engine, program->settled);
    }
    bl_engine_free(engine);
    return status;
}
