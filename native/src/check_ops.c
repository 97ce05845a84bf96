/* [main] Distrust of single ops: what each kind asks of its tensors, arrays and fields. */
#include "check.h"

static bl_status check_conv_sums(const checker *c, const bl_op *op)
{
    int32_t y = op->outputs[0], skip_sum = op->outputs[1], mix = op->inputs[1];
    if (mix != BL_NONE) {
        PASS(bl_check_range(c, "mix groups", op->mix_groups, 1, op->groups));
        REQUIRE(rows_of(c, mix) % op->mix_groups == 0 && op->groups % op->mix_groups == 0, BL_ERROR_SHAPE,
                "mix groups", op->mix_groups, op->groups);
        REQUIRE(buffer_of(c, mix)->rate == buffer_of(c, y)->rate, BL_ERROR_SHAPE, "rate of the mix",
                buffer_of(c, mix)->rate, buffer_of(c, y)->rate);
        PASS(bl_check_apart(c, mix, y));
    }
    PASS(bl_check_array(c, op, 2, mix == BL_NONE ? 0 : rows_of(c, y) * (rows_of(c, mix) / op->mix_groups)));
    for (int32_t i = 2; i < 4; i++) {
        if (op->inputs[i] != BL_NONE) {
            PASS(bl_check_same(c, op->inputs[i], y));
            PASS(bl_check_apart(c, op->inputs[i], y));
        }
    }
    REQUIRE((op->inputs[3] == BL_NONE) == (skip_sum == BL_NONE), BL_ERROR_SHAPE,
            "skip without its sum, tensor", skip_sum, op->inputs[3]);
    if (skip_sum != BL_NONE) {
        PASS(bl_check_same(c, skip_sum, y));
        PASS(bl_check_apart(c, y, skip_sum));
        PASS(bl_check_apart(c, op->inputs[0], skip_sum));
        PASS(bl_check_in_place(c, op->inputs[3], skip_sum));
        if (mix != BL_NONE) {
            PASS(bl_check_apart(c, mix, skip_sum));
        }
        if (op->inputs[2] != BL_NONE) {
            PASS(bl_check_apart(c, op->inputs[2], skip_sum));
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
    PASS(bl_check_array(c, op, 0, per_tap * op->kernel));
    PASS(bl_check_optional_array(c, op, 1, out));
    PASS(bl_check_activation(c, op, out));
    PASS(bl_check_rate_ratio(c, y, x, op->stride));
    PASS(bl_check_apart(c, x, y));
    return check_conv_sums(c, op);
}

static bl_status check_activate(const checker *c, const bl_op *op)
{
    PASS(bl_check_same(c, op->outputs[0], op->inputs[0]));
    PASS(bl_check_in_place(c, op->inputs[0], op->outputs[0]));
    for (int32_t i = 0; i < 3; i++) {
        PASS(bl_check_array(c, op, i, 0));
    }
    return bl_check_activation(c, op, tensor_at(c, op->inputs[0])->channels);
}

/* y = f(a, b) with a like y, b like y or one row. */
static bl_status check_rows(const checker *c, const bl_op *op, int one_row_allowed)
{
    int32_t a = op->inputs[0], b = op->inputs[1], y = op->outputs[0];
    PASS(bl_check_same(c, y, a));
    PASS(bl_check_in_place(c, a, y));
    if (one_row_allowed && rows_of(c, b) == 1 && rows_of(c, y) != 1) {
        PASS(bl_check_row_or_same(c, b, y));
        PASS(bl_check_apart(c, b, y));
    } else {
        PASS(bl_check_same(c, b, y));
        PASS(bl_check_in_place(c, b, y));
    }
    return bl_check_no_array(c, op, 0);
}

static bl_status check_affine(const checker *c, const bl_op *op)
{
    int64_t channels = tensor_at(c, op->inputs[0])->channels;
    PASS(bl_check_same(c, op->outputs[0], op->inputs[0]));
    PASS(bl_check_in_place(c, op->inputs[0], op->outputs[0]));
    PASS(bl_check_array(c, op, 0, op->arrays[0].count == 1 ? 1 : channels));
    PASS(bl_check_optional_array(c, op, 1, op->arrays[1].count == 1 ? 1 : channels));
    return bl_check_no_array(c, op, 2);
}

static bl_status check_crossfade(const checker *c, const bl_op *op)
{
    int32_t t = op->inputs[2], y = op->outputs[0];
    PASS(check_rows(c, op, 0));
    PASS(bl_check_row_or_same(c, t, y));
    return rows_of(c, t) == rows_of(c, y) ? bl_check_in_place(c, t, y) : bl_check_apart(c, t, y);
}

/* LSTM and GRU: `gates` blocks of weights, `biases` arrays of biases, then `states` first states. */
static bl_status check_recurrent(const checker *c, const bl_op *op, int64_t gates, int32_t biases,
                                 int32_t states)
{
    int32_t x = op->inputs[0], y = op->outputs[0], array = 2;
    int64_t in = rows_of(c, x), hidden = rows_of(c, y);
    PASS(bl_check_range(c, "features of a recurrent layer",
                        tensor_at(c, x)->features * (int64_t)tensor_at(c, y)->features, 1, 1));
    PASS(bl_check_same_rate(c, y, x));
    PASS(bl_check_apart(c, x, y));
    PASS(bl_check_range(c, "start", op->start_frames, -MOST_FRAMES, MOST_FRAMES));
    PASS(bl_check_range(c, "weights of a recurrent layer", (in + hidden) * hidden, 1, MOST_BLOB / 4));
    PASS(bl_check_array(c, op, 0, gates * hidden * in));
    PASS(bl_check_array(c, op, 1, gates * hidden * hidden));
    for (int32_t end = array + biases; array < end; array++) {
        PASS(bl_check_array(c, op, array, gates * hidden));
    }
    for (int32_t end = array + states; array < end; array++) {
        PASS(bl_check_optional_array(c, op, array, hidden));
    }
    return bl_check_no_array(c, op, array);
}

static bl_status check_lstm(const checker *c, const bl_op *op) { return check_recurrent(c, op, 4, 1, 2); }
static bl_status check_gru(const checker *c, const bl_op *op) { return check_recurrent(c, op, 3, 2, 1); }

static bl_status check_knob(const checker *c, const bl_op *op)
{
    PASS(bl_check_range(c, "rows of a knob", rows_of(c, op->outputs[0]), 1, 1));
    REQUIRE(buffer_of(c, op->outputs[0])->rate == 0, BL_ERROR_SHAPE, "rate of a knob",
            buffer_of(c, op->outputs[0])->rate, 0);
    PASS(bl_check_range(c, "ramp", op->ramp_frames, 0, MOST_FRAMES));
    PASS(bl_check_array(c, op, 0, 3));
    const float *range = c->spec->blob + op->arrays[0].offset;
    REQUIRE(range[1] <= range[0] && range[0] <= range[2], BL_ERROR_VALUE,
            "default of a knob outside its range, near", (int64_t)range[0],
            (int64_t)(range[0] < range[1] ? range[1] : range[2]));
    return bl_check_no_array(c, op, 1);
}

static bl_status check_add(const checker *c, const bl_op *op) { return check_rows(c, op, 0); }
static bl_status check_multiply(const checker *c, const bl_op *op) { return check_rows(c, op, 1); }

enum {
    FIELDS_CONV1D = FIELD_ACTIVATION | FIELD_KERNEL | FIELD_DILATION | FIELD_STRIDE | FIELD_GROUPS
        | FIELD_MIX_GROUPS,
    FIELDS_MAXPOOL = FIELD_KERNEL | FIELD_DILATION | FIELD_STRIDE | FIELD_START,
    FIELDS_RESAMPLE = FIELD_KERNEL | FIELD_STRIDE | FIELD_FACTOR,
};

/* Which tensors an op kind must and may have, its own test, and the fields it names. */
static const struct op_rule {
    op_check *check;
    int8_t inputs; /* required */
    int8_t optional_inputs;
    int8_t optional_outputs;
    uint16_t fields;
} rules[] = {
    [BL_OP_CONV1D] = {check_conv1d, 1, 3, 1, FIELDS_CONV1D},
    [BL_OP_ACTIVATE] = {check_activate, 1, 0, 0, FIELD_ACTIVATION},
    [BL_OP_ADD] = {check_add, 2, 0, 0, 0},
    [BL_OP_MULTIPLY] = {check_multiply, 2, 0, 0, 0},
    [BL_OP_AFFINE] = {check_affine, 1, 0, 0, 0},
    [BL_OP_CROSSFADE] = {check_crossfade, 3, 0, 0, 0},
    [BL_OP_LSTM] = {check_lstm, 1, 0, 0, FIELD_START},
    [BL_OP_KNOB] = {check_knob, 0, 0, 0, FIELD_RAMP},
    [BL_OP_GRU] = {check_gru, 1, 0, 0, FIELD_START},
    [BL_OP_COPY] = {bl_check_copy, 1, 0, 0, FIELD_DELAY | FIELD_START},
    [BL_OP_MAXPOOL] = {bl_check_maxpool, 1, 0, 0, FIELDS_MAXPOOL},
    [BL_OP_UPSAMPLE] = {bl_check_upsample, 1, 0, 0, FIELD_FACTOR},
    [BL_OP_INTERPOLATE] = {bl_check_interpolate, 1, 0, 0, FIELD_FACTOR | FIELD_START},
    [BL_OP_INTERLEAVE] = {bl_check_interleave, 1, 0, 0, FIELD_FACTOR},
    [BL_OP_RESAMPLE] = {bl_check_resample, 1, 0, 0, FIELDS_RESAMPLE},
};

op_arity bl_check_arity(int32_t kind)
{
    const struct op_rule *rule = &rules[kind];
    return (op_arity){rule->inputs, rule->optional_inputs, 1, rule->optional_outputs};
}

bl_status bl_check_op_shapes(const checker *c, const bl_op *op)
{
    PASS(bl_check_fields(c, op, rules[op->kind].fields));
    return rules[op->kind].check(c, op);
}
