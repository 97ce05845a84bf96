/* Backline: neural audio programs, run block by block in real time.
 *
 * This header and backline_host.h, for live sound, are the only contract between the C engine and the world.
 * native/build_ffi.py cuts the Python declarations out of them, from "begin cdef" to "end cdef".
 *
 * VOCABULARY
 *   frame    one instant of a signal: one value per row.
 *   row      one channel (of one feature) of a signal, frames contiguous in memory: planar layout.
 *   rate     frames of a signal per frame of the program's input, a fraction num/den.
 *   buffer   rows in an engine's arena, all at one rate. A RING remembers lookback_frames of the past;
 *            a SCRATCH buffer lives for one chunk and shares memory with others whose lives do not meet.
 *   tensor   a run of rows of one buffer: what ops read and write.
 *   op       one layer-sized step; the tape is the array of ops in running order.
 *   blob     all parameters of all ops, float32, one after the other.
 *   program  a checked tape with its weights packed for one instruction set; immutable.
 *   engine   the state of one or more streams of a program.
 *   stream   one independent signal through a program; its bits do not depend on its neighbours.
 *   knob     a one-row input that holds a value until told otherwise and gets there on a straight ramp.
 *   chunk    at most BL_CHUNK_FRAMES input frames: the unit every call is cut into.
 *
 * UNITS are in the names: _frames, _hz, _ns, _bytes. "Sample" never means frame.
 *
 * THREADS. The last word of each function's comment says who may call it:
 *   [main]   may allocate, lock and wait; never from the audio thread.
 *   [audio]  no allocation, lock, input/output, log or system call; constant work per frame; cannot
 *            fail. One thread at a time per object.
 *   [any]    reads what never changes; any thread, at any time.
 *
 * OWNERSHIP. Every *_new has its *_free; free(NULL) is legal. An engine uses its program and a host its
 * engine until freed: free users first. A new writes its out-pointer only on success.
 *
 * STATUS. Zero is success. What could fail is checked in *_new, once: every index, size and product of a
 * bl_spec is distrusted there, so that [audio] functions need no checks.
 */
#ifndef BACKLINE_H
#define BACKLINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* begin cdef */
enum {
    BL_ABI_VERSION = 6,
    BL_CHUNK_FRAMES = 128, /* most input frames worked on at a time */
    BL_NONE = -1,          /* what is absent: an op's tensor, a bound */
    BL_OP_INPUTS = 4,
    BL_OP_OUTPUTS = 2,
    BL_OP_ARRAYS = 6,
    BL_MAX_RATE = 256 /* most frames of a buffer to one frame of input */
};

typedef enum bl_status {
    BL_OK = 0,
    BL_ERROR_MEMORY, /* the system gave no memory */
    BL_ERROR_ISA,    /* this machine or build has not that instruction set */
    BL_ERROR_INDEX,  /* an index points outside its table */
    BL_ERROR_SIZE,   /* a size is zero, negative or absurd */
    BL_ERROR_SHAPE,  /* sizes that have to agree do not */
    BL_ERROR_ORDER,  /* an op reads what no earlier op has written */
    BL_ERROR_KIND,   /* an unknown op, activation or buffer kind */
    BL_ERROR_VALUE,  /* a number that is not finite or out of its range */
    BL_ERROR_BUSY,   /* a mailbox is full; try again */
    BL_ERROR_SYSTEM  /* the operating system refused */
} bl_status;

typedef enum bl_isa {
    BL_ISA_SCALAR = 0,
    BL_ISA_SSE2,
    BL_ISA_AVX2, /* with FMA */
    BL_ISA_AVX512,
    BL_ISA_NEON,
    BL_ISA_COUNT
} bl_isa;

/* Frames of a signal at num/den of the input's rate: once the program has read F input frames,
 * ceil((F * num - phase) / den) exist. In the prewarm F is negative, and so are the numbers of the frames. */
