/* Everything two threads share, and the only file with atomics. One side of each is the audio thread, which
 * never waits and never retries: each function below ends after a fixed amount of work.
 *
 * Every value has exactly one writer, so that a relaxed load and store are enough to add to it; no
 * read-modify-write instruction is needed on the audio side. No atomic is wider than 8 bytes.
 *
 * Memory order: an index is stored with release after the data it covers has been written (or read, when it hands
 * space back), and loaded with acquire before that data is touched. Counters carry no data and are relaxed,
 * but for those that say otherwise. */
#ifndef BL_MAILBOX_H
#define BL_MAILBOX_H

#include "backline_host.h"

#include <stdatomic.h>
#include <string.h>

enum { BL_CACHE_LINE_BYTES = 64 };

/* The monitor's part of all this may lie in memory that two processes share; lock-free atomics work there alike. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "an atomic that takes a lock");

/* ---- counters: written by the audio thread, read by the main thread ---- */

typedef struct bl_counter {
    _Atomic int64_t value;
} bl_counter;

static inline int64_t bl_counter_get(const bl_counter *counter)
{
    return atomic_load_explicit(&((bl_counter *)counter)->value, memory_order_relaxed);
}

static inline void bl_counter_add(bl_counter *counter, int64_t amount)
{
    const int64_t old = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, old + amount, memory_order_relaxed);
}

static inline void bl_counter_set(bl_counter *counter, int64_t value)
{
    atomic_store_explicit(&counter->value, value, memory_order_relaxed);
}

/* As bl_counter_add, and whoever sees the sum with bl_counter_get_acquire sees all that came before. */
static inline void bl_counter_add_release(bl_counter *counter, int64_t amount)
{
    const int64_t old = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, old + amount, memory_order_release);
}

static inline int64_t bl_counter_get_acquire(const bl_counter *counter)
{
    return atomic_load_explicit(&((bl_counter *)counter)->value, memory_order_acquire);
}

/* ---- peaks: raised by the audio thread, taken (and so set to 0) by the main thread ---- */

/* The bits of a float that is not negative: they sort as the floats do. */
typedef struct bl_peak {
    _Atomic uint32_t bits;
} bl_peak;

static inline uint32_t bl_float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bl_bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* No compare-and-swap: if the peak is taken between the load and the store, then either `value` was below
 * what was just taken, and belongs to that reading, or it is stored for the next one. Nothing is lost. */
static inline void bl_peak_raise(bl_peak *peak, float value)
{
    const uint32_t bits = bl_float_bits(value);
    if (bits > atomic_load_explicit(&peak->bits, memory_order_relaxed)) {
        atomic_store_explicit(&peak->bits, bits, memory_order_relaxed);
    }
}

static inline float bl_peak_get(const bl_peak *peak)
{
    return bl_bits_float(atomic_load_explicit(&((bl_peak *)peak)->bits, memory_order_relaxed));
}

static inline float bl_peak_take(bl_peak *peak)
{
    return bl_bits_float(atomic_exchange_explicit(&peak->bits, 0, memory_order_relaxed));
}

/* ---- flag: raised once, by the main thread ---- */

typedef struct bl_flag {
    atomic_bool raised;
} bl_flag;

static inline void bl_flag_raise(bl_flag *flag)
{
    atomic_store_explicit(&flag->raised, 1, memory_order_release);
}

static inline int bl_flag_get(bl_flag *flag)
{
    return atomic_load_explicit(&flag->raised, memory_order_acquire);
}

/* ---- commands: main thread to audio thread ---- */

typedef struct bl_command {
    int64_t serial;
    int64_t at_frame;
    float value;
    int32_t knob;
} bl_command;

/* Counts run on and wrap at 2^32, a multiple of the number of slots. */
typedef struct bl_commands {
    bl_command slots[BL_HOST_COMMANDS];
    _Alignas(BL_CACHE_LINE_BYTES) _Atomic uint32_t put_count; /* stored by the main thread */
    _Alignas(BL_CACHE_LINE_BYTES) _Atomic uint32_t got_count; /* stored by the audio thread */
} bl_commands;

