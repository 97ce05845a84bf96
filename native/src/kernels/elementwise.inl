/* Activations and sums over single rows. */

#define EACH_VECTOR(i, frames) for (int32_t i = 0; i < (frames); i += VEC_FRAMES)

#define ACTIVATE_ROW(expression)                                                                             \
    EACH_VECTOR(i, frames)                                                                                   \
    {                                                                                                        \
        vec v = vec_load(x + i);                                                                             \
        vec_store(y + i, (expression));                                                                      \
    }                                                                                                        \
    break

BL_INLINE vec leaky_hardtanh(vec v, const float *p)
{
    vec low = vec_fma(v - p[0], vec_splat(p[2]), vec_splat(p[0]));
    vec high = vec_fma(v - p[1], vec_splat(p[3]), vec_splat(p[1]));
    vec middle = vec_select(vec_less(v, vec_splat(p[0])), low, v);
    return vec_select(vec_less(vec_splat(p[1]), v), high, middle);
}

BL_INLINE vec elu(vec v, float alpha)
{
    vec zero = vec_splat(0.0f);
    vec below = vec_expm1_negative(vec_select(vec_less(v, zero), v, zero)) * alpha;
    return vec_select(vec_less(zero, v), v, below);
}

static void activate(bl_activation kind, const float *parameters, const float *x, float *y, int32_t frames)
{
    switch (kind) {
    case BL_ACT_TANH: ACTIVATE_ROW(vec_tanh(v));
    case BL_ACT_FASTTANH: ACTIVATE_ROW(vec_fasttanh(v));
    case BL_ACT_SIGMOID: ACTIVATE_ROW(vec_sigmoid(v));
    case BL_ACT_RELU: ACTIVATE_ROW(vec_leaky(v, 0.0f));
    case BL_ACT_LEAKY_RELU:
    case BL_ACT_PRELU: ACTIVATE_ROW(vec_leaky(v, parameters[0]));
    case BL_ACT_SILU: ACTIVATE_ROW(v * vec_sigmoid(v));
    case BL_ACT_SOFTSIGN: ACTIVATE_ROW(v / (1.0f + vec_abs(v)));
    case BL_ACT_HARDTANH: ACTIVATE_ROW(vec_clamp(v, parameters[0], parameters[1]));
    case BL_ACT_LEAKY_HARDTANH: ACTIVATE_ROW(leaky_hardtanh(v, parameters));
    case BL_ACT_HARDSWISH: ACTIVATE_ROW(v * (vec_clamp(v + 3.0f, 0.0f, 6.0f) / 6.0f));
    case BL_ACT_ELU: ACTIVATE_ROW(elu(v, parameters[0]));
    default: ACTIVATE_ROW(v);
    }
}

static void softmax(bl_rows x, bl_rows y, int32_t rows, int32_t frames)
{
    EACH_VECTOR(i, frames)
    {
        vec most = vec_load(x.p + i);
        for (int32_t r = 1; r < rows; r++) {
            vec v = vec_load(x.p + r * x.pitch + i);
            most = vec_select(vec_less(most, v), v, most);
        }
        vec sum = vec_splat(0.0f);
        for (int32_t r = 0; r < rows; r++) {
            vec v = vec_exp(vec_load(x.p + r * x.pitch + i) - most);
            vec_store(y.p + r * y.pitch + i, v);
            sum = sum + v;
        }
        for (int32_t r = 0; r < rows; r++) {
            float *p = y.p + r * y.pitch + i;
            vec_store(p, vec_load(p) / sum);
        }
    }
}

static void add(const float *a, const float *b, float *y, int32_t frames)
{
    EACH_VECTOR(i, frames) vec_store(y + i, vec_load(a + i) + vec_load(b + i));
}

static void multiply(const float *a, const float *b, float *y, int32_t frames)
{
    EACH_VECTOR(i, frames) vec_store(y + i, vec_load(a + i) * vec_load(b + i));
}

static void affine(const float *x, float scale, float shift, float *y, int32_t frames)
{
    EACH_VECTOR(i, frames) vec_store(y + i, vec_fma(vec_load(x + i), vec_splat(scale), vec_splat(shift)));
}

/* Where t is 0 or 1 the other side does not count at all, not even an infinite or NaN one. */
static void crossfade(const float *a, const float *b, const float *t, float *y, int32_t frames)
{
    EACH_VECTOR(i, frames)
    {
        vec from = vec_load(a + i), to = vec_load(b + i), at = vec_load(t + i);
        vec mixed = vec_fma(to, at, from * (1.0f - at));
        mixed = vec_select(vec_less(vec_splat(0.0f), at), mixed, from);
        vec_store(y + i, vec_select(vec_less(at, vec_splat(1.0f)), mixed, to));
    }
}
