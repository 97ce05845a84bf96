/* [main] Distrust: a spec that passes here can be run without a further check. */
#include <math.h>
#include <stdlib.h>

#include "internal.h"

#define MOST_RATES 64
#define MOST_ROWS (1 << 20)
#define MOST_ENTRIES (1 << 20)
#define MOST_FRAMES (1 << 24)
#define MOST_RATE_TERM (1 << 12)
#define MOST_BLOB (INT64_C(1) << 29)

typedef struct checker {
    const bl_spec *spec;
    bl_error *error;
    int32_t op;             /* index of the op under test, or BL_NONE */
    int32_t *scratch_owner; /* by scratch row: the buffer whose values it holds, or BL_NONE */
    uint8_t *written;       /* by row of all ring buffers, in order */
    int64_t *first_row;     /* by buffer: its first row in `written` */
} checker;

static bl_status fail(const checker *c, bl_status status, const char *what, int64_t found, int64_t expected)
{
    if (c->error) {
        *c->error = (bl_error){.op = c->op, .found = found, .expected = expected, .what = what};
    }
    return status;
}

#define REQUIRE(condition, status, what, found, expected)                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            return fail(c, status, what, found, expected);                                                   \
        }                                                                                                    \
    } while (0)

#define PASS(call)                                                                                           \
    do {                                                                                                     \
        bl_status passed = (call);                                                                           \
        if (passed != BL_OK) {                                                                               \
            return passed;                                                                                   \
        }                                                                                                    \
    } while (0)

static bl_status in_range(const checker *c, const char *what, int64_t value, int64_t low, int64_t high)
{
    REQUIRE(value >= low && value <= high, BL_ERROR_SIZE, what, value, value < low ? low : high);
    return BL_OK;
}

/* Tables, in the order they depend on each other. */

static bl_status check_rates(const checker *c)
{
    PASS(in_range(c, "number of rates", c->spec->rate_count, 1, MOST_RATES));
    for (int32_t i = 0; i < c->spec->rate_count; i++) {
        const bl_rate *rate = &c->spec->rates[i];
        PASS(in_range(c, "numerator of a rate", rate->num, 1, MOST_RATE_TERM));
        PASS(in_range(c, "denominator of a rate", rate->den, 1, MOST_RATE_TERM));
        PASS(in_range(c, "phase of a rate", rate->phase, 0, rate->den - 1));
    }
    const bl_rate *first = c->spec->rates;
    REQUIRE(first->num == 1 && first->den == 1 && first->phase == 0, BL_ERROR_SHAPE, "first rate is not 1/1",
            first->num, 1);
    return BL_OK;
}

static bl_status check_buffers(const checker *c)
{
    int64_t rows = 0;
    PASS(in_range(c, "number of buffers", c->spec->buffer_count, 1, MOST_ENTRIES));
    PASS(in_range(c, "scratch rows", c->spec->scratch_rows, 0, MOST_ROWS));
    for (int32_t i = 0; i < c->spec->buffer_count; i++) {
        const bl_buffer *b = &c->spec->buffers[i];
        REQUIRE(b->kind == BL_BUFFER_SCRATCH || b->kind == BL_BUFFER_RING, BL_ERROR_KIND, "kind of a buffer", b->kind,
                BL_BUFFER_RING);
        REQUIRE(b->rate >= 0 && b->rate < c->spec->rate_count, BL_ERROR_INDEX, "rate of a buffer", b->rate,
                c->spec->rate_count);
        PASS(in_range(c, "rows of a buffer", b->rows, 1, MOST_ROWS));
        if (b->kind == BL_BUFFER_SCRATCH) {
            PASS(in_range(c, "lookback of a scratch buffer", b->lookback_frames, 0, 0));
            PASS(in_range(c, "scratch row of a buffer", b->scratch_row, 0, c->spec->scratch_rows - b->rows));
        } else {
            PASS(in_range(c, "lookback of a ring", b->lookback_frames, 0, MOST_FRAMES));
            rows += b->rows;
        }
    }
    return in_range(c, "rows of all rings", rows, 0, MOST_ROWS);
}

