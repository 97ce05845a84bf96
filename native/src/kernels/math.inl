/* exp, sigmoid, tanh, expm1 for whole vectors, within 4 ulp in float32, no branch, no table but one that fits a vector.
 *
 * The split of ln 2 is that of the Cephes library's expf (Moshier); polynomials and the quotient for tanh were fitted for
 * this file (weighted least squares driven towards equal errors, then the rounded coefficients tried one by one). */

#include <float.h>

#define MATH_ROUND 12582912.0f /* 1.5 * 2^23: adding and subtracting it rounds to the nearest integer */

/* x between the bounds; NaN stays. */
BL_INLINE vec vec_clamp(vec x, float low, float high)
{
    return vec_min(vec_splat(high), vec_max(vec_splat(low), x));
}

/* v * slope below zero, else v, also where it is NaN. A slope of 0 gives 0, also for -infinity. */
BL_INLINE vec vec_leaky(vec v, float slope)
{
    vec zero = vec_splat(0.0f);
    return vec_select(vec_less(v, zero), slope == 0.0f ? zero : v * slope, v);
}

/* v, but not below `low`: for functions whose product with an infinite v would be NaN where they have
 * settled. */
BL_INLINE vec vec_at_least(vec v, float low) { return vec_max(vec_splat(low), v); }

/* v, the largest number there is standing for infinity. */
BL_INLINE vec vec_finite(vec v) { return vec_clamp(v, -FLT_MAX, FLT_MAX); }

/* p times scale. */
typedef struct scaled {
    vec p;
    vec scale;
} scaled;

#ifdef VEC_TABLE
/* 2^(k / VEC_TABLE): its bits, less those of 1, less k where vec_exp_power shifts it to. */
static const int32_t exp_table[VEC_TABLE] = {
#if VEC_TABLE == 16
    0,       -152893, -289342, -408621, -509968, -592590, -655657, -698305,
    -719629, -718684, -694486, -646004, -572163, -471841, -343865, -187011,
#else
    0, -289342, -509968, -655657, -719629, -694486, -572163, -343865,
#endif
};
#define EXP_PARTS VEC_TABLE /* of a power of two */
#define EXP_MOST 88.3f

/* exp(r), or exp(-r), for r no more than half a part of ln 2. */
BL_INLINE vec vec_exp_rest(vec r, float sign)
{
#if VEC_TABLE == 16
    vec p = vec_fma(vec_splat(sign * 1.6666815e-1f), r, vec_splat(5.00016211e-1f));
#else
    vec p = vec_fma(vec_splat(sign * 1.66669796e-1f), r, vec_splat(5.00064652e-1f));
#endif
    return vec_fma(p, r * r, sign < 0.0f ? 1.0f - r : 1.0f + r);
}

/* 2^(n / EXP_PARTS), n plus the exponent's bias being the last bits of `sum`. */
BL_INLINE vec vec_exp_power(vec sum)
{
    vec_int bits = vec_bits(sum);
    return vec_from_bits(vec_lookup(exp_table, bits) + vec_shift_left(bits, VEC_TABLE == 16 ? 19 : 20));
}
#else
#define EXP_PARTS 1
/* So that it is infinity, also where a compiler works out what becomes of a clamped x. */
#define EXP_MOST 89.0f

BL_INLINE vec vec_exp_rest(vec r, float sign)
{
    vec square = r * r;
    vec low = vec_fma(vec_splat(sign * 1.66671142e-1f), r, vec_splat(4.99992311e-1f));
    vec high = vec_fma(vec_splat(sign * 8.31250381e-3f), r, vec_splat(4.18903343e-2f));
    return vec_fma(vec_fma(high, square, low), square, sign < 0.0f ? 1.0f - r : 1.0f + r);
}

BL_INLINE vec vec_exp_power(vec sum) { return vec_from_bits(vec_shift_left(vec_bits(sum), 23)); }
#endif

/* exp(x), or exp(-x) where sign is -1, which costs nothing: it is in the constants. Below -87.3 the product
 * is not normal and flushes to zero; above 88.3 it stays what it is there or is infinite. */
