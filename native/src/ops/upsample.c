/* [audio] Ops that write `factor` frames for each they read. The frame they read may be one that an earlier
 * chunk brought, so they count from absolute frames and look into the ring. */
#include "../internal.h"

/* Where a chunk's output begins: in the middle of which frame of x, counted from x's first of this chunk. */
typedef struct place_in_time {
    int64_t frame;
    int32_t phase; /* of factor */
} place_in_time;

static place_in_time begin(const bl_step *step, const bl_moment *m)
{
    int64_t first = bl_frames_before(m, step->op.outputs[0]), factor = step->op.factor;
    int64_t phase = (first % factor + factor) % factor; /* frames of the prewarm are negative */
    return (place_in_time){
        .frame = (first - phase) / factor - bl_frames_before(m, step->op.inputs[0]),
        .phase = (int32_t)phase,
    };
}

static place_in_time next(place_in_time at, int32_t factor)
{
    return at.phase + 1 < factor ? (place_in_time){at.frame, at.phase + 1} : (place_in_time){at.frame + 1, 0};
}

void bl_run_upsample(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        place_in_time at = begin(step, m);
        for (int32_t i = 0; i < frames; i++, at = next(at, op->factor)) {
            y.p[r * y.pitch + i] = x.p[r * x.pitch + bl_frame_offset(m, op->inputs[0], at.frame)];
        }
    }
}

void bl_run_interpolate(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    int64_t start = op->start_frames - bl_frames_before(m, op->inputs[0]);
    /* In halves of 1 / factor, because an even factor has no frame in the middle. */
    int32_t whole = 2 * op->factor, offset = op->factor % 2 ? 2 : 1;
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        const float *row = x.p + r * x.pitch;
        place_in_time at = begin(step, m);
        for (int32_t i = 0; i < frames; i++, at = next(at, op->factor)) {
            int32_t part = 2 * at.phase + offset;
            float value = 0.0f;
            if (at.frame >= start) {
                float right = row[bl_frame_offset(m, op->inputs[0], at.frame)];
                float left = at.frame == start ? right : row[bl_frame_offset(m, op->inputs[0], at.frame - 1)];
                value = part == whole ? right : left + (right - left) * ((float)part / (float)whole);
            }
            y.p[r * y.pitch + i] = value;
        }
    }
}

void bl_run_interleave(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int32_t frames = bl_tensor_frames(m, op->outputs[0]);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        const float *rows = x.p + (int64_t)r * op->factor * x.pitch;
        place_in_time at = begin(step, m);
        for (int32_t i = 0; i < frames; i++, at = next(at, op->factor)) {
            y.p[r * y.pitch + i] = rows[at.phase * x.pitch + bl_frame_offset(m, op->inputs[0], at.frame)];
        }
    }
}
