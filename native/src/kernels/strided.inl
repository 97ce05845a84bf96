/* Frames that do not follow each other, for the kernels that write at a lower rate than they read. */

/* `valid` frames, `stride` apart; lanes past them are zero and never read. */
BL_INLINE vec vec_load_strided(const float *p, int32_t stride, int32_t valid)
{
    float lanes[VEC_FRAMES];
    for (int32_t i = 0; i < VEC_FRAMES; i++) {
        lanes[i] = i < valid ? p[i * (int64_t)stride] : 0.0f;
    }
    return vec_load(lanes);
}
