/* What the pack files share. [main] */
#ifndef BL_PACK_H
#define BL_PACK_H

#include "internal.h"

/* An op's array, NULL where it has none; a tensor's rows, 0 for BL_NONE. */
static inline const float *bl_array_at(const bl_program *program, const bl_op *op, int32_t array)
{
    return op->arrays[array].count ? program->blob + op->arrays[array].offset : NULL;
}

static inline int32_t bl_rows_at(const bl_program *program, int32_t tensor)
{
    return tensor == BL_NONE ? 0 : bl_tensor_row_count(&program->tensors[tensor]);
}

/* Plan, measure and pack one convolution. */
int64_t bl_conv1d_floats(const bl_program *program, const bl_op *op);
void bl_plan_conv1d(const bl_program *program, bl_step *step);
/* Join a convolution and the step after it if they may be; `reads` counts by buffer the inputs that are in it. */
void bl_join_conv1d(const bl_program *program, bl_step *step, bl_step *next, const int32_t *reads);
void bl_pack_conv1d(const bl_program *program, const bl_step *step, float *to);

/* Measure and pack a LSTM or GRU layer. The kernels are the program's for all other ops. */
const bl_kernels *bl_recurrent_kernels(const bl_program *program, const bl_op *op);
int64_t bl_recurrent_floats(const bl_program *program, const bl_op *op);
void bl_pack_recurrent(const bl_program *program, bl_step *step, float *to);

/* Find the stacks whose layers take turns, once all steps are packed. */
void bl_stack_recurrent(bl_program *program);

#endif
