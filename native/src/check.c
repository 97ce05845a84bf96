/* [main] Distrust: a spec that passes here can be run without a further check. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

bl_status bl_check_fail(const checker *c, bl_status status, const char *what, int64_t found, int64_t expected)
{
    if (c->error) {
        *c->error = (bl_error){.op = c->op, .found = found, .expected = expected, .what = what};
    }
    return status;
}

bl_status bl_check_range(const checker *c, const char *what, int64_t value, int64_t low, int64_t high)
{
    REQUIRE(value >= low && value <= high, BL_ERROR_SIZE, what, value, value < low ? low : high);
    return BL_OK;
}

/* Tables, in the order they depend on each other. */

static bl_status check_rates(const checker *c)
{
    PASS(bl_check_range(c, "number of rates", c->spec->rate_count, 1, MOST_RATES));
    for (int32_t i = 0; i < c->spec->rate_count; i++) {
        const bl_rate *rate = &c->spec->rates[i];
        PASS(bl_check_range(c, "numerator of a rate", rate->num, 1, MOST_RATE_TERM));
        PASS(bl_check_range(c, "denominator of a rate", rate->den, 1, MOST_RATE_TERM));
        PASS(bl_check_range(c, "frames of a rate to one of the input", rate->num / rate->den, 0,
                            rate->num % rate->den ? BL_MAX_RATE - 1 : BL_MAX_RATE));
        PASS(bl_check_range(c, "phase of a rate", rate->phase, 0, rate->den - 1));
    }
    const bl_rate *first = c->spec->rates;
    REQUIRE(first->num == 1 && first->den == 1 && first->phase == 0, BL_ERROR_SHAPE, "first rate is not 1/1",
            first->num, 1);
    return BL_OK;
}

static bl_status check_buffers(const checker *c)
{
    int64_t rows = 0;
    PASS(bl_check_range(c, "number of buffers", c->spec->buffer_count, 1, MOST_ENTRIES));
    PASS(bl_check_range(c, "scratch rows", c->spec->scratch_rows, 0, MOST_ROWS));
    for (int32_t i = 0; i < c->spec->buffer_count; i++) {
        const bl_buffer *b = &c->spec->buffers[i];
        REQUIRE(b->kind == BL_BUFFER_SCRATCH || b->kind == BL_BUFFER_RING, BL_ERROR_KIND, "kind of a buffer",
                b->kind, BL_BUFFER_RING);
        REQUIRE(b->rate >= 0 && b->rate < c->spec->rate_count, BL_ERROR_INDEX, "rate of a buffer", b->rate,
                c->spec->rate_count);
        PASS(bl_check_range(c, "rows of a buffer", b->rows, 1, MOST_ROWS));
        if (b->kind == BL_BUFFER_SCRATCH) {
            PASS(bl_check_range(c, "lookback of a scratch buffer", b->lookback_frames, 0, 0));
            PASS(bl_check_range(c, "scratch row of a buffer", b->scratch_row, 0,
                                c->spec->scratch_rows - b->rows));
        } else {
            PASS(bl_check_range(c, "lookback of a ring", b->lookback_frames, 0, MOST_FRAMES));
            rows += b->rows;
        }
    }
    return bl_check_range(c, "rows of all rings", rows, 0, MOST_ROWS);
}

static bl_status check_tensors(const checker *c)
{
    PASS(bl_check_range(c, "number of tensors", c->spec->tensor_count, 1, MOST_ENTRIES));
    for (int32_t i = 0; i < c->spec->tensor_count; i++) {
        const bl_tensor *t = &c->spec->tensors[i];
        REQUIRE(t->buffer >= 0 && t->buffer < c->spec->buffer_count, BL_ERROR_INDEX, "buffer of a tensor",
                t->buffer, c->spec->buffer_count);
        PASS(bl_check_range(c, "channels of a tensor", t->channels, 1, MOST_ROWS));
        PASS(bl_check_range(c, "features of a tensor", t->features, 1, MOST_ROWS));
        int64_t rows = (int64_t)t->channels * t->features;
        PASS(bl_check_range(c, "rows of a tensor", rows, 1, c->spec->buffers[t->buffer].rows));
        PASS(bl_check_range(c, "first row of a tensor", t->first_row, 0,
                            c->spec->buffers[t->buffer].rows - rows));
    }
    return BL_OK;
}

/* Reading and writing: who owns which row. */

static bl_status check_tensor_index(const checker *c, int32_t tensor)
{
    REQUIRE(tensor >= 0 && tensor < c->spec->tensor_count, BL_ERROR_INDEX, "tensor", tensor,
            c->spec->tensor_count);
    return BL_OK;
}

static bl_status check_read(const checker *c, int32_t tensor)
{
    PASS(check_tensor_index(c, tensor));
    const bl_tensor *t = tensor_at(c, tensor);
    const bl_buffer *b = buffer_of(c, tensor);
    for (int64_t r = t->first_row; r < t->first_row + rows_of(c, tensor); r++) {
        int ready = b->kind == BL_BUFFER_RING ? c->written[c->first_row[t->buffer] + r]
                                              : c->scratch_owner[b->scratch_row + r] == t->buffer;
        REQUIRE(ready, BL_ERROR_ORDER, "tensor", tensor, r);
    }
    return BL_OK;
}

