/* What program.c, engine_setup.c, engine.c and the ops share. Not for users. */
#ifndef BL_INTERNAL_H
#define BL_INTERNAL_H

#include "backline.h"
#include "kernels/kernels.h"

#define BL_ALIGN_FLOATS 16 /* one cache line, one AVX-512 vector */

typedef struct bl_moment bl_moment;
typedef struct bl_step bl_step;

/* Runs one op for one stream over the chunk at hand. [audio] */
typedef void bl_run(const bl_step *step, const bl_moment *moment);

/* The same for all streams, where these are better done together. [audio] */
typedef void bl_run_all(const bl_step *step, const bl_engine *engine);

/* What a convolution reads and writes, its own and what is joined to it. */
typedef enum bl_conv_port {
    BL_CONV_X,
    BL_CONV_MIX,
    BL_CONV_RESIDUAL,
    BL_CONV_SKIP,
    BL_CONV_Y,
    BL_CONV_SKIP_SUM,
    BL_CONV_NEXT_RESIDUAL,
    BL_CONV_NEXT_Y,
    BL_CONV_PORTS
} bl_conv_port;

/* An op made ready to run; what every block needs comes first. */
struct bl_step {
    bl_run *run;
    bl_run_all *run_all;          /* instead of run, or NULL */
    int32_t direct;               /* CONV1D: it may write to the caller's memory */
    int32_t joined;               /* CONV1D: the one before it does its work */
    int32_t index;                /* CONV1D, KNOB: its number among those */
    int32_t ports[BL_CONV_PORTS]; /* CONV1D: its tensors and those of the one joined to it */
    int32_t remembered_count;
    int32_t remembered[2 * BL_OP_OUTPUTS]; /* tensors it writes whose past is read */
    const bl_kernels *kernels;             /* those this op runs on: LSTM, GRU; else the program's */
    const float *weights; /* packed for the ISA: CONV1D, LSTM, GRU, RESAMPLE; else the op's first array */
    const float *second;  /* AFFINE: shift; ACTIVATE: parameters; LSTM, GRU: h0; or NULL */
    int64_t state_offset; /* floats from a stream's state area */
    int64_t state_floats;
    int32_t width;      /* LSTM, GRU: hidden units rounded up to whole vectors */
    int32_t layers;     /* LSTM, GRU: how many steps from here on it runs at once; 0 if one before does */
    bl_step *next;      /* CONV1D: the one joined to it, or NULL */
    int64_t first_term; /* CONV1D: where its terms' offsets begin among all */
    bl_conv_job conv;   /* CONV1D: all but where its rows lie and how many frames there are */
    bl_op op;
};

struct bl_program {
    const bl_kernels *kernels;
    bl_rate *rates;
    bl_buffer *buffers;
    bl_tensor *tensors;
    bl_step *steps;
    float *blob; /* the spec's, for parameters used as they are */
    float *packed;
    float *settled; /* state after the prewarm: see engine_setup.c; NULL while that is being made */
    int32_t rate_count;
    int32_t buffer_count;
    int32_t tensor_count;
    int32_t step_count;
    int32_t scratch_rows;
    int32_t input;
    int32_t output;
    int32_t knob_count;
    int32_t conv_count;
    int64_t term_count; /* of all convolutions that do not share them */
    int32_t direct;     /* the tensor that may be written to the caller's memory, or BL_NONE */
    int64_t state_floats;
    int64_t history_floats; /* rows times lookback of all rings */
    int64_t bytes;          /* all that is allocated, this struct included */
    int64_t receptive_field_frames;
    int32_t latency_frames;
    bl_isa isa;
};

/* Where a buffer lies in a stream's arena, and how it keeps its past: in a ring, or, where that is short, in front of
 * every chunk, shifted there after the chunk before. */
typedef enum bl_past { BL_PAST_NONE, BL_PAST_SHIFTED, BL_PAST_RING } bl_past;

