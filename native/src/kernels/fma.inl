/* Multiply-adds and nothing else: what an instruction set's arithmetic can do at most, to measure kernels by. */

/* Chains that do not wait for each other: enough to hide the latency of several pipes, few enough that all of
 * them, and the factor and the summand, stay in registers. In rows, as BL_UNROLL goes to 16. */
#define FMA_ROWS 3
#define FMA_ROW (VEC_REGISTERS / 4)
#define FMA_CHAINS (FMA_ROWS * FMA_ROW)

static void fma_loop(int64_t rounds, float *sink)
{
    vec chains[FMA_ROWS][FMA_ROW], factor = vec_splat(sink[0]), summand = vec_splat(sink[1]);
    BL_UNROLL
    for (int r = 0; r < FMA_ROWS; r++) {
        BL_UNROLL
        for (int i = 0; i < FMA_ROW; i++) {
            chains[r][i] = vec_splat((float)(r * FMA_ROW + i));
        }
    }
    for (int64_t round = 0; round < rounds; round++) {
        BL_UNROLL
        for (int r = 0; r < FMA_ROWS; r++) {
            BL_UNROLL
            for (int i = 0; i < FMA_ROW; i++) {
                chains[r][i] = vec_fma(chains[r][i], factor, summand);
            }
        }
    }
    /* A use of every chain, or the compiler would leave it out. */
    BL_UNROLL
    for (int r = 0; r < FMA_ROWS; r++) {
        BL_UNROLL
        for (int i = 0; i < FMA_ROW; i++) {
            vec_store(sink + (r * FMA_ROW + i) * VEC_FRAMES, chains[r][i]);
        }
    }
}