static bl_status check_tensors(const checker *c)
{
    PASS(in_range(c, "number of tensors", c->spec->tensor_count, 1, MOST_ENTRIES));
    for (int32_t i = 0; i < c->spec->tensor_count; i++) {
        const bl_tensor *t = &c->spec->tensors[i];
        REQUIRE(t->buffer >= 0 && t->buffer < c->spec->buffer_count, BL_ERROR_INDEX, "buffer of a tensor", t->buffer,
                c->spec->buffer_count);
        PASS(in_range(c, "channels of a tensor", t->channels, 1, MOST_ROWS));
        PASS(in_range(c, "features of a tensor", t->features, 1, MOST_ROWS));
        int64_t rows = (int64_t)t->channels * t->features;
        PASS(in_range(c, "rows of a tensor", rows, 1, c->spec->buffers[t->buffer].rows));
        PASS(in_range(c, "first row of a tensor", t->first_row, 0, c->spec->buffers[t->buffer].rows - rows));
    }
    return BL_OK;
}

static const bl_tensor *tensor_at(const checker *c, int32_t tensor)
{
    return &c->spec->tensors[tensor];
}

static const bl_buffer *buffer_of(const checker *c, int32_t tensor)
{
    return &c->spec->buffers[tensor_at(c, tensor)->buffer];
}

static int64_t rows_of(const checker *c, int32_t tensor)
{
    return (int64_t)tensor_at(c, tensor)->channels * tensor_at(c, tensor)->features;
}

/* Reading and writing: who owns which row. */