typedef struct bl_rate {
    int32_t num;
    int32_t den;
    int32_t phase;
} bl_rate;

typedef enum bl_buffer_kind { BL_BUFFER_SCRATCH = 0, BL_BUFFER_RING } bl_buffer_kind;

typedef struct bl_buffer {
    int32_t kind; /* bl_buffer_kind */
    int32_t rate; /* index into bl_spec.rates */
    int32_t rows;
    int32_t lookback_frames; /* RING: the longest reach into the past of any reader, at this rate */
    int32_t scratch_row;     /* SCRATCH: first row in the shared scratch area; a row there holds a chunk */
} bl_buffer;

typedef struct bl_tensor {
    int32_t buffer;
    int32_t first_row;
    int32_t channels;
    int32_t features; /* 1 for plain signals; row = feature * channels + channel */
} bl_tensor;

/* What an op reads, writes and needs; fields it does not name have to be 0 (BL_NONE for tensors).
 *
 * kind         inputs                     outputs       arrays                          fields
 * CONV1D       x, mix?, residual?, skip?  y, skip-sum?  weight[out][in/groups][kernel]  kernel dilation stride
 *                                                       bias[out]? mix[out][in/mg]?     groups mix_groups
 *                                                       activation parameters?          activation
 *              y = act(bias + conv(x) + mix) + residual;  skip-sum = skip + y
 *              y[n] belongs to x[n stride], y[0] to x[0]: the last tap meets that frame. Once F frames of x exist
 *              so do ceil(F / stride) of y, each once: where a format holds it until the next, at the rate of x,
 *              an UPSAMPLE by stride follows
 * ACTIVATE     x                          y             activation parameters?          activation
 * ADD          a, b                       y
 * MULTIPLY     a, b (one row: for all)    y
 * AFFINE       x                          y             scale[1 or ch] shift[1 or ch]?
 * CROSSFADE    a, b, t (one row: for all) y             a (1 - t) + b t for any t; exact at t = 0 and 1
 * LSTM         x                          y             w_ih[4H][in] w_hh[4H][H] bias[4H] h0[H]? c0[H]?
 *                                                       gates i, f, g, o                start_frames
 * KNOB                                    y (one row)   [default, minimum, maximum]     ramp_frames
 *              the n-th KNOB op of the tape is knob n
 * GRU          x                          y             w_ih[3H][in] w_hh[3H][H] bias_ih[3H] bias_hh[3H] h0[H]?
 *                                                       gates r, z, n                   start_frames
 *              n = tanh(w_ih x + bias_ih + r (w_hh h + bias_hh));  h = n + z (h - n)
 * COPY         x                          y                                             delay_frames start_frames
 *              y[n] = x[n - delay_frames], and 0 where n < start_frames
 * MAXPOOL      x                          y                                             kernel dilation stride
 *              y[n] = the largest of x[n stride - k dilation], k < kernel               start_frames
 *              those of frames before start_frames do not count; 0 where none is left; NaN if one is NaN;
 *              kernel at most 4096
 * UPSAMPLE     x                          y                                             factor
 *              y[n] = x[floor(n / factor)]: held
 * INTERPOLATE  x                          y                                             factor start_frames
 *              straight lines between frames of x, each of which lies in the middle of `factor` frames:
 *              y[n] = x at (n - floor(factor / 2) + 1/2) / factor - 1/2, frames before start_frames replaced
 *              by that one; 0 where n < start_frames factor. Half a frame of x late: no future is needed
 * INTERLEAVE   x (factor rows for each)   y                                             factor
 *              y[channel][n] = x[channel factor + n mod factor][floor(n / factor)]
 * RESAMPLE     x                          y             weight[factor][kernel]          kernel stride factor
 *              y[n] = sum of weight[n stride mod factor][k] x[floor(n stride / factor) - (kernel - 1) + k]: the
 *              phases of a filter at factor times the rate of x, of which every stride-th frame is made; the same
 *              for all rows; kernel at most 4096
 *
 * start_frames counts absolute frames, of y (MAXPOOL, INTERPOLATE: of x); those of the prewarm are negative. Before
 * it a recurrent op holds its first state and y is h0, 0 where absent. An op at another rate than its input may
 * read a frame of an earlier chunk: x of UPSAMPLE and INTERLEAVE needs a lookback of 1, of INTERPOLATE of 2, of
 * RESAMPLE of kernel.
 *
 * An output may be the very tensor of an elementwise op's input, and skip-sum that of skip; else outputs
 * share no memory with inputs. Mix groups divide groups. All tensors of an op run at one rate, but CONV1D and MAXPOOL
 * write at 1/stride of the rate they read, UPSAMPLE, INTERPOLATE and INTERLEAVE at factor times it, and RESAMPLE
 * at factor/stride times it. */