BL_INLINE scaled vec_exp_scaled(vec x, float sign)
{
    x = sign < 0.0f ? vec_clamp(x, -EXP_MOST, 87.6f) : vec_clamp(x, -87.6f, EXP_MOST);
    float bias = MATH_ROUND + 127.0f * EXP_PARTS;
    vec sum = vec_fma(x, vec_splat(sign * 1.44269504f * EXP_PARTS), vec_splat(bias));
    vec n = sum - bias;
    vec r = vec_fma(n, vec_splat(sign * -0.693359375f / EXP_PARTS), x);
    r = vec_fma(n, vec_splat(sign * 2.12194440e-4f / EXP_PARTS), r);
    return (scaled){vec_exp_rest(r, sign), vec_exp_power(sum)};
}

BL_INLINE vec vec_exp(vec x)
{
    scaled e = vec_exp_scaled(x, 1.0f);
    return e.p * e.scale;
}

/* 1 + exp(-x): what a sigmoid divides by. */
BL_INLINE vec vec_sigmoid_bottom(vec x)
{
    scaled e = vec_exp_scaled(x, -1.0f);
    return vec_fma(e.p, e.scale, vec_splat(1.0f));
}

BL_INLINE vec vec_sigmoid(vec x) { return 1.0f / vec_sigmoid_bottom(x); }

/* A value as a quotient, for those that divide by something else too. */
typedef struct quotient {
    vec top;
    vec bottom;
} quotient;

/* tanh(x) = 2 u v / (u^2 + v^2), where u / v is near tanh(x / 2): once tanh has settled, that quotient
 * hardly notices an error of u or v. Both are scaled so that v stays just below 4 as long as tanh(x) is
 * below 1/2, where rounding weighs least. */
BL_INLINE quotient vec_tanh_quotient(vec x)
{
    x = vec_clamp(x, -9.0f, 9.0f);
    vec z = x * x;
    vec u = vec_fma(vec_splat(2.11442777e-4f), z, vec_splat(5.50849251e-2f));
    vec v = vec_fma(vec_splat(4.55036707e-6f), z, vec_splat(4.46494203e-3f));
    v = vec_fma(v, z, vec_splat(4.18502957e-1f));
    v = vec_fma(v, z, vec_splat(3.7f));
    u = vec_fma(u, z, vec_splat(1.85f)) * x;
    return (quotient){u * (v + v), vec_fma(v, v, u * u)};
}

/* The same by three more operations of which fewer wait for each other. */
BL_INLINE quotient vec_tanh_quotient_soon(vec x)
{
    vec z = vec_min(vec_splat(81.0f), x * x);
    x = vec_clamp(x, -9.0f, 9.0f);
    vec u = vec_fma(vec_splat(2.11442777e-4f), z, vec_splat(5.50849251e-2f));
    vec low = vec_fma(vec_splat(4.18502957e-1f), z, vec_splat(3.7f));
    vec high = vec_fma(vec_splat(4.55036707e-6f), z, vec_splat(4.46494203e-3f));
    u = vec_fma(u, z, vec_splat(1.85f));
    vec v = vec_fma(high, z * z, low);
    return (quotient){u * x * (v + v), vec_fma(u * z, u, v * v)};
}

BL_INLINE vec vec_tanh(vec x)
{
    quotient q = vec_tanh_quotient(x);
    return q.top / q.bottom;
}

/* exp(x) - 1 for x <= 0 without cancellation: 2 t / (1 - t) with t = tanh(x / 2). */
BL_INLINE vec vec_expm1_negative(vec x)
{
    quotient t = vec_tanh_quotient(0.5f * x);
    return (t.top + t.top) / (t.bottom - t.top);
}

/* The rational approximation NeuralAmpModelerCore calls fast_tanh. Its terms grow with the fourth power of
 * x, but its value has long settled where they overflow. */
BL_INLINE vec vec_fasttanh(vec x)
{
    x = vec_clamp(x, -1e8f, 1e8f);
    vec size = vec_abs(x);
    vec square = x * x;
    vec top = 2.45550750702956f + 2.45550750702956f * size
              + (0.893229853513558f + 0.821226666969744f * size) * square;
    vec bottom =
        2.44506634652299f + (2.44506634652299f + square) * vec_abs(x + 0.814642734961073f * x * size);
    return x * top / bottom;
}