static bl_status check_tensor_index(const checker *c, int32_t tensor)
{
    REQUIRE(tensor >= 0 && tensor < c->spec->tensor_count, BL_ERROR_INDEX, "tensor", tensor, c->spec->tensor_count);
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

/* Whether two tensors share memory. */
static int overlap(const checker *c, int32_t a, int32_t b)
{
    const bl_buffer *in_a = buffer_of(c, a), *in_b = buffer_of(c, b);
    if (in_a->kind != in_b->kind || (in_a->kind == BL_BUFFER_RING && in_a != in_b)) {
        return 0;
    }
    int64_t base_a = in_a->kind == BL_BUFFER_SCRATCH ? in_a->scratch_row : 0;
    int64_t base_b = in_b->kind == BL_BUFFER_SCRATCH ? in_b->scratch_row : 0;
    int64_t first_a = base_a + tensor_at(c, a)->first_row, first_b = base_b + tensor_at(c, b)->first_row;
    return first_a < first_b + rows_of(c, b) && first_b < first_a + rows_of(c, a);
}

static int coincide(const checker *c, int32_t a, int32_t b)
{
    const bl_buffer *in_a = buffer_of(c, a), *in_b = buffer_of(c, b);
    int64_t first_a = in_a->scratch_row + tensor_at(c, a)->first_row;
    int64_t first_b = in_b->scratch_row + tensor_at(c, b)->first_row;
    return overlap(c, a, b) && first_a == first_b && rows_of(c, a) == rows_of(c, b);
}

static bl_status check_apart(const checker *c, int32_t read, int32_t written)
{
    REQUIRE(!overlap(c, read, written), BL_ERROR_ORDER, "output that overwrites an input, tensor", written, read);
    return BL_OK;
}

/* An elementwise input may be overwritten in place, but not at an offset. */
static bl_status check_in_place(const checker *c, int32_t read, int32_t written)
{
    REQUIRE(!overlap(c, read, written) || coincide(c, read, written), BL_ERROR_ORDER,
            "output that half overwrites an input, tensor", written, read);
    return BL_OK;
}

static bl_status check_same(const checker *c, int32_t tensor, int32_t like)
{
    const bl_tensor *a = tensor_at(c, tensor), *b = tensor_at(c, like);
    REQUIRE(a->channels == b->channels, BL_ERROR_SHAPE, "channels", a->channels, b->channels);
    REQUIRE(a->features == b->features, BL_ERROR_SHAPE, "features", a->features, b->features);
    REQUIRE(buffer_of(c, tensor)->rate == buffer_of(c, like)->rate, BL_ERROR_SHAPE, "rate", buffer_of(c, tensor)->rate,
            buffer_of(c, like)->rate);
    return BL_OK;
}

static bl_status check_row_or_same(const checker *c, int32_t tensor, int32_t like)
{
    if (rows_of(c, tensor) != 1) {
        return check_same(c, tensor, like);
    }
    REQUIRE(buffer_of(c, tensor)->rate == buffer_of(c, like)->rate, BL_ERROR_SHAPE, "rate", buffer_of(c, tensor)->rate,
            buffer_of(c, like)->rate);
    /* A row that serves all rows of `like` must outlive the first of them being written. */
    return BL_OK;
}

/* Arrays. */

static bl_status check_array(const checker *c, const bl_op *op, int32_t array, int64_t expected)
{
    const bl_span *span = &op->arrays[array];
    REQUIRE(span->count == expected, BL_ERROR_SHAPE, "numbers in an array", span->count, expected);
    REQUIRE(span->offset >= 0 && span->offset <= c->spec->blob_count - span->count, BL_ERROR_INDEX,
            "offset of an array", span->offset, c->spec->blob_count);
    return BL_OK;
}

static bl_status check_optional_array(const checker *c, const bl_op *op, int32_t array, int64_t expected)
{
    return check_array(c, op, array, op->arrays[array].count == 0 ? 0 : expected);
}

static bl_status check_activation(const checker *c, const bl_op *op, int64_t channels)
{
    static const int8_t counts[BL_ACT_COUNT] = {
        [BL_ACT_LEAKY_RELU] = 1, [BL_ACT_PRELU] = 1, [BL_ACT_HARDTANH] = 2, [BL_ACT_LEAKY_HARDTANH] = 4, [BL_ACT_ELU] = 1,
    };
    REQUIRE(op->activation >= 0 && op->activation < BL_ACT_COUNT, BL_ERROR_KIND, "activation", op->activation,
            BL_ACT_COUNT);
    int64_t expected = counts[op->activation];
    if (op->activation == BL_ACT_PRELU && op->arrays[3].count != 1) {
        expected = channels;
    }
    return check_array(c, op, 3, expected);
}

/* Ops. */

static bl_status check_no_array(const checker *c, const bl_op *op, int32_t first)
{
    for (int32_t i = first; i < BL_OP_ARRAYS; i++) {
        REQUIRE(op->arrays[i].count == 0, BL_ERROR_SHAPE, "numbers in an array that is not used", op->arrays[i].count,
                0);
    }
    return BL_OK;
}

static bl_status check_conv_rate(const checker *c, const bl_op *op)
{
    const bl_rate *from = &c->spec->rates[buffer_of(c, op->inputs[0])->rate];
    const bl_rate *to = &c->spec->rates[buffer_of(c, op->outputs[0])->rate];
    REQUIRE((int64_t)from->num * to->den == (int64_t)to->num * from->den * op->stride && from->phase == 0 && to->phase == 0,
            BL_ERROR_SHAPE, "rate of a convolution's output", to->den, (int64_t)from->den * op->stride);
    return BL_OK;
}

static bl_status check_conv_sums(const checker *c, const bl_op *op)
{
    int32_t y = op->outputs[0], skip_sum = op->outputs[1], mix = op->inputs[1];
    if (mix != BL_NONE) {
        PASS(in_range(c, "mix groups", op->mix_groups, 1, op->groups));
        REQUIRE(rows_of(c, mix) % op->mix_groups == 0 && op->groups % op->mix_groups == 0, BL_ERROR_SHAPE, "mix groups",
                op->mix_groups, op->groups);
        REQUIRE(buffer_of(c, mix)->rate == buffer_of(c, y)->rate, BL_ERROR_SHAPE, "rate of the mix",
                buffer_of(c, mix)->rate, buffer_of(c, y)->rate);
        PASS(check_apart(c, mix, y));
    }
    PASS(check_array(c, op, 2, mix == BL_NONE ? 0 : rows_of(c, y) * (rows_of(c, mix) / op->mix_groups)));
    for (int32_t i = 2; i < 4; i++) {
        if (op->inputs[i] != BL_NONE) {
            PASS(check_same(c, op->inputs[i], y));
            PASS(check_apart(c, op->inputs[i], y));
        }
    }
    REQUIRE((op->inputs[3] == BL_NONE) == (skip_sum == BL_NONE), BL_ERROR_SHAPE, "skip without its sum, tensor",
            skip_sum, op->inputs[3]);
    if (skip_sum != BL_NONE) {
        PASS(check_same(c, skip_sum, y));
        PASS(check_apart(c, y, skip_sum));
        PASS(check_apart(c, op->inputs[0], skip_sum));
        PASS(check_in_place(c, op->inputs[3], skip_sum));
        if (mix != BL_NONE) {
            PASS(check_apart(c, mix, skip_sum));
        }
        if (op->inputs[2] != BL_NONE) {
            PASS(check_apart(c, op->inputs[2], skip_sum));
        }
    }
    return BL_OK;
}

static bl_status check_conv1d(const checker *c, const bl_op *op)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    int64_t in = rows_of(c, x), out = rows_of(c, y);
    PASS(in_range(c, "features of a convolution", tensor_at(c, x)->features, 1, 1));
    PASS(in_range(c, "features of a convolution", tensor_at(c, y)->features, 1, 1));
    PASS(in_range(c, "kernel", op->kernel, 1, MOST_FRAMES));
    PASS(in_range(c, "dilation", op->dilation, 1, MOST_FRAMES));
    PASS(in_range(c, "stride", op->stride, 1, MOST_RATE_TERM));
    PASS(in_range(c, "groups", op->groups, 1, MOST_ROWS));
    REQUIRE(in % op->groups == 0, BL_ERROR_SHAPE, "input channels that groups do not divide", in, op->groups);
    REQUIRE(out % op->groups == 0, BL_ERROR_SHAPE, "output channels that groups do not divide", out, op->groups);
    int64_t reach = (int64_t)(op->kernel - 1) * op->dilation;
    PASS(in_range(c, "reach of the kernel", reach, 0, buffer_of(c, x)->lookback_frames));
    /* Bounded before the product: in and out are at most 2^20, kernel 2^24. */
    int64_t per_tap = out * (in / op->groups);
    PASS(in_range(c, "weights per tap", per_tap, 1, MOST_BLOB));
    PASS(in_range(c, "weights", per_tap <= MOST_BLOB / op->kernel, 1, 1));
    PASS(check_array(c, op, 0, per_tap * op->kernel));
    PASS(check_optional_array(c, op, 1, out));
    PASS(check_activation(c, op, out));
    PASS(check_conv_rate(c, op));
    PASS(check_apart(c, x, y));
    return check_conv_sums(c, op);
}

