/* Activations and sums over single rows. */

#define EACH_VECTOR(i, frames) for (int32_t i = 0; i < (frames); i += VEC_FRAMES)

/* y = expression of v, over all rows; p is the row's parameters. */
#define ACTIVATE_ROWS(expression)                                                                            \
    for (int32_t r = 0; r < rows; r++, p = parameter_step ? p + parameter_step : p) {                        \
        const float *from = x.p + r * x.pitch;                                                               \
        float *to = y.p + r * y.pitch;                                                                       \
        EACH_VECTOR(i, frames)                                                                               \
        {                                                                                                    \
            vec v = vec_load(from + i);                                                                      \
            vec_store(to + i, (expression));                                                                 \
        }                                                                                                    \
    }                                                                                                        \
    break

BL_INLINE vec silu(vec v) { return v * vec_sigmoid(v); }
BL_INLINE vec softsign(vec v) { return v / (1.0f + vec_abs(v)); }
BL_INLINE vec hardswish(vec v) { return v * (vec_clamp(v + 3.0f, 0.0f, 6.0f) / 6.0f); }

BL_INLINE vec hardsigmoid(vec v, const float *p)
{
    return vec_clamp(vec_fma(v, vec_splat(p[0]), vec_splat(p[1])), 0.0f, 1.0f);
}

BL_INLINE vec leaky_hardtanh(vec v, const float *p)
{
    vec low = p[2] == 0.0f ? vec_splat(p[0]) : vec_fma(v - p[0], vec_splat(p[2]), vec_splat(p[0]));
    vec high = p[3] == 0.0f ? vec_splat(p[1]) : vec_fma(v - p[1], vec_splat(p[3]), vec_splat(p[1]));
    vec middle = vec_select(vec_less(v, vec_splat(p[0])), low, v);
    return vec_select(vec_less(vec_splat(p[1]), v), high, middle);
}

BL_INLINE vec elu(vec v, float alpha)
{
    vec zero = vec_splat(0.0f);
    vec below = vec_expm1_negative(vec_select(vec_less(v, zero), v, zero)) * alpha;
    return vec_select(vec_less(v, zero), below, v);
}

BL_INLINE vec gelu(vec v)
{
    v = vec_at_least(v, -30.0f);
    vec size = vec_abs(v), tail = vec_normal_tail(size);
    vec far = vec_select(vec_less(v, vec_splat(0.0f)), tail, 1.0f - tail);
    return v * vec_select(vec_less(size, vec_splat(1.0f)), 0.5f + vec_normal_middle(v), far);
}

/* 0.5 (1 + tanh(u)) is the sigmoid of 2 u, without the cancellation where u is negative. */
BL_INLINE vec gelu_tanh(vec v)
{
    v = vec_at_least(v, -30.0f);
    vec twice_u = v * vec_fma(v * v, vec_splat(0.0713548162726f), vec_splat(1.59576912161f));
    return v * vec_sigmoid(twice_u);
}

/* max(v, 0) + log(1 + exp(-beta |v|)) / beta: nothing that could overflow. What rounding took from beta |v| is put
 * back, where the machine has a fused multiply-add that tells. */
BL_INLINE vec softplus(vec v, float beta)
{
    vec zero = vec_splat(0.0f), most = vec_finite(vec_splat(150.0f / beta));
    vec size = vec_select(vec_less(most, vec_abs(v)), most, vec_abs(v));
    vec product = size * beta;
    vec lost = vec_fma(size, vec_splat(beta), -product);
    vec power = vec_exp(-product);
    vec rest = vec_log1p_fraction(vec_fma(-lost, power, power)) / beta;
    return vec_select(vec_less(v, zero), zero, v) + rest;
}

BL_INLINE vec snake(vec v, float alpha) { return v + vec_sin2(v * alpha) / alpha; }

static void activate(bl_activation kind, const float *parameters, int32_t parameter_step, bl_rows x,
                     bl_rows y, int32_t rows, int32_t frames)
{
    const float *p = parameters;
    switch (kind) {
    case BL_ACT_TANH: ACTIVATE_ROWS(vec_tanh(v));
    case BL_ACT_FASTTANH: ACTIVATE_ROWS(vec_fasttanh(v));
    case BL_ACT_SIGMOID: ACTIVATE_ROWS(vec_sigmoid(v));
    case BL_ACT_RELU: ACTIVATE_ROWS(vec_leaky(v, 0.0f));
    case BL_ACT_LEAKY_RELU:
    case BL_ACT_PRELU: ACTIVATE_ROWS(vec_leaky(v, p[0]));
    case BL_ACT_SILU: ACTIVATE_ROWS(silu(vec_at_least(v, -200.0f)));
    case BL_ACT_SOFTSIGN: ACTIVATE_ROWS(softsign(vec_finite(v)));
    case BL_ACT_HARDTANH: ACTIVATE_ROWS(vec_clamp(v, p[0], p[1]));
    case BL_ACT_LEAKY_HARDTANH: ACTIVATE_ROWS(leaky_hardtanh(v, p));
    case BL_ACT_HARDSWISH: ACTIVATE_ROWS(hardswish(vec_at_least(v, -3.0f)));
    case BL_ACT_ELU: ACTIVATE_ROWS(elu(v, p[0]));
    case BL_ACT_GELU: ACTIVATE_ROWS(gelu(v));
    case BL_ACT_GELU_TANH: ACTIVATE_ROWS(gelu_tanh(v));
    case BL_ACT_SOFTPLUS: ACTIVATE_ROWS(softplus(v, p[0]));
    case BL_ACT_HARDSIGMOID: ACTIVATE_ROWS(hardsigmoid(vec_finite(v), p));
    case BL_ACT_SNAKE: ACTIVATE_ROWS(snake(v, p[0]));
    default: ACTIVATE_ROWS(v);
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

/* Where t is 0 or 1 the other side does not count at all, not even an infinite or NaN one. Any other t goes, also
 * one outside 0 to 1: gates need not be sigmoids. */
static void crossfade(const float *a, const float *b, const float *t, float *y, int32_t frames)
{
    EACH_VECTOR(i, frames)
    {
        vec from = vec_load(a + i), to = vec_load(b + i), at = vec_load(t + i);
        vec mixed = vec_fma(to, at, from * (1.0f - at));
        mixed = vec_select(vec_equal(at, vec_splat(0.0f)), from, mixed);
        vec_store(y + i, vec_select(vec_equal(at, vec_splat(1.0f)), to, mixed));
    }
}
