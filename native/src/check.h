/* What the check*.c files share: the spec under test, and how to refuse it. [main] */
#ifndef BL_CHECK_H
#define BL_CHECK_H

#include "internal.h"

#define MOST_RATES 64
#define MOST_ROWS (1 << 20)
#define MOST_ENTRIES (1 << 20)
#define MOST_FRAMES (1 << 24)
#define MOST_RATE_TERM (1 << 12)
#define MOST_POOL (1 << 12)
#define MOST_RESAMPLE (1 << 12)
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

/* The rules of single kinds of op that lie in check_rates.c. */
typedef bl_status op_check(const checker *c, const bl_op *op);
op_check bl_check_copy, bl_check_maxpool, bl_check_upsample, bl_check_interpolate, bl_check_interleave,
    bl_check_resample;

/* What rules are made of, in check_tensors.c. The first tensor named is the one at fault. */

/* Share no memory. */
bl_status bl_check_apart(const checker *c, int32_t read, int32_t written);

/* Share none or all: an elementwise input may be overwritten in place, but not at an offset. */
bl_status bl_check_in_place(const checker *c, int32_t read, int32_t written);

bl_status bl_check_same_rate(const checker *c, int32_t tensor, int32_t like);

/* `fast` has `factor` frames for each of `slow`, or for each `stride` of them, and both begin at frame 0. */
bl_status bl_check_rate_ratio(const checker *c, int32_t slow, int32_t fast, int32_t factor);
bl_status bl_check_rate_fraction(const checker *c, int32_t slow, int32_t fast, int32_t factor,
                                 int32_t stride);

/* Shape and rate. */
bl_status bl_check_same(const checker *c, int32_t tensor, int32_t like);

/* One row that serves all rows of `like`, or a tensor of its shape. */
bl_status bl_check_row_or_same(const checker *c, int32_t tensor, int32_t like);

/* Exactly `expected` numbers, or with "optional" none; no numbers from array `first` on. */
bl_status bl_check_array(const checker *c, const bl_op *op, int32_t array, int64_t expected);
bl_status bl_check_optional_array(const checker *c, const bl_op *op, int32_t array, int64_t expected);
bl_status bl_check_no_array(const checker *c, const bl_op *op, int32_t first);

/* The activation and its parameters, in array 3. */
bl_status bl_check_activation(const checker *c, const bl_op *op, int64_t channels);

/* Fields an op may use; all others have to be 0. */
enum {
    FIELD_ACTIVATION = 1 << 0,
    FIELD_KERNEL = 1 << 1,
    FIELD_DILATION = 1 << 2,
    FIELD_STRIDE = 1 << 3,
    FIELD_GROUPS = 1 << 4,
    FIELD_MIX_GROUPS = 1 << 5,
    FIELD_RAMP = 1 << 6,
    FIELD_DELAY = 1 << 7,
    FIELD_START = 1 << 8,
    FIELD_FACTOR = 1 << 9
};

bl_status bl_check_fields(const checker *c, const bl_op *op, uint32_t used);

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