/* 0 if there is no room. */
static inline int bl_commands_put(bl_commands *commands, bl_command command)
{
    const uint32_t put = atomic_load_explicit(&commands->put_count, memory_order_relaxed);
    if (put - atomic_load_explicit(&commands->got_count, memory_order_acquire) >= BL_HOST_COMMANDS) {
        return 0;
    }
    commands->slots[put % BL_HOST_COMMANDS] = command;
    atomic_store_explicit(&commands->put_count, put + 1, memory_order_release);
    return 1;
}

/* How many wait. The audio thread asks once per block, so that one that keeps putting cannot hold it. */
static inline uint32_t bl_commands_waiting(bl_commands *commands)
{
    return atomic_load_explicit(&commands->put_count, memory_order_acquire)
           - atomic_load_explicit(&commands->got_count, memory_order_relaxed);
}

/* Only as often as bl_commands_waiting said. */
static inline bl_command bl_commands_get(bl_commands *commands)
{
    const uint32_t got = atomic_load_explicit(&commands->got_count, memory_order_relaxed);
    const bl_command command = commands->slots[got % BL_HOST_COMMANDS];
    atomic_store_explicit(&commands->got_count, got + 1, memory_order_release);
    return command;
}

/* ---- handoff: one pointer between the main and the audio thread ---- */

/* Who stores and who takes is said where it stands. The giver stores only where there is nothing, the taker leaves
 * nothing behind; so neither ever finds the other in between. */
typedef struct bl_handoff {
    _Atomic(void *) held;
} bl_handoff;

/* What is held, or NULL; all that the giver wrote to it is seen. */
static inline void *bl_handoff_get(const bl_handoff *handoff)
{
    return atomic_load_explicit(&((bl_handoff *)handoff)->held, memory_order_acquire);
}

static inline void bl_handoff_put(bl_handoff *handoff, void *pointer)
{
    atomic_store_explicit(&handoff->held, pointer, memory_order_release);
}

/* ---- log: the last callbacks, from the audio thread to a reader ---- */

enum { BL_RECORD_WORDS = sizeof(bl_record) / sizeof(uint64_t) };

typedef struct bl_log {
    _Atomic int64_t begun; /* records since the beginning that were begun, */
    _Atomic int64_t whole; /* and that were ended */
    _Atomic uint64_t words[BL_MONITOR_LOG][BL_RECORD_WORDS];
} bl_log;

/* Whoever sees a word of a record also sees, as the words are stored with release, that it was begun and so has
 * taken the place of an older one. */
static inline void bl_log_put(bl_log *log, bl_record record)
{
    /* not of begun: a process that was killed may have begun a record and not ended it */
    const int64_t count = atomic_load_explicit(&log->whole, memory_order_relaxed);
    uint64_t words[BL_RECORD_WORDS];
    memcpy(words, &record, sizeof words);
    atomic_store_explicit(&log->begun, count + 1, memory_order_relaxed);
    for (int32_t i = 0; i < BL_RECORD_WORDS; i++) {
        atomic_store_explicit(&log->words[count % BL_MONITOR_LOG][i], words[i], memory_order_release);
    }
    atomic_store_explicit(&log->whole, count + 1, memory_order_release);
}

/* Copy what is whole, oldest first, without what is overwritten meanwhile; returns how many. `records` holds
 * BL_MONITOR_LOG. */
