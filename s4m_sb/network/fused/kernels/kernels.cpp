// Kernels for signals with frames outside and channels inside, on a CPU.
//
// `kernels.py` calls what is exported at the end; `loops.h` has the loops.
// They are compiled for several instruction sets, and the processor decides
// which of them run. Nothing here needs PyTorch or Python.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const int BLOCK = 128;  // frames of a task, a multiple of 4
static const size_t LARGE = 1 << 20;  // numbers: more than a core's cache has

#define ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

static inline int smaller(int a, int b) { return a < b ? a : b; }
static inline bool is_large(const float *p, size_t numbers)
{
    return numbers >= LARGE && (uintptr_t)p % 64 == 0;
}
static inline int tasks_of(int frames) { return (frames + BLOCK - 1) / BLOCK; }

extern "C" {

// What is read: PReLU(x * scale + shift).
struct Input {
    const float *x;             // [B, L, C]
    const float *scale, *shift; // [items, P, C], or null: 1 and 0
    const int64_t *valid;       // [B]: frames that count; null: all
    float slope;
    int sloped;                 // whether there is a PReLU
    int B, L, C, P, items;      // items: B or 1
};

// Where the gradients of these go. All but x are added to where P > 1.
struct ReadGradients {
    float *x, *scale, *shift;

    ReadGradients of(const Input &in, int item) const
    {
        size_t first = (size_t)item * in.P * in.C;
        return {x + (size_t)item * in.L * in.C, scale + first, shift + first};
    }
};

struct Conv {
    Input in;
    const float *weight, *bias;  // [5, C], [C] or null
    float *out, *mean, *var;     // [B, L', C], [B, C], [B, C]
    int stride, left, threads;
};

struct ConvBackward {
    Input in;
    const float *weight, *y, *gy;
    const float *level, *tilt;  // [B, C]: + level + tilt * y, of the moments
    ReadGradients to;
    float *sums;  // [7, C]: of the slope, the taps and the bias
    int stride, left, threads;
};

struct ReadBackward {
    Input in;
    const float *gh;  // [B, L, C]
    ReadGradients to;
    float *slopes;  // [C]
    int threads;
};

struct Gate {
    Input gate, value;  // [B, L, C], with one scale and shift an item
    const float *scale, *shift;     // [B, C]
    float *out_scale, *out_shift;   // [B, L, C]
    int threads;
};

struct GateBackward {
    Gate given;
    const float *of_scale, *of_shift;  // gradients of what it gave
    float *of_gate, *of_value;         // of the signals
    float *sums;  // [6, B, C]: of the scale and shift of the gate, of the
                  // value, and of what is gated
};
}

static int valid_frames(const Input &in, int item)
{
    return in.valid ? (int)in.valid[item] : in.L;
}

// Mean and variance of each item from those of its tasks, one after the other:
// Chan et al., "Updating formulae and a pairwise algorithm for computing
// sample variances", 1979.
static void join_moments(
    const float *parts, const Input &in, int stride, int frames, float *mean,
    float *var, int threads)
{
    const int C = in.C, tasks = tasks_of(frames), STEP = 64;
    const int steps = (C + STEP - 1) / STEP;
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int job = 0; job < in.B * steps; job++) {
        int item = job / steps, from = job % steps * STEP;
        int to = smaller(from + STEP, C), size = to - from;
        int counted = (valid_frames(in, item) - 1) / stride + 1;
        double m[STEP] = {}, rest[STEP] = {};
        for (int task = 0; task * BLOCK < counted; task++) {
            const float *part =
                parts + ((size_t)item * tasks + task) * 2 * C + from;
            double before = task * BLOCK;
            double n = smaller(BLOCK, counted - task * BLOCK);
            double share = n / (before + n), cross = before * share;
            for (int c = 0; c < size; c++) {
                double d = part[c] - m[c];
                m[c] += d * share;
                rest[c] += part[C + c] + d * d * cross;
            }
        }
        for (int c = 0; c < size; c++) {
            mean[(size_t)item * C + from + c] = m[c];
            var[(size_t)item * C + from + c] = rest[c] / counted;
        }
    }
}

// Adds up one of the `kinds` of sums of an item's tasks.
static void join_sums(
    const float *parts, int items, int tasks, int kinds, int kind, int C,
    float *out, int threads)
{
    const int STEP = 64, steps = (C + STEP - 1) / STEP;
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int job = 0; job < items * steps; job++) {
        int item = job / steps, from = job % steps * STEP;
        int size = smaller(STEP, C - from);
        double total[STEP] = {};
        for (int task = 0; task < tasks; task++) {
            const float *part = parts
                + (((size_t)item * tasks + task) * kinds + kind) * C + from;
            for (int c = 0; c < size; c++) total[c] += part[c];
        }
        for (int c = 0; c < size; c++) out[(size_t)item * C + from + c] = total[c];
    }
}

