/* Flush-to-zero around processing: denormal numbers cost a hundred times a normal one. Differs by
 * machine, not by instruction set. */
#ifndef BL_FPU_H
#define BL_FPU_H

#include <stdint.h>

/* Switch it on and return what has to be given back to bl_fpu_restore. */
static inline uint64_t bl_fpu_flush(void)
{
#if defined(__x86_64__)
    uint32_t old, flushing;
    __asm__ volatile("stmxcsr %0" : "=m"(old));
    flushing = old | 0x8040; /* flush to zero, denormals are zero */
    if (flushing != old) {   /* writing it costs more than looking */
        __asm__ volatile("ldmxcsr %0" : : "m"(flushing));
    }
    return old;
#elif defined(__aarch64__)
    uint64_t old, flushing;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    flushing = old | (1u << 24);
    __asm__ volatile("msr fpcr, %0" : : "r"(flushing));
    return old;
#else
    return 0;
#endif
}

static inline void bl_fpu_restore(uint64_t old)
{
#if defined(__x86_64__)
    uint32_t value = (uint32_t)old;
    if ((value | 0x8040) != value) {
        __asm__ volatile("ldmxcsr %0" : : "m"(value));
    }
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
#else
    (void)old;
#endif
}

#endif
