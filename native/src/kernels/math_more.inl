/* log(1 + x), the tail of the normal distribution and sin(x)^2 for whole vectors: no table, no branch. The
 * polynomials were fitted for this file (weighted least squares driven towards equal errors, in float64). */

/* log(1 + x) for 0 <= x <= 1, as 2 artanh(s) with s = x / (2 + x), at most 1/3. */
BL_INLINE vec vec_log1p_fraction(vec x)
{
    vec s = x / (2.0f + x);
    vec z = s * s;
    vec p = vec_fma(vec_splat(2.43003309e-1f), z, vec_splat(2.14276567e-1f));
    p = vec_fma(p, z, vec_splat(2.86168844e-1f));
    p = vec_fma(p, z, vec_splat(3.99988770e-1f));
    p = vec_fma(p, z, vec_splat(6.66666746e-1f));
    return vec_fma(p * z, s, 2.0f * s);
}

/* Phi(x) - 1/2 for |x| <= 1: an odd polynomial. */
BL_INLINE vec vec_normal_middle(vec x)
{
    vec z = x * x;
    vec p = vec_fma(vec_splat(-7.65214008e-6f), z, vec_splat(1.13481161e-4f));
    p = vec_fma(p, z, vec_splat(-1.18632533e-3f));
    p = vec_fma(p, z, vec_splat(9.97332204e-3f));
    p = vec_fma(p, z, vec_splat(-6.64903596e-2f));
    p = vec_fma(p, z, vec_splat(3.98942292e-1f));
    return p * x;
}

/* 1 - Phi(x) = erfc(x / sqrt(2)) / 2 for x >= 0, as exp(-x^2 / 2) times what is left, a smooth function of
 * w = 1 / (1 + 0.3 x). The exponential flushes to zero before x leaves the range of the fit, 14.5. */
BL_INLINE vec vec_normal_tail(vec x)
{
    vec w = 1.0f / (1.0f + 0.3f * x);
    vec p = vec_fma(vec_splat(-2.06234548e-2f), w, vec_splat(1.12435542e-1f));
    p = vec_fma(p, w, vec_splat(-2.28213429e-1f));
    p = vec_fma(p, w, vec_splat(1.91784322e-1f));
    p = vec_fma(p, w, vec_splat(-7.94233233e-2f));
    p = vec_fma(p, w, vec_splat(9.61567461e-2f));
    p = vec_fma(p, w, vec_splat(7.83896744e-2f));
    p = vec_fma(p, w, vec_splat(1.10235415e-1f));
    p = vec_fma(p, w, vec_splat(1.19571812e-1f));
    p = vec_fma(p, w, vec_splat(1.19686693e-1f));
    return p * w * vec_exp(-0.5f * x * x);
}

/* What is left of x after whole multiples of pi * unit, which may be 4096 of them to either side. Pi comes in
 * three parts; the first two are so short that their multiples are exact, with or without a fused multiply-add. */
BL_INLINE vec vec_less_pi(vec x, float unit)
{
    vec n = vec_fma(x, vec_splat(0.318309873f / unit), vec_splat(MATH_ROUND)) - MATH_ROUND;
    x = vec_fma(n, vec_splat(-3.140625f * unit), x);
    x = vec_fma(n, vec_splat(-9.67502594e-4f * unit), x);
    return vec_fma(n, vec_splat(-1.50995803e-7f * unit), x);
}

/* sin(x)^2. It repeats every pi, taken off in two steps. Beyond 5.2e7, where floats are 4 apart and no longer
 * tell one period from the next, it stays what it is there. */
BL_INLINE vec vec_sin2(vec x)
{
    x = vec_less_pi(vec_clamp(x, -5.2e7f, 5.2e7f), 4096.0f);
    x = vec_less_pi(x, 1.0f);
    vec z = x * x;
    vec p = vec_fma(vec_splat(2.607106580398977e-06f), z, vec_splat(-1.9810351651e-04f));
    p = vec_fma(p, z, vec_splat(8.33307858559e-03f));
    p = vec_fma(p, z, vec_splat(-1.66666597128e-01f));
    vec sine = vec_fma(p * z, x, x);
    return sine * sine;
}
