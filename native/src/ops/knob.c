/* [audio] Knobs: straight ramps that begin at a stated absolute frame, so that bits do not depend on
 * how a signal is cut into blocks. */
#include "../internal.h"

/* The value on the way from -> to, `frame` frames after it began. */
static float on_ramp(float from, float to, int64_t frame, int32_t ramp_frames)
{
    if (frame >= ramp_frames) {
        return to;
    }
    /* In double, as the way between two floats may be longer than a float can say. */
    return frame <= 0 ? from : (float)(from + ((double)to - from) * ((double)frame / ramp_frames));
}

void bl_knob_reset(bl_knob *knob)
{
    knob->from = knob->to = knob->initial;
    knob->begin_frame = 0;
    knob->waiting = 0;
}

void bl_knob_set(bl_knob *knob, float value, int64_t at_frame, int64_t now)
{
    if (!__builtin_isfinite(value)) {
        return;
    }
    value = value < knob->minimum ? knob->minimum : value > knob->maximum ? knob->maximum : value;
    if (now == 0 && at_frame <= 0) {
        knob->from = knob->to = value;
        knob->waiting = 0;
        return;
    }
    knob->next = value;
    knob->next_frame = at_frame > now ? at_frame : now;
    knob->waiting = 1;
}

void bl_knob_fill(const bl_knob *knob, int64_t first, float *row, int32_t frames)
{
    float turn = on_ramp(knob->from, knob->to, knob->next_frame - knob->begin_frame, knob->ramp_frames);
    for (int32_t i = 0; i < frames; i++) {
        int64_t frame = first + i;
        row[i] = knob->waiting && frame >= knob->next_frame
                     ? on_ramp(turn, knob->next, frame - knob->next_frame, knob->ramp_frames)
                     : on_ramp(knob->from, knob->to, frame - knob->begin_frame, knob->ramp_frames);
    }
}

void bl_knob_advance(bl_knob *knob, int64_t end)
{
    if (knob->waiting && knob->next_frame < end) {
        knob->from = on_ramp(knob->from, knob->to, knob->next_frame - knob->begin_frame, knob->ramp_frames);
        knob->to = knob->next;
        knob->begin_frame = knob->next_frame;
        knob->waiting = 0;
    }
}

void bl_run_knob(const bl_step *step, const bl_moment *m)
{
    const bl_engine *engine = m->engine;
    bl_knob_fill(&engine->knobs[step->index], engine->position_frames,
                 bl_tensor_rows(m, step->op.outputs[0]).p, bl_tensor_frames(m, step->op.outputs[0]));
}
