/* [main] Distrust of single ops: what each kind asks of its tensors, arrays and fields. */
#include "check.h"

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
    REQUIRE(!overlap(c, read, written), BL_ERROR_ORDER, "output that overwrites an input, tensor", written,
            read);
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
    REQUIRE(buffer_of(c, tensor)->rate == buffer_of(c, like)->rate, BL_ERROR_SHAPE, "rate",
            buffer_of(c, tensor)->rate, buffer_of(c, like)->rate);
    return BL_OK;
}

/* One row that serves all rows of `like`, or a tensor of its shape. */
static bl_status check_row_or_same(const checker *c, int32_t tensor, int32_t like)
{
    if (rows_of(c, tensor) != 1) {
        return check_same(c, tensor, like);
    }
    REQUIRE(buffer_of(c, tensor)->rate == buffer_of(c, like)->rate, BL_ERROR_SHAPE, "rate",
            buffer_of(c, tensor)->rate, buffer_of(c, like)->rate);
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
        [BL_ACT_LEAKY_RELU] = 1,     [BL_ACT_PRELU] = 1, [BL_ACT_HARDTANH] = 2,
        [BL_ACT_LEAKY_HARDTANH] = 4, [BL_ACT_ELU] = 1,
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
        REQUIRE(op->arrays[i].count == 0, BL_ERROR_SHAPE, "numbers in an array that is not used",
                op->arrays[i].count, 0);
    }
    return BL_OK;
}

static bl_status check_conv_rate(const checker *c, const bl_op *op)
{
    const bl_rate *from = &c->spec->rates[buffer_of(c, op->inputs[0])->rate];
    const bl_rate *to = &c->spec->rates[buffer_of(c, op->outputs[0])->rate];
    REQUIRE((int64_t)from->num * to->den == (int64_t)to->num * from->den * op->stride && from->phase == 0
                && to->phase == 0,
            BL_ERROR_SHAPE, "rate of a convolution's output", to->den, (int64_t)from->den * op->stride);
    return BL_OK;
}

static bl_status check_conv_sums(const checker *c, const bl_op *op)
{
    int32_t y = op->outputs[0], skip_sum = op->outputs[1], mix = op->inputs[1];
    if (mix != BL_NONE) {
        PASS(bl_check_range(c, "mix groups", op->mix_groups, 1, op->groups));
        REQUIRE(rows_of(c, mix) % op->mix_groups == 0 && op->groups % op->mix_groups == 0, BL_ERROR_SHAPE,
                "mix groups", op->mix_groups, op->groups);
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
    REQUIRE((op->inputs[3] == BL_NONE) == (skip_sum == BL_NONE), BL_ERROR_SHAPE,
            "skip without its sum, tensor", skip_sum, op->inputs[3]);
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
    PASS(bl_check_range(c, "features of a convolution", tensor_at(c, x)->features, 1, 1));
    PASS(bl_check_range(c, "features of a convolution", tensor_at(c, y)->features, 1, 1));
    PASS(bl_check_range(c, "kernel", op->kernel, 1, MOST_FRAMES));
    PASS(bl_check_range(c, "dilation", op->dilation, 1, MOST_FRAMES));
    PASS(bl_check_range(c, "stride", op->stride, 1, MOST_RATE_TERM));
    PASS(bl_check_range(c, "groups", op->groups, 1, MOST_ROWS));
    REQUIRE(in % op->groups == 0, BL_ERROR_SHAPE, "input channels that groups do not divide", in, op->groups);
    REQUIRE(out % op->groups == 0, BL_ERROR_SHAPE, "output channels that groups do not divide", out,
            op->groups);
    int64_t reach = (int64_t)(op->kernel - 1) * op->dilation;
    PASS(bl_check_range(c, "reach of the kernel", reach, 0, buffer_of(c, x)->lookback_frames));
    /* Bounded before the product: in and out are at most 2^20, kernel 2^24. */
    int64_t per_tap = out * (in / op->groups);
    PASS(bl_check_range(c, "weights per tap", per_tap, 1, MOST_BLOB / op->kernel));
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
    PASS(bl_check_range(c, "features of an LSTM",
                        tensor_at(c, x)->features * (int64_t)tensor_at(c, y)->features, 1, 1));
    REQUIRE(buffer_of(c, x)->rate == buffer_of(c, y)->rate, BL_ERROR_SHAPE, "rate", buffer_of(c, y)->rate,
            buffer_of(c, x)->rate);
    PASS(check_apart(c, x, y));
    PASS(bl_check_range(c, "weights of an LSTM", (in + hidden) * hidden, 1, MOST_BLOB / 4));
    PASS(check_array(c, op, 0, 4 * hidden * in));
    PASS(check_array(c, op, 1, 4 * hidden * hidden));
    PASS(check_array(c, op, 2, 4 * hidden));
    PASS(check_optional_array(c, op, 3, hidden));
    PASS(check_optional_array(c, op, 4, hidden));
    return check_no_array(c, op, 5);
}

static bl_status check_knob(const checker *c, const bl_op *op)
{
    PASS(bl_check_range(c, "rows of a knob", rows_of(c, op->outputs[0]), 1, 1));
    REQUIRE(buffer_of(c, op->outputs[0])->rate == 0, BL_ERROR_SHAPE, "rate of a knob",
            buffer_of(c, op->outputs[0])->rate, 0);
    PASS(bl_check_range(c, "ramp", op->ramp_frames, 0, MOST_FRAMES));
    PASS(check_array(c, op, 0, 3));
    const float *range = c->spec->blob + op->arrays[0].offset;
    REQUIRE(range[1] <= range[0] && range[0] <= range[2], BL_ERROR_VALUE,
            "default of a knob outside its range, near", (int64_t)range[0],
            (int64_t)(range[0] < range[1] ? range[1] : range[2]));
    return check_no_array(c, op, 1);
}

typedef bl_status op_check(const checker *c, const bl_op *op);

static bl_status check_add(const checker *c, const bl_op *op) { return check_rows(c, op, 0); }
static bl_status check_multiply(const checker *c, const bl_op *op) { return check_rows(c, op, 1); }

/* Which tensors an op kind must and may have, and its own test. */
static const struct op_rule {
    op_check *check;
    int8_t inputs; /* required */
    int8_t optional_inputs;
    int8_t optional_outputs;
} rules[] = {
    [BL_OP_CONV1D] = {check_conv1d, 1, 3, 1}, [BL_OP_ACTIVATE] = {check_activate, 1, 0, 0},
    [BL_OP_ADD] = {check_add, 2, 0, 0},       [BL_OP_MULTIPLY] = {check_multiply, 2, 0, 0},
    [BL_OP_AFFINE] = {check_affine, 1, 0, 0}, [BL_OP_CROSSFADE] = {check_crossfade, 3, 0, 0},
    [BL_OP_LSTM] = {check_lstm, 1, 0, 0},     [BL_OP_KNOB] = {check_knob, 0, 0, 0},
};

op_arity bl_check_arity(int32_t kind)
{
    const struct op_rule *rule = &rules[kind];
    return (op_arity){rule->inputs, rule->optional_inputs, 1, rule->optional_outputs};
}

bl_status bl_check_op_shapes(const checker *c, const bl_op *op) { return rules[op->kind].check(c, op); }
