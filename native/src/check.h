/* What check.c and check_ops.c share: the spec under test, and how to refuse it. [main] */
#ifndef BL_CHECK_H
#define BL_CHECK_H

#include "internal.h"

#define MOST_RATES 64
#define MOST_ROWS (1 << 20)
#define MOST_ENTRIES (1 << 20)
#define MOST_FRAMES (1 << 24)
#define MOST_RATE_TERM (1 << 12)
#define MOST_BLOB (INT64_C(1) << 29)

typedef struct checker {
    const bl_spec *spec;
    bl_error *error;
    int32_t op;             /* index of the op under test, or BL_NONE */
    int32_t *scratch_owner; /* by scratch row: the buffer whose values it holds, or BL_NONE */
    uint8_t *written;       /* by row of all ring buffers, in order */
    int64_t *first_row;     /* by buffer: its first row in `written` */
} checker;

/* Note what is wrong in checker->error, if there is one, and return `status`. */
bl_status bl_check_fail(const checker *c, bl_status status, const char *what, int64_t found,
                        int64_t expected);

/* BL_ERROR_SIZE unless low <= value <= high. */
bl_status bl_check_range(const checker *c, const char *what, int64_t value, int64_t low, int64_t high);

/* Whether an op's tensors, which exist, fit each other and its arrays. */
bl_status bl_check_op_shapes(const checker *c, const bl_op *op);

/* How many inputs and outputs a known kind of op must have, and how many more it may. */
typedef struct op_arity {
    int32_t inputs;
    int32_t optional_inputs;
    int32_t outputs;
    int32_t optional_outputs;
} op_arity;

op_arity bl_check_arity(int32_t kind);

#define REQUIRE(condition, status, what, found, expected)                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            return bl_check_fail(c, status, what, found, expected);                                          \
        }                                                                                                    \
    } while (0)

#define PASS(call)                                                                                           \
    do {                                                                                                     \
        bl_status passed = (call);                                                                           \
        if (passed != BL_OK) {                                                                               \
            return passed;                                                                                   \
        }                                                                                                    \
    } while (0)

static inline const bl_tensor *tensor_at(const checker *c, int32_t tensor)
{
    return &c->spec->tensors[tensor];
}

static inline const bl_buffer *buffer_of(const checker *c, int32_t tensor)
{
    return &c->spec->buffers[tensor_at(c, tensor)->buffer];
}

static inline int64_t rows_of(const checker *c, int32_t tensor)
{
    return (int64_t)tensor_at(c, tensor)->channels * tensor_at(c, tensor)->features;
}

#endif
