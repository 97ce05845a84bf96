/* [main] Which path a convolution takes, and its weights in that path's order: bl_conv_job says which. */
#include "pack.h"

/* Where one convolution's weights come from and go to. */
typedef struct conv_pack {
    const float *weight; /* [out][in of a group][kernel] */
    const float *bias;   /* [out], or NULL */
    const float *mix;    /* [out][in of a mix group], or NULL */
    float *to;
} conv_pack;

/* Cut `rows` rows into tiles of at most `most`, as evenly as may be. */
static void cut(bl_conv_job *job, int32_t rows, int32_t most)
{
    int32_t tiles = (rows + most - 1) / most;
    job->tile_rows = rows / tiles;
    job->higher_tiles = rows % tiles;
    job->lower_tiles = tiles - job->higher_tiles;
}

static void choose_epilogue(const bl_program *program, const bl_op *op, bl_conv_job *job)
{
    job->activation = (bl_activation)op->activation;
    job->parameters = bl_array_at(program, op, 3);
    job->parameter_step = bl_parameter_step(op);
    job->epilogue = BL_CONV_ACTIVATE;
    if (op->activation == BL_ACT_IDENTITY || op->activation == BL_ACT_SOFTMAX) {
        job->epilogue = BL_CONV_PLAIN;
    } else if (op->activation == BL_ACT_RELU) {
        job->epilogue = BL_CONV_RELU;
    } else if (op->activation == BL_ACT_LEAKY_RELU) {
        job->slope = job->parameters[0];
        if (job->slope > 0.0f && job->slope <= 1.0f) {
            job->epilogue = BL_CONV_LEAKY;
        }
    }
}

int64_t bl_conv1d_floats(const bl_program *program, const bl_op *op)
{
    return op->arrays[0].count + op->arrays[2].count + bl_rows_at(program, op->outputs[0]);
}

void bl_plan_conv1d(const bl_program *program, bl_step *step)
{
    const bl_op *op = &step->op;
    int32_t out = bl_rows_at(program, op->outputs[0]), out_per_group = out / op->groups;
    bl_conv_job *job = &step->conv;
    *job = (bl_conv_job){
        .kernel = op->kernel,
        .dilation = op->dilation,
        .stride = op->stride,
        .groups = op->groups,
        .in_per_group = bl_rows_at(program, op->inputs[0]) / op->groups,
        .mix_groups = 1,
        .rate = program->buffers[program->tensors[op->outputs[0]].buffer].rate,
    };
    job->terms = job->in_per_group * job->kernel;
    if (op->inputs[1] != BL_NONE) {
        job->mix_groups = op->mix_groups;
        job->mix_per_group = bl_rows_at(program, op->inputs[1]) / op->mix_groups;
        job->out_per_mix_group = out / op->mix_groups;
    }
    choose_epilogue(program, op, job);
    for (int i = 0; i < BL_CONV_PORTS; i++) {
        step->ports[i] = BL_NONE;
    }
    step->ports[BL_CONV_X] = op->inputs[0];
    step->ports[BL_CONV_MIX] = op->inputs[1];
    step->ports[BL_CONV_RESIDUAL] = op->inputs[2];
    step->ports[BL_CONV_SKIP] = op->inputs[3];
    step->ports[BL_CONV_Y] = op->outputs[0];
    step->ports[BL_CONV_SKIP_SUM] = op->outputs[1];
    job->depthwise = op->groups > 1 && job->in_per_group == 1 && out_per_group == 1 && op->stride == 1
                     && job->mix_per_group == 0;
    if (job->depthwise) {
        cut(job, op->groups, program->kernels->depthwise_rows);
    } else {
        cut(job, out_per_group, program->kernels->tile_rows);
    }
}

/* The weights of `rows` output rows from `row` on. */
static void pack_tile(conv_pack *pack, const bl_conv_job *job, int64_t row, int32_t rows)
{
    const int64_t taps = (int64_t)job->in_per_group * job->kernel;
    for (int32_t r = 0; r < rows; r++) {
        *pack->to++ = pack->bias ? pack->bias[row + r] : 0.0f;
    }
    for (int64_t tap = 0; tap < job->kernel; tap++) {
        for (int64_t i = 0; i < job->in_per_group; i++) {
            for (int32_t r = 0; r < rows; r++) {
                *pack->to++ = pack->weight[(row + r) * taps + i * job->kernel + tap];
            }
        }
    }
    for (int32_t i = 0; i < job->mix_per_group; i++) {
        for (int32_t r = 0; r < rows; r++) {
            *pack->to++ = pack->mix[(row + r) * job->mix_per_group + i];
        }
    }
}

