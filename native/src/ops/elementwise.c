/* [audio] Ops that look at one frame at a time: activations, sums, products, crossfades. */
#include "../internal.h"

void bl_run_activate(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    const bl_kernels *kernels = m->engine->program->kernels;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    const bl_tensor *tensor = bl_tensor_at(m, op->outputs[0]);
    for (int32_t f = 0; f < tensor->features; f++) {
        bl_rows from = {x.p + (int64_t)f * tensor->channels * x.pitch, x.pitch};
        bl_rows to = {y.p + (int64_t)f * tensor->channels * y.pitch, y.pitch};
        if (op->activation == BL_ACT_SOFTMAX) {
            kernels->softmax(from, to, tensor->channels, frames);
        } else {
            kernels->activate((bl_activation)op->activation, step->second, bl_parameter_step(op), from, to,
                              tensor->channels, frames);
        }
    }
}

typedef void row_function(const float *a, const float *b, float *y, int32_t frames);

/* y[r] = f(a[r], b[r]); a one-row b serves all rows. */
static void each_row(const bl_step *step, const bl_moment *m, row_function *function)
{
    const bl_op *op = &step->op;
    bl_rows a = bl_tensor_rows(m, op->inputs[0]), b = bl_tensor_rows(m, op->inputs[1]);
    bl_rows y = bl_tensor_rows(m, op->outputs[0]);
    int64_t b_pitch = bl_tensor_row_count(bl_tensor_at(m, op->inputs[1])) == 1 ? 0 : b.pitch;
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        function(a.p + r * a.pitch, b.p + r * b_pitch, y.p + r * y.pitch, frames);
    }
}

void bl_run_add(const bl_step *step, const bl_moment *m)
{
    each_row(step, m, m->engine->program->kernels->add);
}

void bl_run_multiply(const bl_step *step, const bl_moment *m)
{
    each_row(step, m, m->engine->program->kernels->multiply);
}

void bl_run_affine(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    const bl_tensor *tensor = bl_tensor_at(m, op->outputs[0]);
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    for (int32_t r = 0; r < bl_tensor_row_count(tensor); r++) {
        int32_t channel = r % tensor->channels;
        float scale = step->weights[op->arrays[0].count > 1 ? channel : 0];
        float shift = step->second ? step->second[op->arrays[1].count > 1 ? channel : 0] : 0.0f;
        m->engine->program->kernels->affine(x.p + r * x.pitch, scale, shift, y.p + r * y.pitch, frames);
    }
}

void bl_run_crossfade(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows a = bl_tensor_rows(m, op->inputs[0]), b = bl_tensor_rows(m, op->inputs[1]);
    bl_rows t = bl_tensor_rows(m, op->inputs[2]), y = bl_tensor_rows(m, op->outputs[0]);
    int64_t t_pitch = bl_tensor_row_count(bl_tensor_at(m, op->inputs[2])) == 1 ? 0 : t.pitch;
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        m->engine->program->kernels->crossfade(a.p + r * a.pitch, b.p + r * b.pitch, t.p + r * t_pitch,
                                               y.p + r * y.pitch, frames);
    }
}
