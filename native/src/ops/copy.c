/* [audio] Copies, now or later: a delay is a look into the input's ring. */
#include "../internal.h"

#include <string.h>

void bl_run_copy(const bl_step *step, const bl_moment *m)
{
    const bl_op *op = &step->op;
    bl_rows x = bl_tensor_rows(m, op->inputs[0]), y = bl_tensor_rows(m, op->outputs[0]);
    int32_t silent = bl_frames_until(m, op->outputs[0], op->start_frames);
    size_t rest = (size_t)(bl_tensor_frames(m, op->outputs[0]) - silent);
    const float *from = x.p + bl_frame_offset(m, op->inputs[0], silent - (int64_t)op->delay_frames);
    for (int32_t r = 0; r < bl_tensor_row_count(bl_tensor_at(m, op->outputs[0])); r++) {
        float *to = y.p + r * y.pitch;
        memset(to, 0, (size_t)silent * sizeof *to);
        memcpy(to + silent, from + r * x.pitch, rest * sizeof *to);
    }
}