// A function of `loops.h` for what this input has.
#define CHOOSE_READER(function, stride, in, ...)                              \
    do {                                                                      \
        int scaled = !(in).scale ? 0 : (in).P == 1 ? 1 : 2;                   \
        if ((in).sloped) {                                                    \
            if (scaled == 0) function<stride 0, true>(__VA_ARGS__);           \
            if (scaled == 1) function<stride 1, true>(__VA_ARGS__);           \
            if (scaled == 2) function<stride 2, true>(__VA_ARGS__);           \
        } else {                                                              \
            if (scaled == 0) function<stride 0, false>(__VA_ARGS__);          \
            if (scaled == 1) function<stride 1, false>(__VA_ARGS__);          \
            if (scaled == 2) function<stride 2, false>(__VA_ARGS__);          \
        }                                                                     \
    } while (0)
#define ONE 1,
#define TWO 2,

#define ENTRIES                                                               \
    static void run_conv(const Conv &a)                                       \
    {                                                                         \
        if (a.stride == 1) CHOOSE_READER(conv, ONE, a.in, a);                 \
        else CHOOSE_READER(conv, TWO, a.in, a);                               \
    }                                                                         \
    static void run_conv_backward(const ConvBackward &a)                      \
    {                                                                         \
        if (a.stride == 1) CHOOSE_READER(conv_backward, ONE, a.in, a);        \
        else CHOOSE_READER(conv_backward, TWO, a.in, a);                      \
    }                                                                         \
    static void run_read(const Input &in, float *out, int threads)            \
    {                                                                         \
        CHOOSE_READER(read, , in, in, out, threads);                          \
    }                                                                         \
    static void run_read_backward(const ReadBackward &a)                      \
    {                                                                         \
        CHOOSE_READER(read_gradients, , a.in, a);                             \
    }

namespace baseline {
#define VECTOR_BYTES 16
#define STREAM(p, v) store(p, v)
#define FENCE
#include "loops.h"
ENTRIES
#undef VECTOR_BYTES
#undef STREAM
#undef FENCE
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SEVERAL_SETS
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2")
namespace avx2 {
#define VECTOR_BYTES 32
#define STREAM(p, v) _mm256_stream_ps(p, (__m256)(v))
#define FENCE _mm_sfence()
#include "loops.h"
ENTRIES
#undef VECTOR_BYTES
#undef STREAM
#undef FENCE
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")
namespace avx512 {
#define VECTOR_BYTES 64
#define STREAM(p, v) _mm512_stream_ps(p, (__m512)(v))
#define FENCE _mm_sfence()
#include "loops.h"
ENTRIES
#undef VECTOR_BYTES
#undef STREAM
#undef FENCE
}
#pragma GCC pop_options
#endif

static int instruction_set()
{
#ifdef SEVERAL_SETS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 1;
#endif
    return 0;
}

static int chosen = instruction_set();

#ifdef SEVERAL_SETS
#define RUN(call)                                                             \
    do {                                                                      \
        if (chosen == 2) avx512::call;                                        \
        else if (chosen == 1) avx2::call;                                     \
        else baseline::call;                                                  \
    } while (0)
#else
#define RUN(call) baseline::call
#endif

extern "C" {

// Which set runs: 0 any processor's, 1 AVX2, 2 AVX-512. A lower one than that
// of the processor can be asked for.
int s4m_instruction_set(int wanted)
{
    if (wanted >= 0 && wanted <= instruction_set()) chosen = wanted;
    return chosen;
}

void s4m_conv(const Conv *a) { RUN(run_conv(*a)); }

void s4m_conv_backward(const ConvBackward *a) { RUN(run_conv_backward(*a)); }

void s4m_read(const Input *in, float *out, int threads)
{
    RUN(run_read(*in, out, threads));
}

void s4m_read_backward(const ReadBackward *a) { RUN(run_read_backward(*a)); }

void s4m_gate(const Gate *a) { RUN(gate(*a)); }

void s4m_gate_backward(const GateBackward *a) { RUN(gate_backward(*a)); }

void s4m_moments(const Input *in, float *mean, float *var, int threads)
{
    RUN(moments(*in, mean, var, threads));
}

void s4m_moments_backward(
    const Input *in, const float *g, const float *level, const float *tilt,
    float *out, int threads)
{
    RUN(moments_backward(*in, g, level, tilt, out, threads));
}
}
