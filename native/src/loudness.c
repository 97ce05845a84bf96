/* [audio] The power of a signal behind a filter, for measuring loudness. */
#include "backline.h"
#include "fpu.h"

/* Two channels side by side. */
typedef double pair __attribute__((vector_size(16)));

/* What a pair of channels remembers, the last value and the one before it: of the input, of what the first
 * section makes of it, and of what the second one makes of that. */
typedef struct memory {
    pair x[2];
    pair y[2];
    pair z[2];
} memory;

/* One frame through one section. Only the last product and difference wait for the previous frame's answer. */
static inline pair section(const bl_section *s, pair x, const pair *x_past, const pair *y_past)
{
    return s->b[0] * x + s->b[1] * x_past[0] + s->b[2] * x_past[1] - s->a[1] * y_past[1]
           - s->a[0] * y_past[0];
}

/* Frames `x` of which every `step`th number is a channel's first; `second` is where its other channel is. The
 * sum of the squares is added to `power`. */
static pair run(const bl_section sections[2], memory *past, const double *x, int64_t step, int64_t second,
                int64_t frames, pair power)
{
    memory m = *past;
    for (int64_t n = 0; n < frames; n++, x += step) {
        pair in = {x[0], x[second]};
        pair middle = section(&sections[0], in, m.x, m.y);
        pair out = section(&sections[1], middle, m.y, m.z);
        m = (memory){{in, m.x[0]}, {middle, m.y[0]}, {out, m.z[0]}};
        power += out * out;
    }
    *past = m;
    return power;
}

static void load(memory *m, const double *state, int64_t second)
{
    pair *to = (pair *)m;
    for (int i = 0; i < BL_SECTION_STATE; i++) {
        to[i] = (pair){state[i], state[second * BL_SECTION_STATE + i]};
    }
}

static void save(const memory *m, double *state, int64_t second)
{
    const pair *from = (const pair *)m;
    for (int i = 0; i < BL_SECTION_STATE; i++) {
        state[i] = from[i][0];
        state[second * BL_SECTION_STATE + i] = from[i][1];
    }
}

void bl_sections_power(const bl_section sections[2], double *state, const double *x, int32_t channels,
                       const int64_t *ends, int32_t count, double *powers)
{
    uint64_t mode = bl_fpu_flush();
    for (int32_t c = 0; c < channels; c += 2) {
        const int64_t second = c + 1 < channels; /* an odd last channel is its own neighbour */
        double *own_state = state + (int64_t)c * BL_SECTION_STATE;
        int64_t at = 0;
        memory m;
        load(&m, own_state, second);
        for (int32_t i = 0; i < count; i++) {
            double *own = powers + (int64_t)i * channels + c;
            pair power = {own[0], own[second]};
            power = run(sections, &m, x + at * channels + c, channels, second, ends[i] - at, power);
            own[0] = power[0];
            own[second] = power[1];
            at = ends[i];
        }
        save(&m, own_state, second);
    }
    bl_fpu_restore(mode);
}