typedef enum bl_op_kind {
    BL_OP_CONV1D = 1,
    BL_OP_ACTIVATE,
    BL_OP_ADD,
    BL_OP_MULTIPLY,
    BL_OP_AFFINE,
    BL_OP_CROSSFADE,
    BL_OP_LSTM,
    BL_OP_KNOB,
    BL_OP_GRU,
    BL_OP_COPY,
    BL_OP_MAXPOOL,
    BL_OP_UPSAMPLE,
    BL_OP_INTERPOLATE,
    BL_OP_INTERLEAVE,
    BL_OP_RESAMPLE
} bl_op_kind;

/* Parameters, in the order of their array, in brackets. NaN gives NaN, an infinity what the function tends to. Within
 * 4 ulp: GELU, SOFTPLUS and HARDSIGMOID of what 2 ulp of x make of it, SNAKE of its larger summand, FASTTANH within 6;
 * all where the value is at least 2^-119 (SOFTPLUS: over beta). */
typedef enum bl_activation {
    BL_ACT_IDENTITY = 0,
    BL_ACT_TANH,
    BL_ACT_FASTTANH, /* the rational approximation NAM files call Fasttanh */
    BL_ACT_SIGMOID,
    BL_ACT_RELU,
    BL_ACT_LEAKY_RELU, /* [slope] */
    BL_ACT_PRELU,      /* [slope for all] or [slope per channel] */
    BL_ACT_SILU,
    BL_ACT_SOFTSIGN,
    BL_ACT_HARDTANH,       /* [low, high] */
    BL_ACT_LEAKY_HARDTANH, /* [low, high, slope below, slope above] */
    BL_ACT_HARDSWISH,
    BL_ACT_ELU,         /* [alpha] */
    BL_ACT_SOFTMAX,     /* over the channels of a frame */
    BL_ACT_GELU,        /* x Phi(x), with the error function */
    BL_ACT_GELU_TANH,   /* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
    BL_ACT_SOFTPLUS,    /* [beta > 0]: log(1 + exp(beta x)) / beta */
    BL_ACT_HARDSIGMOID, /* [slope, offset]: clip(slope x + offset, 0, 1) */
    BL_ACT_SNAKE,       /* [alpha for all] or [alpha per channel], none 0: x + sin(alpha x)^2 / alpha */
    BL_ACT_COUNT
} bl_activation;

/* A run of numbers in the blob; count 0 means absent. */
typedef struct bl_span {
    int64_t offset;
    int64_t count;
} bl_span;

typedef struct bl_op {
    int32_t kind; /* bl_op_kind */
    int32_t activation;
    int32_t inputs[BL_OP_INPUTS];
    int32_t outputs[BL_OP_OUTPUTS];
    int32_t kernel;       /* taps */
    int32_t dilation;     /* frames of x from tap to tap */
    int32_t stride;       /* frames of x from one frame of y to the next; RESAMPLE: for each `factor` of y */
    int32_t groups;       /* parts that inputs and outputs are cut into; a part hears its own */
    int32_t mix_groups;   /* the same of mix */
    int32_t ramp_frames;  /* of a knob's way from value to value; 0 jumps */
    int32_t delay_frames; /* at the rate of the op */
    int32_t start_frames; /* -2^24, the least allowed, is before any prewarm */
    int32_t factor;       /* frames of y for each of x; RESAMPLE: for each `stride` of x */
    bl_span arrays[BL_OP_ARRAYS];
} bl_op;