/* Whether the rows of two tensors may lie in the same memory. */
static int overlap(const bl_program *program, int32_t a, int32_t b)
{
    if (a == BL_NONE || b == BL_NONE) {
        return 0;
    }
    const bl_tensor *left = &program->tensors[a], *right = &program->tensors[b];
    const bl_buffer *from = &program->buffers[left->buffer], *to = &program->buffers[right->buffer];
    if (from->kind != BL_BUFFER_SCRATCH || to->kind != BL_BUFFER_SCRATCH) {
        return left->buffer == right->buffer;
    }
    return from->scratch_row < to->scratch_row + to->rows && to->scratch_row < from->scratch_row + from->rows;
}

static int may_join(const bl_program *program, const bl_step *step, const bl_step *next)
{
    const bl_op *a = &step->op, *b = &next->op;
    if (a->kind != BL_OP_CONV1D || b->kind != BL_OP_CONV1D || b->inputs[0] != a->outputs[0]) {
        return 0;
    }
    int one_tile = a->groups == 1 && step->conv.higher_tiles + step->conv.lower_tiles == 1;
    int plain = a->stride == 1 && a->inputs[2] == BL_NONE && a->activation != BL_ACT_SOFTMAX;
    int pointwise = b->kernel == 1 && b->stride == 1 && b->groups == 1 && b->inputs[1] == BL_NONE
                    && b->inputs[3] == BL_NONE && b->activation == BL_ACT_IDENTITY;
    /* What the second writes, the first must not read for a later tile. */
    int apart = 1;
    for (int32_t i = 0; i < BL_OP_INPUTS; i++) {
        apart &= !overlap(program, a->inputs[i], b->outputs[0]);
    }
    return one_tile && plain && pointwise && apart && !overlap(program, a->outputs[1], b->outputs[0])
           && !overlap(program, a->outputs[0], b->outputs[0]);
}

void bl_join_conv1d(const bl_program *program, bl_step *step, bl_step *next, const int32_t *reads)
{
    if (!may_join(program, step, next)) {
        return;
    }
    const int32_t y = step->op.outputs[0], buffer = program->tensors[y].buffer;
    const int only = reads[buffer] == 1 && program->buffers[buffer].kind == BL_BUFFER_SCRATCH;
    step->next = next;
    next->joined = 1;
    step->conv.next_rows = bl_rows_at(program, next->op.outputs[0]);
    step->ports[BL_CONV_NEXT_RESIDUAL] = next->op.inputs[2];
    step->ports[BL_CONV_NEXT_Y] = next->op.outputs[0];
    if (only && buffer != program->tensors[program->output].buffer) {
        step->ports[BL_CONV_Y] = BL_NONE;
    }
}

/* As bl_conv_job says of a joined convolution. */
static void pack_joined(const conv_pack *pack, int32_t rows, int32_t inputs)
{
    float *to = pack->to;
    for (int64_t r = 0; r < rows; r++) {
        *to++ = pack->bias ? pack->bias[r] : 0.0f;
        for (int32_t i = 0; i < inputs; i++) {
            *to++ = pack->weight[r * inputs + i];
        }
    }
}

void bl_pack_conv1d(const bl_program *program, const bl_step *step, float *to)
{
    const bl_op *op = &step->op;
    const bl_conv_job *job = &step->conv;
    conv_pack pack = {bl_array_at(program, op, 0), bl_array_at(program, op, 1), bl_array_at(program, op, 2),
                      to};
    if (step->joined) {
        pack_joined(&pack, bl_rows_at(program, op->outputs[0]), job->in_per_group);
        return;
    }
    int64_t row = 0;
    for (int32_t g = 0; g < (job->depthwise ? 1 : job->groups); g++) {
        for (int32_t t = 0; t < job->higher_tiles + job->lower_tiles; t++) {
            int32_t rows = job->tile_rows + (t < job->higher_tiles);
            pack_tile(&pack, job, row, rows);
            row += rows;
        }
    }
}