typedef struct bl_place {
    int64_t offset; /* floats to row 0 */
    int64_t pitch;  /* floats from row to row */
    bl_past past;
    int32_t length; /* of a ring: frames before the mirror begins; else 0 */
    int32_t mirror; /* of a ring: frames of the mirror */
    int32_t cursor; /* where this chunk's first frame goes; always the same in what is no ring */
} bl_place;

/* Where a tensor's rows lie: in the arena, or for a chunk in the caller's memory. */
typedef struct bl_port {
    float *p; /* row 0 of the first stream at this chunk's first frame */
    int64_t pitch;
    int64_t stream; /* floats from one stream's rows to the next one's */
    int64_t offset; /* floats from a stream's memory to row 0 of the buffer's first frame */
    int32_t buffer;
    int32_t rate;
    int32_t rows;
} bl_port;

/* A convolution's rows that move with a ring. */
typedef struct bl_link {
    bl_rows *rows;
    int32_t tensor;
} bl_link;

/* A knob's straight way from one value to another, and the way that waits for its frame. */
typedef struct bl_knob {
    float from;
    float to;
    int64_t begin_frame;
    float next;
    int64_t next_frame; /* meaningful while waiting */
    int32_t waiting;
    int32_t ramp_frames;
    float minimum;
    float maximum;
    float initial;
} bl_knob;

struct bl_engine {
    const bl_program *program;
    bl_place *places;
    bl_port *ports;  /* by tensor; ports[BL_NONE] has no rows */
    int32_t *moving; /* the tensors in rings, whose rows move with every chunk */
    bl_knob *knobs;
    int32_t *offsets;       /* of the convolutions' terms */
    bl_conv_job *jobs;      /* by convolution, for the first stream; its rows are those of this chunk */
    bl_link *links;         /* what of the jobs moves */
    int64_t *frames_before; /* by rate: frames that exist before this chunk */
    int32_t *frames_now;    /* by rate: frames of this chunk */
    float *memory;          /* [stream][stream_floats] */
    int64_t stream_floats;
    int64_t state_offset; /* floats from a stream's memory to its state area */
    int64_t position_frames;
    int32_t streams;
    int32_t chunk_frames;
    int32_t moving_count;
    int32_t link_count;
};

/* One stream's view of the chunk at hand. */
struct bl_moment {
    const bl_engine *engine;
    int64_t stream;
};

static inline const bl_tensor *bl_tensor_at(const bl_moment *m, int32_t tensor)
{
    return &m->engine->program->tensors[tensor];
}

/* Frames of a tensor in this chunk. */
static inline int32_t bl_tensor_frames(const bl_moment *m, int32_t tensor)
{
    return m->engine->frames_now[m->engine->ports[tensor].rate];
}

static inline int32_t bl_tensor_row_count(const bl_tensor *tensor)
{
    return tensor->channels * tensor->features;
}

/* A tensor's rows at this chunk's first frame; NULL rows for BL_NONE. */
static inline bl_rows bl_tensor_rows(const bl_moment *m, int32_t tensor)
{
    const bl_port *port = &m->engine->ports[tensor];
    return (bl_rows){port->p + m->stream * port->stream, port->pitch};
}

/* A stream's memory. */
static inline float *bl_stream_memory(const bl_moment *m)
{
    return m->engine->memory + m->stream * m->engine->stream_floats;
}

/* The same rows, `frames` frames later. */
static inline bl_rows bl_rows_from(bl_rows rows, int32_t frames)
{
    return (bl_rows){rows.p + frames, rows.pitch};
}

/* Frames of a tensor that exist before this chunk: the absolute number of its first frame here. */
static inline int64_t bl_frames_before(const bl_moment *m, int32_t tensor)
{
    return m->engine->frames_before[m->engine->ports[tensor].rate];
}

/* How many frames of a tensor in this chunk come before the absolute frame `start`. */
static inline int32_t bl_frames_until(const bl_moment *m, int32_t tensor, int64_t start)
{
    int64_t frames = start - bl_frames_before(m, tensor), most = bl_tensor_frames(m, tensor);
    return (int32_t)(frames < 0 ? 0 : frames < most ? frames : most);
}