/* A program as the compiler hands it over. Nothing of it is kept after bl_program_new. */
typedef struct bl_spec {
    const bl_rate *rates; /* rates[0] is 1/1 */
    const bl_buffer *buffers;
    const bl_tensor *tensors;
    const bl_op *ops;
    const float *blob;
    int64_t blob_count;
    int32_t rate_count;
    int32_t buffer_count;
    int32_t tensor_count;
    int32_t op_count;
    int32_t scratch_rows;
    int32_t input;                  /* tensor the audio input is copied to, at rate 1/1 */
    int32_t output;                 /* tensor the audio output is copied from */
    int32_t prewarm_frames;         /* silence in frames -prewarm_frames to -1, which state settles on */
    int32_t latency_frames;         /* for bl_info; nothing is moved by it */
    int64_t receptive_field_frames; /* the same; BL_NONE for unbounded */
} bl_spec;

/* Why a spec was refused. op is the index of the op at fault, or BL_NONE. */
typedef struct bl_error {
    int32_t op;
    int32_t field_index;
    int64_t found;
    int64_t expected;
    const char *what; /* static text: what was found and expected */
} bl_error;

typedef struct bl_info {
    int32_t isa; /* bl_isa */
    int32_t input_rows;
    int32_t output_rows;
    int32_t knob_count;
    bl_rate output_rate;
    int32_t latency_frames;         /* of output, by which it lags behind what the model's author computes */
    int64_t receptive_field_frames; /* of input that one output frame depends on; BL_NONE: all of the past */
    int64_t program_bytes;          /* allocated for the program */
    int64_t engine_bytes;           /* allocated for an engine, its streams apart */
    int64_t stream_bytes;           /* allocated for each stream of it, at full chunks */
} bl_info;

typedef struct bl_program bl_program;
typedef struct bl_engine bl_engine;

/* The version this library was built with; compare with BL_ABI_VERSION of the header. [any] */
int32_t bl_abi_version(void);

/* A short English text for a status, e.g. "index outside its table". Never NULL. [any] */
const char *bl_status_text(bl_status status);

/* The best instruction set of this machine that this build holds. [any] */
bl_isa bl_isa_best(void);

/* 1 if this build holds the instruction set and this machine runs it, else 0. [any] */
int32_t bl_isa_available(bl_isa isa);

/* "scalar", "sse2", "avx2", "avx512", "neon". NULL for a number that is none. [any] */
const char *bl_isa_name(bl_isa isa);

/* Check `spec`, copy it, pack its weights for `isa` and settle its state. On failure `error` (which may
 * be NULL) says where and why. [main] */
bl_status bl_program_new(const bl_spec *spec, bl_isa isa, bl_program **program, bl_error *error);

/* [main] */
void bl_program_free(bl_program *program);

/* [any] */
bl_info bl_program_info(const bl_program *program);

/* Make an engine of `streams` streams, reset. Blocks given to process are cut into chunks of at most
 * min(max_frames, BL_CHUNK_FRAMES); process takes any number of frames all the same. [main] */
bl_status bl_engine_new(const bl_program *program, int32_t streams, int32_t max_frames, bl_engine **engine);

/* [main] */
void bl_engine_free(bl_engine *engine);

/* Back to the settled state of frame 0, knobs at their defaults. [audio] */
void bl_engine_reset(bl_engine *engine);

/* Input frames read since the reset. [audio] */
int64_t bl_engine_position_frames(const bl_engine *engine);

/* Frames that the next process of `frames` input frames will write. [audio] */
int64_t bl_engine_output_frames(const bl_engine *engine, int64_t frames);