static void mark_written(const checker *c, int32_t tensor)
{
    const bl_tensor *t = tensor_at(c, tensor);
    const bl_buffer *b = buffer_of(c, tensor);
    for (int64_t r = t->first_row; r < t->first_row + rows_of(c, tensor); r++) {
        if (b->kind == BL_BUFFER_RING) {
            c->written[c->first_row[t->buffer] + r] = 1;
        } else {
            c->scratch_owner[b->scratch_row + r] = t->buffer;
        }
    }
}

/* A ring has one writer per row: a second one would rewrite the past its readers look at. */
static bl_status check_first_writer(const checker *c, int32_t tensor)
{
    const bl_tensor *t = tensor_at(c, tensor);
    if (buffer_of(c, tensor)->kind == BL_BUFFER_RING) {
        for (int64_t r = t->first_row; r < t->first_row + rows_of(c, tensor); r++) {
            REQUIRE(!c->written[c->first_row[t->buffer] + r], BL_ERROR_ORDER, "ring written twice, tensor",
                    tensor, r);
        }
    }
    return BL_OK;
}

static bl_status check_op(const checker *c, const bl_op *op)
{
    REQUIRE(op->kind >= BL_OP_CONV1D && op->kind <= BL_OP_RESAMPLE, BL_ERROR_KIND, "kind of an op", op->kind,
            BL_OP_RESAMPLE);
    const op_arity arity = bl_check_arity(op->kind);
    for (int32_t i = 0; i < BL_OP_INPUTS; i++) {
        int allowed = i < arity.inputs + arity.optional_inputs;
        REQUIRE(op->inputs[i] == BL_NONE ? i >= arity.inputs : allowed, BL_ERROR_SHAPE,
                "input that is missing or too many", i, arity.inputs);
        if (op->inputs[i] != BL_NONE) {
            PASS(check_read(c, op->inputs[i]));
        }
    }
    for (int32_t i = 0; i < BL_OP_OUTPUTS; i++) {
        int allowed = i < arity.outputs + arity.optional_outputs;
        REQUIRE(op->outputs[i] == BL_NONE ? i >= arity.outputs : allowed, BL_ERROR_SHAPE,
                "output that is missing or too many", i, arity.outputs);
        if (op->outputs[i] != BL_NONE) {
            PASS(check_tensor_index(c, op->outputs[i]));
        }
    }
    for (int32_t i = 0; i < BL_OP_ARRAYS; i++) {
        PASS(bl_check_range(c, "numbers in an array", op->arrays[i].count, 0, c->spec->blob_count));
    }
    PASS(bl_check_op_shapes(c, op));
    for (int32_t i = 0; i < BL_OP_OUTPUTS; i++) {
        if (op->outputs[i] != BL_NONE) {
            PASS(check_first_writer(c, op->outputs[i]));
            mark_written(c, op->outputs[i]);
        }
    }
    return BL_OK;
}

static bl_status check_tape(checker *c)
{
    const bl_spec *spec = c->spec;
    PASS(check_tensor_index(c, spec->input));
    PASS(check_tensor_index(c, spec->output));
    REQUIRE(buffer_of(c, spec->input)->rate == 0, BL_ERROR_SHAPE, "rate of the input",
            buffer_of(c, spec->input)->rate, 0);
    mark_written(c, spec->input);
    for (c->op = 0; c->op < spec->op_count; c->op++) {
        PASS(check_op(c, &spec->ops[c->op]));
    }
    c->op = BL_NONE;
    return check_read(c, spec->output);
}

static bl_status check_tables(const checker *c)
{
    const bl_spec *spec = c->spec;
    PASS(check_rates(c));
    PASS(check_buffers(c));
    PASS(check_tensors(c));
    PASS(bl_check_range(c, "number of ops", spec->op_count, 0, MOST_ENTRIES));
    PASS(bl_check_range(c, "prewarm", spec->prewarm_frames, 0, MOST_FRAMES));
    PASS(bl_check_range(c, "latency", spec->latency_frames, 0, MOST_FRAMES));
    PASS(bl_check_range(c, "receptive field", spec->receptive_field_frames, BL_NONE, INT64_MAX));
    PASS(bl_check_range(c, "numbers in the blob", spec->blob_count, 0, MOST_BLOB));
    for (int64_t i = 0; i < spec->blob_count; i++) {
        REQUIRE(isfinite(spec->blob[i]), BL_ERROR_VALUE, "number in the blob that is not finite, at", i, 0);
    }
    return BL_OK;
}

bl_status bl_check_spec(const bl_spec *spec, bl_error *error)
{
    checker c = {.spec = spec, .error = error, .op = BL_NONE};
    PASS(check_tables(&c));
    int64_t rows = 0;
    c.first_row = calloc((size_t)spec->buffer_count, sizeof *c.first_row);
    c.written = calloc(MOST_ROWS, 1);
    c.scratch_owner = malloc(((size_t)spec->scratch_rows + 1) * sizeof *c.scratch_owner);
    bl_status status = BL_ERROR_MEMORY;
    if (c.first_row && c.written && c.scratch_owner) {
        for (int32_t i = 0; i < spec->buffer_count; i++) {
            c.first_row[i] = rows;
            rows += spec->buffers[i].kind == BL_BUFFER_RING ? spec->buffers[i].rows : 0;
        }
        for (int32_t i = 0; i < spec->scratch_rows; i++) {
            c.scratch_owner[i] = BL_NONE;
        }
        status = check_tape(&c);
    }
    free(c.first_row);
    free(c.written);
    free(c.scratch_owner);
    return status;
}
