/* [main] Which instruction sets this build holds and this machine runs. The build defines BL_HAVE_<ISA>
 * for each isa_*.c it compiles. */
#include "kernels.h"

extern const bl_kernels bl_kernels_scalar;
#ifdef BL_HAVE_SSE2
extern const bl_kernels bl_kernels_sse2;
#endif
#ifdef BL_HAVE_AVX2
extern const bl_kernels bl_kernels_avx2;
#endif
#ifdef BL_HAVE_AVX512
extern const bl_kernels bl_kernels_avx512;
#endif
#ifdef BL_HAVE_NEON
extern const bl_kernels bl_kernels_neon;
#endif

const bl_kernels *bl_kernels_for(bl_isa isa)
{
    switch (isa) {
    case BL_ISA_SCALAR: return &bl_kernels_scalar;
#ifdef BL_HAVE_SSE2
    case BL_ISA_SSE2: return __builtin_cpu_supports("sse2") ? &bl_kernels_sse2 : NULL;
#endif
#ifdef BL_HAVE_AVX2
    case BL_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &bl_kernels_avx2 : NULL;
#endif
#ifdef BL_HAVE_AVX512
    case BL_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
                       && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
                   ? &bl_kernels_avx512
                   : NULL;
#endif
#ifdef BL_HAVE_NEON
    case BL_ISA_NEON: /* part of every AArch64 machine */ return &bl_kernels_neon;
#endif
    default: return NULL;
    }
}

int32_t bl_isa_available(bl_isa isa) { return bl_kernels_for(isa) != NULL; }

bl_isa bl_isa_best(void)
{
    static const bl_isa order[] = {BL_ISA_AVX512, BL_ISA_AVX2, BL_ISA_NEON, BL_ISA_SSE2};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (bl_kernels_for(order[i])) {
            return order[i];
        }
    }
    return BL_ISA_SCALAR;
}
