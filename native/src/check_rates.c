/* [main] Distrust of the ops that move frames in time: delays, pools, and changes of rate. */
#include "check.h"

static bl_status check_lookback(const checker *c, int32_t tensor, int64_t frames)
{
    return bl_check_range(c, "frames looked back", frames, 0, buffer_of(c, tensor)->lookback_frames);
}

bl_status bl_check_copy(const checker *c, const bl_op *op)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    REQUIRE(rows_of(c, x) == rows_of(c, y), BL_ERROR_SHAPE, "rows of a copy", rows_of(c, y), rows_of(c, x));
    PASS(bl_check_same_rate(c, y, x));
    PASS(bl_check_apart(c, x, y));
    PASS(bl_check_range(c, "delay", op->delay_frames, 0, MOST_FRAMES));
    PASS(bl_check_range(c, "start", op->start_frames, -MOST_FRAMES, MOST_FRAMES));
    PASS(check_lookback(c, x, op->delay_frames));
    return bl_check_no_array(c, op, 0);
}

bl_status bl_check_maxpool(const checker *c, const bl_op *op)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    REQUIRE(rows_of(c, x) == rows_of(c, y), BL_ERROR_SHAPE, "rows of a pool", rows_of(c, y), rows_of(c, x));
    PASS(bl_check_range(c, "kernel of a pool", op->kernel, 1, MOST_POOL));
    PASS(bl_check_range(c, "dilation", op->dilation, 1, MOST_FRAMES));
    PASS(bl_check_range(c, "stride", op->stride, 1, MOST_RATE_TERM));
    PASS(bl_check_range(c, "start", op->start_frames, -MOST_FRAMES, MOST_FRAMES));
    PASS(check_lookback(c, x, (int64_t)(op->kernel - 1) * op->dilation));
    PASS(bl_check_rate_ratio(c, y, x, op->stride));
    PASS(bl_check_apart(c, x, y));
    return bl_check_no_array(c, op, 0);
}

/* y has `factor` frames for each of x. */
static bl_status check_upwards(const checker *c, const bl_op *op, int64_t rows, int64_t lookback)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    PASS(bl_check_range(c, "factor", op->factor, 1, MOST_RATE_TERM));
    REQUIRE(rows_of(c, x) == rows, BL_ERROR_SHAPE, "rows of the input", rows_of(c, x), rows);
    PASS(check_lookback(c, x, lookback));
    PASS(bl_check_rate_ratio(c, x, y, op->factor));
    PASS(bl_check_apart(c, x, y));
    return bl_check_no_array(c, op, 0);
}

bl_status bl_check_upsample(const checker *c, const bl_op *op)
{
    return check_upwards(c, op, rows_of(c, op->outputs[0]), 1);
}

bl_status bl_check_interpolate(const checker *c, const bl_op *op)
{
    PASS(bl_check_range(c, "start", op->start_frames, -MOST_FRAMES, MOST_FRAMES));
    return check_upwards(c, op, rows_of(c, op->outputs[0]), 2);
}

bl_status bl_check_interleave(const checker *c, const bl_op *op)
{
    for (int32_t i = 0; i < 2; i++) {
        int32_t tensor = i ? op->outputs[0] : op->inputs[0];
        PASS(bl_check_range(c, "features to interleave", tensor_at(c, tensor)->features, 1, 1));
    }
    PASS(bl_check_range(c, "factor", op->factor, 1, MOST_RATE_TERM));
    return check_upwards(c, op, rows_of(c, op->outputs[0]) * op->factor, 1);
}

bl_status bl_check_resample(const checker *c, const bl_op *op)
{
    int32_t x = op->inputs[0], y = op->outputs[0];
    REQUIRE(rows_of(c, x) == rows_of(c, y), BL_ERROR_SHAPE, "rows of a resampler", rows_of(c, y),
            rows_of(c, x));
    PASS(bl_check_range(c, "taps of a resampler", op->kernel, 1, MOST_RESAMPLE));
    PASS(bl_check_range(c, "factor", op->factor, 1, MOST_RATE_TERM));
    PASS(bl_check_range(c, "stride", op->stride, 1, MOST_RATE_TERM));
    PASS(check_lookback(c, x, op->kernel));
    PASS(bl_check_rate_fraction(c, x, y, op->factor, op->stride));
    PASS(bl_check_apart(c, x, y));
    PASS(bl_check_array(c, op, 0, (int64_t)op->factor * op->kernel));
    return bl_check_no_array(c, op, 1);
}