/* Floats from a tensor's rows at this chunk's first frame to the frame `frame` frames after it, or before it
 * where negative: the past may lie beyond the ring's seam. As many frames as a chunk has follow without one. */
static inline int64_t bl_frame_offset(const bl_moment *m, int32_t tensor, int64_t frame)
{
    const bl_place *place = &m->engine->places[m->engine->ports[tensor].buffer];
    return place->cursor + frame < 0 ? frame + place->length : frame;
}

/* How many of the first of `kernel` taps lie beyond the ring's seam, seen from this chunk's first frame. */
static inline int32_t bl_wrapped_taps(const bl_moment *m, int32_t tensor, int32_t kernel, int32_t dilation)
{
    const bl_place *place = &m->engine->places[m->engine->ports[tensor].buffer];
    int32_t before = (kernel - 1) * dilation - place->cursor; /* a ring's length fits 32 bits, so this does */
    return before <= 0 ? 0 : (int32_t)(((uint32_t)before + (uint32_t)dilation - 1) / (uint32_t)dilation);
}

/* 1 if an op's activation has one parameter per channel. */
static inline int32_t bl_parameter_step(const bl_op *op)
{
    return (op->activation == BL_ACT_PRELU || op->activation == BL_ACT_SNAKE) && op->arrays[3].count > 1;
}

/* The first frame at `rate` that does not exist yet once `input_frames` have been read: as many exist. Before
 * frame 0, in the prewarm, frames have negative numbers. */
static inline int64_t bl_rate_frames(const bl_rate *rate, int64_t input_frames)
{
    if (rate->num == 1 && rate->den == 1) {
        return input_frames - rate->phase; /* most graphs have no other: spare them two divisions a block */
    }
    int64_t scaled = input_frames * rate->num - rate->phase;
    return scaled <= 0 ? -(-scaled / rate->den) : (scaled + rate->den - 1) / rate->den;
}

/* The ops. [audio] */
bl_run bl_run_conv1d, bl_run_activate, bl_run_add, bl_run_multiply, bl_run_affine, bl_run_crossfade,
    bl_run_knob, bl_run_copy, bl_run_maxpool, bl_run_upsample, bl_run_interpolate, bl_run_interleave,
    bl_run_resample;

/* LSTM and GRU. [audio] */
bl_run_all bl_run_recurrent;

/* Find the rows of a convolution in this chunk. [audio] */
void bl_locate_conv1d(const bl_step *step, const bl_moment *m, bl_conv_job *job);

/* A knob's value for `frames` frames from `first` on; later, past `end`, forget what is over. [audio] */
void bl_knob_fill(const bl_knob *knob, int64_t first, float *row, int32_t frames);
void bl_knob_advance(bl_knob *knob, int64_t end);
void bl_knob_reset(bl_knob *knob);
void bl_knob_set(bl_knob *knob, float value, int64_t at_frame, int64_t now);

/* Distrust a spec: sizes, indexes, shapes, order. [main] */
bl_status bl_check_spec(const bl_spec *spec, bl_error *error);

/* Choose how each op runs; find the bytes that all ops' weights take when packed; pack them: in this order, with
 * program->blob and ->steps[].op set. [main] */
bl_status bl_plan_steps(bl_program *program);
int64_t bl_packed_bytes(const bl_program *program);
bl_status bl_pack_steps(bl_program *program);

/* Bytes one stream of an engine with full chunks takes, negative if that is absurd; and what an engine takes
 * besides. [main] */
int64_t bl_stream_bytes(const bl_program *program);
int64_t bl_engine_bytes(const bl_program *program);

/* Run the prewarm once and keep the state it leaves; also sets program->settled. [main] */
bl_status bl_program_settle(bl_program *program, int32_t prewarm_frames);

/* Copies a stream's state out of, and a settled state into, an engine. [audio] */
void bl_engine_export(const bl_engine *engine, float *settled);
void bl_engine_import(bl_engine *engine, const float *settled);

#endif
