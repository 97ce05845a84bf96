/* [main] What the rules of all kinds of op are made of: tensors that fit or keep apart, arrays, fields. */
#include "check.h"

#include <float.h>

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

bl_status bl_check_apart(const checker *c, int32_t read, int32_t written)
{
    REQUIRE(!overlap(c, read, written), BL_ERROR_ORDER, "output that overwrites an input, tensor", written,
            read);
    return BL_OK;
}

bl_status bl_check_in_place(const checker *c, int32_t read, int32_t written)
{
    REQUIRE(!overlap(c, read, written) || coincide(c, read, written), BL_ERROR_ORDER,
            "output that half overwrites an input, tensor", written, read);
    return BL_OK;
}

bl_status bl_check_same_rate(const checker *c, int32_t tensor, int32_t like)
{
    REQUIRE(buffer_of(c, tensor)->rate == buffer_of(c, like)->rate, BL_ERROR_SHAPE, "rate",
            buffer_of(c, tensor)->rate, buffer_of(c, like)->rate);
    return BL_OK;
}

bl_status bl_check_rate_ratio(const checker *c, int32_t slow, int32_t fast, int32_t factor)
{
    return bl_check_rate_fraction(c, slow, fast, factor, 1);
}

bl_status bl_check_rate_fraction(const checker *c, int32_t slow, int32_t fast, int32_t factor, int32_t stride)
{
    const bl_rate *from = &c->spec->rates[buffer_of(c, slow)->rate];
    const bl_rate *to = &c->spec->rates[buffer_of(c, fast)->rate];
    int64_t expected = (int64_t)from->num * to->den * factor, found = (int64_t)to->num * from->den * stride;
    REQUIRE(found == expected, BL_ERROR_SHAPE,
            "rate of an output: its numerator times the other's denominator", found, expected);
    REQUIRE(from->phase == 0 && to->phase == 0, BL_ERROR_SHAPE, "phase of a rate that changes",
            from->phase ? from->phase : to->phase, 0);
    return BL_OK;
}

bl_status bl_check_same(const checker *c, int32_t tensor, int32_t like)
{
    const bl_tensor *a = tensor_at(c, tensor), *b = tensor_at(c, like);
    REQUIRE(a->channels == b->channels, BL_ERROR_SHAPE, "channels", a->channels, b->channels);
    REQUIRE(a->features == b->features, BL_ERROR_SHAPE, "features", a->features, b->features);
    return bl_check_same_rate(c, tensor, like);
}

bl_status bl_check_row_or_same(const checker *c, int32_t tensor, int32_t like)
{
    return rows_of(c, tensor) == 1 ? bl_check_same_rate(c, tensor, like) : bl_check_same(c, tensor, like);
}

bl_status bl_check_array(const checker *c, const bl_op *op, int32_t array, int64_t expected)
{
    const bl_span *span = &op->arrays[array];
    REQUIRE(span->count == expected, BL_ERROR_SHAPE, "numbers in an array", span->count, expected);
    REQUIRE(span->offset >= 0 && span->offset <= c->spec->blob_count - span->count, BL_ERROR_INDEX,
            "offset of an array", span->offset, c->spec->blob_count);
    return BL_OK;
}

bl_status bl_check_optional_array(const checker *c, const bl_op *op, int32_t array, int64_t expected)
{
    return bl_check_array(c, op, array, op->arrays[array].count == 0 ? 0 : expected);
}

bl_status bl_check_no_array(const checker *c, const bl_op *op, int32_t first)
{
    for (int32_t i = first; i < BL_OP_ARRAYS; i++) {
        REQUIRE(op->arrays[i].count == 0, BL_ERROR_SHAPE, "numbers in an array that is not used",
                op->arrays[i].count, 0);
    }
    return BL_OK;
}

/* SOFTPLUS and SNAKE divide by their parameters: they have to be numbers that flush-to-zero leaves alone. */
static bl_status check_divisors(const checker *c, const bl_op *op)
{
    const float *parameters = c->spec->blob + op->arrays[3].offset;
    for (int64_t i = 0; i < op->arrays[3].count; i++) {
        float value = parameters[i];
        if (op->activation == BL_ACT_SOFTPLUS) {
            REQUIRE(value >= FLT_MIN, BL_ERROR_VALUE, "beta of a softplus that is not above 0, at", i, 0);
        }
        if (op->activation == BL_ACT_SNAKE) {
            REQUIRE(value >= FLT_MIN || value <= -FLT_MIN, BL_ERROR_VALUE, "alpha of a snake that is 0, at",
                    i, 0);
        }
    }
    return BL_OK;
}

bl_status bl_check_activation(const checker *c, const bl_op *op, int64_t channels)
{
    static const int8_t counts[BL_ACT_COUNT] = {
        [BL_ACT_LEAKY_RELU] = 1, [BL_ACT_PRELU] = 1,    [BL_ACT_HARDTANH] = 2, [BL_ACT_LEAKY_HARDTANH] = 4,
        [BL_ACT_ELU] = 1,        [BL_ACT_SOFTPLUS] = 1, [BL_ACT_SNAKE] = 1,    [BL_ACT_HARDSIGMOID] = 2,
    };
    REQUIRE(op->activation >= 0 && op->activation < BL_ACT_COUNT, BL_ERROR_KIND, "activation", op->activation,
            BL_ACT_COUNT);
    int64_t expected = counts[op->activation];
    if ((op->activation == BL_ACT_PRELU || op->activation == BL_ACT_SNAKE) && op->arrays[3].count != 1) {
        expected = channels;
    }
    PASS(bl_check_array(c, op, 3, expected));
    return check_divisors(c, op);
}

bl_status bl_check_fields(const checker *c, const bl_op *op, uint32_t used)
{
    const struct field {
        uint32_t flag;
        int32_t value;
        const char *what;
    } fields[] = {
        {FIELD_ACTIVATION, op->activation, "activation of an op that has none"},
        {FIELD_KERNEL, op->kernel, "kernel of an op that has none"},
        {FIELD_DILATION, op->dilation, "dilation of an op that has none"},
        {FIELD_STRIDE, op->stride, "stride of an op that has none"},
        {FIELD_GROUPS, op->groups, "groups of an op that has none"},
        {FIELD_MIX_GROUPS, op->mix_groups, "mix groups of an op that has none"},
        {FIELD_RAMP, op->ramp_frames, "ramp of an op that has none"},
        {FIELD_DELAY, op->delay_frames, "delay of an op that has none"},
        {FIELD_START, op->start_frames, "start of an op that has none"},
        {FIELD_FACTOR, op->factor, "factor of an op that has none"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        REQUIRE(used & fields[i].flag || fields[i].value == 0, BL_ERROR_SHAPE, fields[i].what,
                fields[i].value, 0);
    }
    return BL_OK;
}
