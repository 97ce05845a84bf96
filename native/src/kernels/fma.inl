/* Multiply-adds and nothing else: what an instruction set's arithmetic can do at most, to measure kernels by. */

/* Chains that wait for nothing but each other's last round: enough to hide the latency of several pipes, few
 * enough that all of them, and the factor, stay in registers. In rows, as BL_UNROLL goes to 16. */
#define FMA_ROWS 3
#define FMA_ROW (VEC_REGISTERS / 4)
#define FMA_CHAINS (FMA_ROWS * FMA_ROW)

/* A step that needs no copy of a register: fused, the sum is overwritten; of two instructions with two operands,
 * what is multiplied. No product may be the same in each round, or a compiler takes it out of the loop. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FMA_STEP(own, next, factor, summand) vec_fma(next, factor, own)
#else
#define FMA_STEP(own, next, factor, summand) vec_fma(own, factor, summand)
#endif

static void fma_loop(int64_t rounds, float *sink)
{
    vec chains[FMA_ROWS][FMA_ROW], factor = vec_splat(sink[0]), summand = vec_splat(sink[1]);
    (void)summand;
    BL_UNROLL
    for (int r = 0; r < FMA_ROWS; r++) {
        BL_UNROLL
        for (int i = 0; i < FMA_ROW; i++) {
            chains[r][i] = vec_splat((float)(1 + r * FMA_ROW + i));
        }
    }
    for (int64_t round = 0; round < rounds; round++) {
        BL_UNROLL
        for (int r = 0; r < FMA_ROWS; r++) {
            BL_UNROLL
            for (int i = 0; i < FMA_ROW; i++) {
                chains[r][i] = FMA_STEP(chains[r][i], chains[r][(i + 1) % FMA_ROW], factor, summand);
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
