/* [main] Which path a convolution takes, and its weights in that path's order: bl_conv_job says which. */
#include "internal.h"

/* Where one convolution's weights come from and go to. */
typedef struct conv_pack {
    const float *weight; /* [out][in of a group][kernel] */
    const float *bias;   /* [out], or NULL */
    const float *mix;    /* [out][in of a mix group], or NULL */
    float *to;
} conv_pack;

static int32_t rows_at(const bl_program *program, int32_t tensor)
{
    return tensor == BL_NONE ? 0 : bl_tensor_row_count(&program->tensors[tensor]);
}

static const float *array_at(const bl_program *program, const bl_op *op, int32_t array)
{
    return op->arrays[array].count ? program->blob + op->arrays[array].offset : NULL;
}

/* Cut `rows` rows into tiles of at most `most`, as evenly as may be. */
static void cut(bl_conv_job *job, int32_t rows, int32_t most)
{
    int32_t tiles = (rows + most - 1) / most;
    job->tile_rows = rows / tiles;
    job->higher_tiles = rows % tiles;
    job->lower_tiles = tiles - job->higher_tiles;
}

/* Whether the convolution kernel applies an op's activation to its own registers, and how. */
static int epilogue_of(const bl_program *program, const bl_op *op, bl_conv_job *job)
{
    job->epilogue = BL_CONV_PLAIN;
    if (op->activation == BL_ACT_RELU) {
        job->epilogue = BL_CONV_RELU;
    } else if (op->activation == BL_ACT_LEAKY_RELU) {
        job->slope = array_at(program, op, 3)[0];
        if (!(job->slope > 0.0f && job->slope <= 1.0f)) {
            return 0;
        }
        job->epilogue = BL_CONV_LEAKY;
    }
    return job->epilogue != BL_CONV_PLAIN || op->activation == BL_ACT_IDENTITY;
}

int64_t bl_conv1d_floats(const bl_program *program, const bl_op *op)
{
    return op->arrays[0].count + op->arrays[2].count + rows_at(program, op->outputs[0]);
}

void bl_plan_conv1d(const bl_program *program, bl_step *step)
{
    const bl_op *op = &step->op;
    int32_t out = rows_at(program, op->outputs[0]), out_per_group = out / op->groups;
    bl_conv_job *job = &step->conv;
    *job = (bl_conv_job){
        .kernel = op->kernel,
        .dilation = op->dilation,
        .stride = op->stride,
        .groups = op->groups,
        .in_per_group = rows_at(program, op->inputs[0]) / op->groups,
        .mix_groups = 1,
    };
    if (op->inputs[1] != BL_NONE) {
        job->mix_groups = op->mix_groups;
        job->mix_per_group = rows_at(program, op->inputs[1]) / op->mix_groups;
        job->out_per_mix_group = out / op->mix_groups;
    }
    step->in_registers = epilogue_of(program, op, job);
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

void bl_pack_conv1d(const bl_program *program, const bl_step *step, float *to)
{
    const bl_op *op = &step->op;
    const bl_conv_job *job = &step->conv;
    conv_pack pack = {array_at(program, op, 0), array_at(program, op, 1), array_at(program, op, 2), to};
    int64_t row = 0;
    for (int32_t g = 0; g < (job->depthwise ? 1 : job->groups); g++) {
        for (int32_t t = 0; t < job->higher_tiles + job->lower_tiles; t++) {
            int32_t rows = job->tile_rows + (t < job->higher_tiles);
            pack_tile(&pack, job, row, rows);
            row += rows;
        }
    }
}