static bl_status check_activate(const checker *c, const bl_op *op)
{
    PASS(check_same(c, op->outputs[0], op->inputs[0]));
    PASS(check_in_place(c, op->inputs[0], op->outputs[0]));
    for (int32_t i = 0; i < 3; i++) {
        PASS(check_array(c, op, i, 0));
    }
    return check_activation(c, op, tensor_at(c, op->inputs[0])->channels);
}

/* y = f(a, b) with a like y, b like y or one row. */
static bl_status check_rows(const checker *c, const bl_op *op, int one_row_allowed)
{
    int32_t a = op->inputs[0], b = op->inputs[1], y = op->outputs[0];
    PASS(check_same(c, y, a));
    PASS(check_in_place(c, a, y));
    if (one_row_allowed && rows_of(c, b) == 1 && rows_of(c, y) != 1) {
        PASS(check_row_or_same(c, b, y));
        PASS(check_apart(c, b, y));
    } else {
        PASS(check_same(c, b, y));
        PASS(check_in_place(c, b, y));
    }
    return check_no_array(c, op, 0);
}

static bl_status check_affine(const checker *c, const bl_op *op)
{
    int64_t channels = tensor_at(c, op->inputs[0])->channels;
    PASS(check_same(c, op->outputs[0], op->inputs[0]));
    PASS(check_in_place(c, op->inputs[0], op->outputs[0]));
    PASS(check_array(c, op, 0, op->arrays[0].count == 1 ? 1 : channels));
    PASS(check_optional_array(c, op, 1, op->arrays[1].count == 1 ? 1 : channels));
    return check_no_array(c, op, 2);
}

static bl_status check_crossfade(const checker *c, const bl_op *op)
{
    int32_t t = op->inputs[2], y = op->outputs[0];
    PASS(check_rows(c, op, 0));
    PASS(check_row_or_same(c, t, y));
    return rows_of(c, t) == rows_of(c, y) ? check_in_place(c, t, y) : check_apart(c, t, y);
}

static bl_status check_lstm(const checker *c, const bl_op *op)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    int64_t in = rows_of(c, x), hidden = rows_of(c, y);
    PASS(in_range(c, "features of an LSTM", tensor_at(c, x)->features * (int64_t)tensor_at(c, y)->features, 1, 1));
    REQUIRE(buffer_of(c, x)->rate == buffer_of(c, y)->rate, BL_ERROR_SHAPE, "rate", buffer_of(c, y)->rate,
            buffer_of(c, x)->rate);
    PASS(check_apart(c, x, y));
    PASS(in_range(c, "weights of an LSTM", (in + hidden) * hidden, 1, MOST_BLOB / 4));
    PASS(check_array(c, op, 0, 4 * hidden * in));
    PASS(check_array(c, op, 1, 4 * hidden * hidden));
    PASS(check_array(c, op, 2, 4 * hidden));
    PASS(check_optional_array(c, op, 3, hidden));
    PASS(check_optional_array(c, op, 4, hidden));
    return check_no_array(c, op, 5);
}

