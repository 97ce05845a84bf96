/* [main] Programs: copied, checked, packed, settled, then never changed. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MOST_BYTES (INT64_C(1) << 32) /* of a stream, and of packed weights */

static void *copy_of(bl_program *program, const void *from, int64_t count, size_t size)
{
    size_t bytes = (size_t)count * size;
    void *to = malloc(bytes + 1);
    if (to && count) {
        memcpy(to, from, bytes);
    }
    program->bytes += (int64_t)bytes + 1;
    return to;
}

static bl_status copy_spec(bl_program *program, const bl_spec *spec)
{
    program->rates = copy_of(program, spec->rates, spec->rate_count, sizeof *spec->rates);
    program->buffers = copy_of(program, spec->buffers, spec->buffer_count, sizeof *spec->buffers);
    program->tensors = copy_of(program, spec->tensors, spec->tensor_count, sizeof *spec->tensors);
    program->blob = copy_of(program, spec->blob, spec->blob_count, sizeof *spec->blob);
    program->steps = calloc((size_t)spec->op_count + 1, sizeof *program->steps);
    if (!program->rates || !program->buffers || !program->tensors || !program->blob || !program->steps) {
        return BL_ERROR_MEMORY;
    }
    for (int32_t i = 0; i < spec->op_count; i++) {
        program->steps[i].op = spec->ops[i];
    }
    program->rate_count = spec->rate_count;
    program->buffer_count = spec->buffer_count;
    program->tensor_count = spec->tensor_count;
    program->step_count = spec->op_count;
    program->scratch_rows = spec->scratch_rows;
    program->input = spec->input;
    program->output = spec->output;
    program->latency_frames = spec->latency_frames;
    program->receptive_field_frames = spec->receptive_field_frames;
    program->bytes += (int64_t)(sizeof *program + sizeof *program->steps)
                      + spec->op_count * (int64_t)sizeof *program->steps;
    for (int32_t b = 0; b < spec->buffer_count; b++) {
        program->history_floats += (int64_t)spec->buffers[b].rows * spec->buffers[b].lookback_frames;
    }
    return BL_OK;
}

static bl_status check_bytes(bl_error *error, const char *what, int64_t found)
{
    if (found >= 0 && found <= MOST_BYTES) {
        return BL_OK;
    }
    if (error) {
        *error = (bl_error){.op = BL_NONE, .found = found, .expected = MOST_BYTES, .what = what};
    }
    return BL_ERROR_SIZE;
}

static bl_status build(bl_program *program, const bl_spec *spec, bl_error *error)
{
    bl_status status = copy_spec(program, spec);
    if (status != BL_OK) {
        return status;
    }
    status = bl_plan_steps(program);
    if (status != BL_OK) {
        return status;
    }
    status = check_bytes(error, "bytes of packed weights", bl_packed_bytes(program));
    if (status != BL_OK) {
        return status;
    }
    status = bl_pack_steps(program);
    if (status != BL_OK) {
        return status;
    }
    status = check_bytes(error, "bytes of a stream", bl_stream_bytes(program));
    if (status != BL_OK) {
        return status;
    }
    return bl_program_settle(program, spec->prewarm_frames);
}

bl_status bl_program_new(const bl_spec *spec, bl_isa isa, bl_program **program, bl_error *error)
{
    if (error) {
        *error = (bl_error){.op = BL_NONE, .what = ""};
    }
    const bl_kernels *kernels = bl_kernels_for(isa);
    if (!kernels) {
        return BL_ERROR_ISA;
    }
    bl_status status = bl_check_spec(spec, error);
    if (status != BL_OK) {
        return status;
    }
    bl_program *made = calloc(1, sizeof *made);
    if (!made) {
        return BL_ERROR_MEMORY;
    }
    made->kernels = kernels;
    made->isa = isa;
    status = build(made, spec, error);
    if (status != BL_OK) {
        bl_program_free(made);
        return status;
    }
    *program = made;
    return BL_OK;
}

void bl_program_free(bl_program *program)
{
    if (program) {
        free(program->rates);
        free(program->buffers);
        free(program->tensors);
        free(program->steps);
        free(program->blob);
        free(program->packed);
        free(program->settled);
        free(program);
    }
}

bl_info bl_program_info(const bl_program *program)
{
    const bl_tensor *output = &program->tensors[program->output];
    return (bl_info){
        .isa = (int32_t)program->isa,
        .input_rows = bl_tensor_row_count(&program->tensors[program->input]),
        .output_rows = bl_tensor_row_count(output),
        .knob_count = program->knob_count,
        .output_rate = program->rates[program->buffers[output->buffer].rate],
        .latency_frames = program->latency_frames,
        .receptive_field_frames = program->receptive_field_frames,
        .program_bytes = program->bytes,
        .engine_bytes = bl_engine_bytes(program),
        .stream_bytes = bl_stream_bytes(program),
    };
}
