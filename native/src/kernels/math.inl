/* exp, sigmoid, tanh, expm1 for whole vectors, within 4 ulp in float32, no table, no branch.
 *
 * Polynomials and the split of ln 2 are those of the Cephes library's expf and tanhf (Moshier). */

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

/* v, but not below `low`: for functions whose product with an infinite v would be NaN where they have settled. */
BL_INLINE vec vec_at_least(vec v, float low) { return vec_max(vec_splat(low), v); }

/* v, the largest number there is standing for infinity. */
BL_INLINE vec vec_finite(vec v) { return vec_clamp(v, -FLT_MAX, FLT_MAX); }

/* exp(x). Below -87.3 the result is not normal and flushes to zero; above 88.7 it is infinite. */
BL_INLINE vec vec_exp(vec x)
{
    x = vec_clamp(x, -104.0f, 89.0f);
    vec n = vec_fma(x, vec_splat(1.44269504f), vec_splat(MATH_ROUND)) - MATH_ROUND;
    vec r = vec_fma(n, vec_splat(-0.693359375f), x);
    r = vec_fma(n, vec_splat(2.12194440e-4f), r);
    vec p = vec_fma(vec_splat(1.9875691500e-4f), r, vec_splat(1.3981999507e-3f));
    p = vec_fma(p, r, vec_splat(8.3334519073e-3f));
    p = vec_fma(p, r, vec_splat(4.1665795894e-2f));
    p = vec_fma(p, r, vec_splat(1.6666665459e-1f));
    p = vec_fma(p, r, vec_splat(5.0000001201e-1f));
    p = vec_fma(p, r * r, r) + 1.0f;
    /* 2^n in two factors, each a normal number: n reaches from -150 to 128. */
    vec_int whole = vec_to_int(n);
    vec_int half = whole >> 1;
    return p * vec_from_bits((half + 127) << 23) * vec_from_bits((whole - half + 127) << 23);
}

BL_INLINE vec vec_sigmoid(vec x) { return 1.0f / (1.0f + vec_exp(-x)); }

/* Near zero an odd polynomial, elsewhere 1 - 2 / (exp(2 |x|) + 1) with the sign of x. */
BL_INLINE vec vec_tanh(vec x)
{
    vec size = vec_abs(x);
    vec z = x * x;
    vec p = vec_fma(vec_splat(-5.70498872745e-3f), z, vec_splat(2.06390887954e-2f));
    p = vec_fma(p, z, vec_splat(-5.37397155531e-2f));
    p = vec_fma(p, z, vec_splat(1.33314422036e-1f));
    p = vec_fma(p, z, vec_splat(-3.33332819422e-1f));
    vec near = vec_fma(p * z, x, x);
    vec far = 1.0f - 2.0f / (vec_exp(2.0f * size) + 1.0f);
    far = vec_select(vec_less(x, vec_splat(0.0f)), -far, far);
    return vec_select(vec_less(size, vec_splat(0.625f)), near, far);
}

/* exp(x) - 1 for x <= 0 without cancellation: 2 t / (1 - t) with t = tanh(x / 2). */
BL_INLINE vec vec_expm1_negative(vec x)
{
    vec t = vec_tanh(0.5f * x);
    return 2.0f * t / (1.0f - t);
}

/* The rational approximation NeuralAmpModelerCore calls fast_tanh. Its terms grow with the fourth power of x, but
 * its value has long settled where they overflow. */
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