static bl_status check_knob(const checker *c, const bl_op *op)
{
    PASS(in_range(c, "rows of a knob", rows_of(c, op->outputs[0]), 1, 1));
    REQUIRE(buffer_of(c, op->outputs[0])->rate == 0, BL_ERROR_SHAPE, "rate of a knob", buffer_of(c, op->outputs[0])->rate,
            0);
    PASS(in_range(c, "ramp", op->ramp_frames, 0, MOST_FRAMES));
    PASS(check_array(c, op, 0, 3));
    const float *range = c->spec->blob + op->arrays[0].offset;
    REQUIRE(range[1] <= range[0] && range[0] <= range[2], BL_ERROR_VALUE, "default outside a knob's range", 0, 0);
    return check_no_array(c, op, 1);
}

typedef bl_status op_check(const checker *c, const bl_op *op);

static bl_status check_add(const checker *c, const bl_op *op) { return check_rows(c, op, 0); }
static bl_status check_multiply(const checker *c, const bl_op *op) { return check_rows(c, op, 1); }

/* Which tensors an op kind must and may have, and its own test. */
static const struct op_rule {
    op_check *check;
    int8_t inputs;         /* required */
    int8_t optional_inputs;
    int8_t optional_outputs;
} rules[] = {
    [BL_OP_CONV1D] = {check_conv1d, 1, 3, 1}, [BL_OP_ACTIVATE] = {check_activate, 1, 0, 0},
    [BL_OP_ADD] = {check_add, 2, 0, 0},       [BL_OP_MULTIPLY] = {check_multiply, 2, 0, 0},
    [BL_OP_AFFINE] = {check_affine, 1, 0, 0}, [BL_OP_CROSSFADE] = {check_crossfade, 3, 0, 0},
    [BL_OP_LSTM] = {check_lstm, 1, 0, 0},     [BL_OP_KNOB] = {check_knob, 0, 0, 0},
};

static bl_status check_op(const checker *c, const bl_op *op)
{
    REQUIRE(op->kind >= BL_OP_CONV1D && op->kind <= BL_OP_KNOB, BL_ERROR_KIND, "kind of an op", op->kind, BL_OP_KNOB);
    const struct op_rule *rule = &rules[op->kind];
    for (int32_t i = 0; i < BL_OP_INPUTS; i++) {
        int allowed = i < rule->inputs + rule->optional_inputs;
        REQUIRE(op->inputs[i] == BL_NONE ? i >= rule->inputs : allowed, BL_ERROR_SHAPE, "input that is missing or too many",
                i, rule->inputs);
        if (op->inputs[i] != BL_NONE) {
            PASS(check_read(c, op->inputs[i]));
        }
    }
    for (int32_t i = 0; i < BL_OP_OUTPUTS; i++) {
        int allowed = i < 1 + rule->optional_outputs;
        REQUIRE(op->outputs[i] == BL_NONE ? i >= 1 : allowed, BL_ERROR_SHAPE, "output that is missing or too many", i, 1);
        if (op->outputs[i] != BL_NONE) {
            PASS(check_tensor_index(c, op->outputs[i]));
        }
    }
    for (int32_t i = 0; i < BL_OP_ARRAYS; i++) {
        PASS(in_range(c, "numbers in an array", op->arrays[i].count, 0, c->spec->blob_count));
    }
    PASS(rule->check(c, op));
    for (int32_t i = 0; i < BL_OP_OUTPUTS; i++) {
        if (op->outputs[i] != BL_NONE) {
            /* A ring has one writer per row: a second one would rewrite the past its readers look at. */
            int again = buffer_of(c, op->outputs[i])->kind == BL_BUFFER_RING && check_read(c, op->outputs[i]) == BL_OK;
            REQUIRE(!again, BL_ERROR_ORDER, "ring written twice, tensor", op->outputs[i], BL_NONE);
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
    REQUIRE(buffer_of(c, spec->input)->rate == 0, BL_ERROR_SHAPE, "rate of the input", buffer_of(c, spec->input)->rate,
            0);
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
    PASS(in_range(c, "number of ops", spec->op_count, 0, MOST_ENTRIES));
    PASS(in_range(c, "prewarm", spec->prewarm_frames, 0, MOST_FRAMES));
    PASS(in_range(c, "numbers in the blob", spec->blob_count, 0, MOST_BLOB));
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