/* Let knob `knob` of every stream ramp to `value`, clamped to its range, from absolute frame `at_frame` on (one
 * that has passed means: from the next frame on). Before frame 0 has been read, and at_frame is at most 0,
 * it jumps. A later call replaces one whose frame has not come. `value` that is not finite, or a knob
 * that is none, changes nothing. [audio] */
void bl_engine_set(bl_engine *engine, int32_t knob, float value, int64_t at_frame);

/* Read `frames` frames of [stream][row][frame] from `in`, write bl_engine_output_frames to `out` in the
 * same layout. Rows follow each other at `in_stride` and `out_stride` floats. `in` and `out` may be the
 * same memory if strides and row counts are equal and output_rate is at most 1, but must not overlap in any
 * other way. Bits do not depend on how a signal is cut into calls. Denormal numbers count as 0; what is not finite
 * is passed on. [audio] */
void bl_engine_process(bl_engine *engine, const float *in, int64_t in_stride, float *out, int64_t out_stride,
                       int64_t frames);

/* MEASURING. What a loudness meter needs and Python has no recursion for, in double precision. */

/* A second-order filter section: y[n] = b[0] x[n] + b[1] x[n-1] + b[2] x[n-2] - a[0] y[n-1] - a[1] y[n-2]. */
typedef struct bl_section {
    double b[3];
    double a[2];
} bl_section;

enum {
    BL_SECTION_STATE = 6 /* numbers that two sections in a row remember of one channel */
};

/* Run `x` [frame][channel] through two sections in turn, every channel for itself, and add up the squares of
 * what comes out: of frames 0 to ends[0] - 1 onto powers[0][channel], from there to ends[1] - 1 onto
 * powers[1][channel] and so on. `ends` [count] does not fall; `x` is read up to the last of them. `state`
 * [channel][BL_SECTION_STATE] is zero to begin with and goes on from call to call: sums do not depend, to the bit,
 * on how a signal is cut into calls, nor on the machine. Nothing overlaps. Denormal numbers count as 0; what is
 * not finite stays in the state. [audio] */
void bl_sections_power(const bl_section sections[2], double *state, const double *x, int32_t channels,
                       const int64_t *ends, int32_t count, double *powers);

/* BENCHMARKS. Whole runs of equal blocks without a step outside of C between them. */

/* What an engine is given and where its answers go. Block n reads `block_frames` frames from the block
 * n mod B of `in`, B = floor(in_frames / block_frames); all blocks write to the beginning of `out`. */
typedef struct bl_bench {
    const float *in; /* [stream][row][in_frames] */
    float *out;      /* [stream][row][out_frames] */
    int64_t in_frames;
    int64_t out_frames;   /* at least what any block writes */
    int32_t block_frames; /* 1 to in_frames */
} bl_bench;

/* How long a run took. On a core that others use too thread_ns is less: the processor time of this thread. */
typedef struct bl_bench_time {
    int64_t wall_ns;
    int64_t thread_ns;
} bl_bench_time;

/* Floating point operations of one round of bl_bench_fma; 0 where bl_isa_available says 0. [any] */
int32_t bl_bench_fma_flops(bl_isa isa);

/* Run `blocks` blocks of `rounds` rounds of multiply-adds in registers: what no kernel of the instruction set can
 * surpass. Where that has no fused ones (SSE2, scalar), of multiplications and additions. `times_ns` [blocks] is
 * filled with how long each block took, 2^32 - 1 if longer, the reading of the clock included; with NULL
 * no clock is read in between. Does nothing where the instruction set is not available. [main] */
bl_bench_time bl_bench_fma(bl_isa isa, int64_t rounds, int64_t blocks, uint32_t *times_ns);

/* Run `blocks` blocks through an engine, which goes on from where it stands; times_ns as above. [main] */
bl_bench_time bl_bench_engine(bl_engine *engine, const bl_bench *bench, int64_t blocks, uint32_t *times_ns);
/* end cdef */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
