/* [any] Texts and numbers that never change. */
#include "backline.h"

int32_t bl_abi_version(void) { return BL_ABI_VERSION; }

const char *bl_status_text(bl_status status)
{
    switch (status) {
    case BL_OK: return "success";
    case BL_ERROR_MEMORY: return "not enough memory";
    case BL_ERROR_ISA: return "instruction set not available";
    case BL_ERROR_INDEX: return "index outside its table";
    case BL_ERROR_SIZE: return "size out of range";
    case BL_ERROR_SHAPE: return "sizes disagree";
    case BL_ERROR_ORDER: return "read before it was written";
    case BL_ERROR_KIND: return "unknown kind";
    case BL_ERROR_VALUE: return "value out of range";
    case BL_ERROR_BUSY: return "mailbox full";
    case BL_ERROR_SYSTEM: return "the operating system refused";
    }
    return "unknown status";
}

const char *bl_isa_name(bl_isa isa)
{
    static const char *const names[BL_ISA_COUNT] = {"scalar", "sse2", "avx2", "avx512", "neon"};
    return (int)isa >= 0 && isa < BL_ISA_COUNT ? names[isa] : NULL;
}
