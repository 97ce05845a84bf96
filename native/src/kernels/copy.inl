/* Rows copied, exactly as many frames as there are: a caller's memory has no padding. Column by
 * column, as there may be many rows of few vectors; in each row frames go from first to last. */

static void copy(bl_rows from, bl_rows to, int32_t rows, int32_t frames)
{
    for (; frames >= VEC_FRAMES; frames -= VEC_FRAMES, from.p += VEC_FRAMES, to.p += VEC_FRAMES) {
        const float *p = from.p;
        float *q = to.p;
        int32_t r = 0;
        for (; r + 4 <= rows; r += 4, p += 4 * from.pitch, q += 4 * to.pitch) {
            vec a = vec_load(p), b = vec_load(p + from.pitch);
            vec c = vec_load(p + 2 * from.pitch), d = vec_load(p + 3 * from.pitch);
            vec_store(q, a);
            vec_store(q + to.pitch, b);
            vec_store(q + 2 * to.pitch, c);
            vec_store(q + 3 * to.pitch, d);
        }
        for (; r < rows; r++, p += from.pitch, q += to.pitch) {
            vec_store(q, vec_load(p));
        }
    }
    for (int32_t i = 0; i < frames; i++) {
        for (int32_t r = 0; r < rows; r++) {
            to.p[r * to.pitch + i] = from.p[r * from.pitch + i];
        }
    }
}
