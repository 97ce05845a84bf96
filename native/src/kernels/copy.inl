/* Rows copied, exactly as many frames as there are: the one kernel that may touch a caller's memory. */

static void copy(bl_rows from, bl_rows to, int32_t rows, int32_t frames)
{
    int32_t whole = frames / VEC_FRAMES * VEC_FRAMES;
    for (int32_t r = 0; r < rows; r++, from.p += from.pitch, to.p += to.pitch) {
        int32_t i = 0;
        for (; i + 4 * VEC_FRAMES <= whole; i += 4 * VEC_FRAMES) {
            vec some[4];
            BL_UNROLL
            for (int v = 0; v < 4; v++) {
                some[v] = vec_load(from.p + i + v * VEC_FRAMES);
            }
            BL_UNROLL
            for (int v = 0; v < 4; v++) {
                vec_store(to.p + i + v * VEC_FRAMES, some[v]);
            }
        }
        for (; i < whole; i += VEC_FRAMES) {
            vec_store(to.p + i, vec_load(from.p + i));
        }
        for (; i < frames; i++) {
            to.p[i] = from.p[i];
        }
    }
}