static inline int32_t bl_log_get(const bl_log *shared, bl_record *records)
{
    bl_log *log = (bl_log *)shared;
    const int64_t end = atomic_load_explicit(&log->whole, memory_order_acquire);
    const int64_t first = end > BL_MONITOR_LOG ? end - BL_MONITOR_LOG : 0;
    for (int64_t at = first; at < end; at++) {
        uint64_t words[BL_RECORD_WORDS];
        for (int32_t i = 0; i < BL_RECORD_WORDS; i++) {
            words[i] = atomic_load_explicit(&log->words[at % BL_MONITOR_LOG][i], memory_order_acquire);
        }
        memcpy(&records[at - first], words, sizeof words);
    }
    const int64_t spoilt = atomic_load_explicit(&log->begun, memory_order_relaxed) - BL_MONITOR_LOG - first;
    const int64_t lost = spoilt < 0 ? 0 : spoilt;
    if (end - first <= lost) {
        return 0;
    }
    memmove(records, records + lost, (size_t)(end - first - lost) * sizeof *records);
    return (int32_t)(end - first - lost);
}

/* ---- ring: frames from the audio thread to a reader ---- */

/* Planar [row][capacity_frames], so that the audio thread copies whole runs and the reader interleaves. The data
 * lie elsewhere: a pointer would mean nothing to another process. */
typedef struct bl_ring {
    int64_t capacity_frames; /* 0: there is no such ring */
    int32_t rows;
    _Alignas(BL_CACHE_LINE_BYTES) _Atomic int64_t put_frames; /* stored by the audio thread */
    _Alignas(BL_CACHE_LINE_BYTES) _Atomic int64_t got_frames; /* stored by the reader */
} bl_ring;

static inline int64_t bl_ring_room(bl_ring *ring)
{
    return ring->capacity_frames
           - (atomic_load_explicit(&ring->put_frames, memory_order_relaxed)
              - atomic_load_explicit(&ring->got_frames, memory_order_acquire));
}

/* Frames put into it since the beginning. For the thread that puts, or before there is one. */
static inline int64_t bl_ring_put_frames(const bl_ring *ring)
{
    return atomic_load_explicit(&((bl_ring *)ring)->put_frames, memory_order_relaxed);
}

/* Put `frames` frames of `planar`, rows `stride` floats apart, or silence if it is NULL. Only as many as
 * bl_ring_room said. */
static inline void bl_ring_put(bl_ring *ring, float *data, const float *planar, int64_t stride,
                               int64_t frames)
{
    const int64_t put = atomic_load_explicit(&ring->put_frames, memory_order_relaxed);
    const int64_t first = put % ring->capacity_frames;
    const int64_t space = ring->capacity_frames - first;
    const size_t run = (size_t)(frames < space ? frames : space);
    const size_t rest = (size_t)frames - run;

    for (int32_t row = 0; row < ring->rows; row++) {
        float *line = data + row * ring->capacity_frames;
        if (planar) {
            memcpy(line + first, planar + row * stride, run * sizeof *line);
            memcpy(line, planar + row * stride + run, rest * sizeof *line);
        } else {
            memset(line + first, 0, run * sizeof *line);
            memset(line, 0, rest * sizeof *line);
        }
    }
    atomic_store_explicit(&ring->put_frames, put + frames, memory_order_release);
}

/* Take at most `max_frames` frames, [frame][row]; returns how many. */
static inline int64_t bl_ring_get(bl_ring *ring, const float *data, float *interleaved, int64_t max_frames)
{
    if (ring->capacity_frames == 0) {
        return 0;
    }
    const int64_t got = atomic_load_explicit(&ring->got_frames, memory_order_relaxed);
    const int64_t there = atomic_load_explicit(&ring->put_frames, memory_order_acquire) - got;
    const int64_t frames = there < max_frames ? there : max_frames;

    for (int64_t frame = 0; frame < frames; frame++) {
        for (int32_t row = 0; row < ring->rows; row++) {
            interleaved[frame * ring->rows + row] =
                data[row * ring->capacity_frames + (got + frame) % ring->capacity_frames];
        }
    }
    atomic_store_explicit(&ring->got_frames, got + frames, memory_order_release);
    return frames;
}

#endif
