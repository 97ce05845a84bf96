/* Taps of one phase after the other, each against a window of x: a sum per lane, lanes added in pairs, pairs in fours
 * and so on. Windows move on by what is no whole number of frames, so that vectors lie along the taps; as many sums
 * as a vector has lanes are turned into a vector of y together. */

/* Windows whose sums wait for each other's loads; a divisor of a vector. */
#define RESAMPLE_WINDOWS (VEC_FRAMES < 4 ? VEC_FRAMES : 4)

/* Where a window begins, in frames from job->x, and the phase it is heard with. */
typedef struct resample_place {
    int32_t frame;
    int32_t phase;
} resample_place;

BL_INLINE resample_place resample_next(const bl_resample_job *job, resample_place at)
{
    int32_t phase = at.phase + job->stride % job->factor, frame = at.frame + job->stride / job->factor;
    return phase < job->factor ? (resample_place){frame, phase}
                               : (resample_place){frame + 1, phase - job->factor};
}

BL_INLINE vec resample_heard(const bl_resample_job *job, int32_t frame, int seam)
{
    return vec_load(job->x + (seam && frame + job->frames_before < 0 ? frame + job->wrap : frame));
}

/* The sums of RESAMPLE_WINDOWS windows from *at on, which moves on but not past the last of `left`. */
BL_INLINE void resample_windows(const bl_resample_job *job, resample_place *at, int32_t left, vec *sums,
                                int seam)
{
    const int32_t whole = job->kernel / VEC_FRAMES * VEC_FRAMES;
    const int32_t pitch = bl_round_up(job->kernel, VEC_FRAMES);
    const float *taps[RESAMPLE_WINDOWS];
    int32_t first[RESAMPLE_WINDOWS];
    vec totals[RESAMPLE_WINDOWS];
    BL_UNROLL
    for (int w = 0; w < RESAMPLE_WINDOWS; w++) {
        taps[w] = job->taps + (int64_t)at->phase * pitch;
        first[w] = at->frame;
        totals[w] = vec_splat(0.0f);
        *at = w + 1 < left ? resample_next(job, *at) : *at;
    }
    for (int32_t k = 0; k < whole; k += VEC_FRAMES) {
        BL_UNROLL
        for (int w = 0; w < RESAMPLE_WINDOWS; w++) {
            totals[w] = vec_fma(vec_load(taps[w] + k), resample_heard(job, first[w] + k, seam), totals[w]);
        }
    }
    if (whole < job->kernel) {
        /* The newest frame lies in this vector; what follows it may be anything. */
        float lanes[VEC_FRAMES];
        for (int lane = 0; lane < VEC_FRAMES; lane++) {
            lanes[lane] = (float)lane;
        }
        vec_mask counts = vec_less(vec_load(lanes), vec_splat((float)(job->kernel - whole)));
        for (int w = 0; w < RESAMPLE_WINDOWS; w++) {
            vec heard = vec_select(counts, resample_heard(job, first[w] + whole, seam), vec_splat(0.0f));
            totals[w] = vec_fma(vec_load(taps[w] + whole), heard, totals[w]);
        }
    }
    BL_UNROLL
    for (int w = 0; w < RESAMPLE_WINDOWS; w++) {
        sums[w] = totals[w];
    }
}

/* Halve the number of vectors: of each two, lanes k apart are added, and lie where bit k says whose they are. */
BL_INLINE void resample_add(vec *sums, int k)
{
    BL_UNROLL
    for (int i = 0; i + k < VEC_FRAMES; i += 2 * k) {
        vec a = sums[i], b = sums[i + k];
        sums[i] = vec_mix(a, b, k) + vec_swap(vec_mix(b, a, k), k);
    }
}

BL_INLINE void resample_row(const bl_resample_job *job, int seam)
{
    resample_place at = {job->first, job->phase};
    for (int32_t i = 0; i < job->frames; i += VEC_FRAMES) {
        vec sums[VEC_FRAMES];
        for (int32_t w = 0; w < VEC_FRAMES; w += RESAMPLE_WINDOWS) {
            int32_t left = job->frames - i - w;
            /* Past the last frame there is nothing to hear. */
            if (left > 0) {
                resample_windows(job, &at, left, sums + w, seam);
            } else {
                BL_UNROLL
                for (int n = 0; n < RESAMPLE_WINDOWS; n++) {
                    sums[w + n] = vec_splat(0.0f);
                }
            }
        }
        resample_add(sums, 1);
        resample_add(sums, 2);
        resample_add(sums, 4);
        resample_add(sums, 8);
        vec_store(job->y + i, sums[0]);
    }
}

static void resample(const bl_resample_job *job)
{
    const bl_resample_job own = *job; /* which no store can change, as far as the compiler knows */
    if (own.first + own.frames_before < 0) {
        resample_row(&own, 1);
    } else {
        resample_row(&own, 0);
    }
}
