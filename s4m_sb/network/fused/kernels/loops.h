// The loops of kernels.cpp, compiled once for each instruction set.
//
// Signals are [B, L, C], float32, contiguous, C a multiple of 16. What is read
// is h = PReLU(x * scale + shift), see `Input`. A loop takes four frames at a
// time and, in them, WIDTH channels: what is added up over the four stays in
// registers, and over a task of BLOCK frames in the cache. Sums of tasks are
// added up at the end, in double precision and always in the same order, so
// that they do not depend on the number of threads.

typedef float Vector
    __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int Whole __attribute__((vector_size(VECTOR_BYTES)));
static const int WIDTH = VECTOR_BYTES / 4;

static inline Vector load(const float *p) { return *(const Vector *)p; }
static inline void store(float *p, Vector v) { *(Vector *)p = v; }
// Past the cache, which a large signal would only leave again; `fence` after.
static inline void stream(float *p, Vector v) { STREAM(p, v); }
static inline void add(float *p, Vector v) { store(p, load(p) + v); }

// Reads one item; how, is known to the compiler.
template <int SCALED, bool SLOPED> struct Reader {
    const float *x, *scale, *shift;
    float slope;
    int C, hold;  // `hold` frames share a scale

    Reader(const Input &in, int item)
        : x(in.x + (size_t)item * in.L * in.C), scale(in.scale),
          shift(in.shift), slope(in.slope), C(in.C), hold(in.L / in.P)
    {
        if (in.items > 1) scale += (size_t)item * in.P * C;
        if (in.items > 1) shift += (size_t)item * in.P * C;
    }
    Vector signal(int l, int c) const { return load(x + (size_t)l * C + c); }
    size_t place(int l, int c) const
    {
        return SCALED == 1 ? c : (size_t)(l / hold) * C + c;
    }
    Vector before(int l, int c) const  // the PReLU
    {
        Vector v = signal(l, c);
        if (SCALED == 0) return v;
        return v * load(scale + place(l, c)) + load(shift + place(l, c));
    }
    Vector read(int l, int c) const
    {
        Vector v = before(l, c);
        if (!SLOPED) return v;
        Vector zero = {}, low = v * slope;
        return v > zero ? v : low;
    }
};

// ------------------------------------------------------------------- moments

// Mean of a task's frames, and the sum of squares around it. Sums are of
// differences to the first frame: a large mean costs no digits.
struct TaskMoments {
    float *first, *sum, *square;

    ALWAYS_INLINE void take(bool begins, int c, const Vector *y, int n) const
    {
        Vector zero = {};
        Vector k = begins ? y[0] : load(first + c);
        Vector a = begins ? zero : load(sum + c);
        Vector b = begins ? zero : load(square + c);
        UNROLL for (int i = 0; i < n; i++) {
            Vector d = y[i] - k;
            a += d;
            b += d * d;
        }
        store(first + c, k);
        store(sum + c, a);
        store(square + c, b);
    }
    void finish(float *mean, float *rest, int C, int n) const
    {
        for (int c = 0; c < C; c++) {
            mean[c] = first[c] + sum[c] / n;
            rest[c] = square[c] - sum[c] * sum[c] / n;
        }
    }
};

static void moments(const Input &in, float *mean, float *var, int threads)
{
    const int C = in.C, tasks = tasks_of(in.L);
    float *parts = (float *)malloc((size_t)in.B * tasks * 2 * C * 4);
    #pragma omp parallel num_threads(threads)
    {
        float *held = (float *)malloc(3 * C * 4);
        TaskMoments sums = {held, held + C, held + 2 * C};
        #pragma omp for schedule(static)
        for (int job = 0; job < in.B * tasks; job++) {
            int item = job / tasks, begin = job % tasks * BLOCK;
            int end = smaller(begin + BLOCK, valid_frames(in, item));
            Reader<0, false> x(in, item);
            for (int l = begin; l < end; l += 4) {
                int n = smaller(end - l, 4);
                for (int c = 0; c < C; c += WIDTH) {
                    Vector y[4] = {};
                    for (int i = 0; i < n; i++) y[i] = x.signal(l + i, c);
                    sums.take(l == begin, c, y, n);
                }
            }
            float *part = parts + (size_t)job * 2 * C;
            if (end > begin) sums.finish(part, part + C, C, end - begin);
        }
        free(held);
    }
    join_moments(parts, in, 1, in.L, mean, var, threads);
    free(parts);
}

// --------------------------------------------------------------- convolution

template <int STRIDE, int SCALED, bool SLOPED, bool INSIDE>
static ALWAYS_INLINE void conv_frames(
    const Reader<SCALED, SLOPED> &h, const Conv &a, float *y, int r, int n,
    int valid, int counts, bool begins, bool streamed, const TaskMoments &sums)
{
    const int C = h.C, first = r * STRIDE - a.left, READ = 5 + 3 * STRIDE;
    for (int c = 0; c < C; c += WIDTH) {
        Vector in[READ], out[4];
        UNROLL for (int i = 0; i < READ; i++) {
            int l = first + i;
            if (INSIDE || (l >= 0 && l < valid)) in[i] = h.read(l, c);
            else in[i] = Vector{};
        }
        UNROLL for (int i = 0; i < 4; i++)
            out[i] = a.bias ? load(a.bias + c) : Vector{};
        UNROLL for (int t = 0; t < 5; t++) {
            Vector tap = load(a.weight + t * C + c);
            UNROLL for (int i = 0; i < 4; i++) out[i] += tap * in[i * STRIDE + t];
        }
        float *to = y + (size_t)r * C + c;
        if (INSIDE) {
            if (streamed)
                UNROLL for (int i = 0; i < 4; i++) stream(to + i * C, out[i]);
            else
                UNROLL for (int i = 0; i < 4; i++) store(to + i * C, out[i]);
            sums.take(begins, c, out, 4);
        } else {
            for (int i = 0; i < n; i++) store(to + i * C, out[i]);
            if (counts > 0) sums.take(begins, c, out, counts);
        }
    }
}

template <int STRIDE, int SCALED, bool SLOPED> static void conv(const Conv &a)
{
    const Input &in = a.in;
    const int C = in.C, frames = (in.L - 1) / STRIDE + 1;
    const int tasks = tasks_of(frames);
    const bool streamed = is_large(a.out, (size_t)in.B * frames * C);
    float *parts = (float *)malloc((size_t)in.B * tasks * 2 * C * 4);
    #pragma omp parallel num_threads(a.threads)
    {
        float *held = (float *)malloc(3 * C * 4);
        TaskMoments sums = {held, held + C, held + 2 * C};
        #pragma omp for schedule(static)
        for (int job = 0; job < in.B * tasks; job++) {
            int item = job / tasks, begin = job % tasks * BLOCK;
            int end = smaller(begin + BLOCK, frames);
            int valid = valid_frames(in, item);
            int counted = smaller(end, (valid - 1) / STRIDE + 1);
            Reader<SCALED, SLOPED> h(in, item);
            float *y = a.out + (size_t)item * frames * C;
            for (int r = begin; r < end; r += 4) {
                int n = smaller(end - r, 4), counts = smaller(counted - r, n);
                int first = r * STRIDE - a.left;
                bool inside = first >= 0 && counts == 4
                    && first + 5 + 3 * STRIDE <= valid;
                if (inside)
                    conv_frames<STRIDE, SCALED, SLOPED, true>(
                        h, a, y, r, 4, valid, 4, r == begin, streamed, sums);
                else
                    conv_frames<STRIDE, SCALED, SLOPED, false>(
                        h, a, y, r, n, valid, counts, r == begin, false, sums);
            }
            float *part = parts + (size_t)job * 2 * C;
            if (counted > begin) sums.finish(part, part + C, C, counted - begin);
        }
        FENCE;
        free(held);
    }
    join_moments(parts, in, STRIDE, frames, a.mean, a.var, a.threads);
    free(parts);
}

// Gradients of what was read, of four frames: of the signal, and sums for
// scale, shift and slope. `g` is the gradient of h.
template <int SCALED, bool SLOPED>
static ALWAYS_INLINE void read_backward(
    const Reader<SCALED, SLOPED> &h, int l, int n, int c, Vector *g,
    const ReadGradients &to, float *sums)
{
    const int C = h.C;
    Vector zero = {}, scales = zero, shifts = zero, slopes = zero;
    UNROLL for (int i = 0; i < n; i++) {
        if (SLOPED) {
            Vector z = h.before(l + i, c), low = g[i] * h.slope;
            slopes += z > zero ? zero : g[i] * z;
            g[i] = z > zero ? g[i] : low;
        }
        if (SCALED > 0) {
            scales += g[i] * h.signal(l + i, c);
            shifts += g[i];
            if (SCALED == 2 && (i == n - 1 || (l + i + 1) % h.hold == 0)) {
                add(to.scale + h.place(l + i, c), scales);
                add(to.shift + h.place(l + i, c), shifts);
                scales = shifts = zero;
            }
            g[i] *= load(h.scale + h.place(l + i, c));
        }
        store(to.x + (size_t)(l + i) * C + c, g[i]);
    }
    if (SCALED == 1) {
        add(sums + c, scales);
        add(sums + C + c, shifts);
    }
    if (SLOPED) add(sums + 2 * C + c, slopes);
}

template <int STRIDE, int SCALED, bool SLOPED, bool INSIDE>
static ALWAYS_INLINE void conv_backward_frames(
    const Reader<SCALED, SLOPED> &h, const ConvBackward &a, const float *y,
    const float *gy, const float *level, const float *tilt, int l, int n,
    int frames, int counted, const ReadGradients &to, float *sums)
{
    // Frame r of the output, l of the input: r = (l + left - t) / STRIDE.
    const int C = h.C, SEEN = STRIDE == 1 ? 8 : 4;
    const int first = (l + a.left) / STRIDE - (STRIDE == 1 ? 4 : 2);
    float *taps = sums + 3 * C, *biases = taps + 5 * C;
    for (int c = 0; c < C; c += WIDTH) {
        Vector zero = {}, g[SEEN], grad[4], in[4];
        Vector up = load(level + c), by = load(tilt + c);
        UNROLL for (int j = 0; j < SEEN; j++) {
            int r = first + j;
            size_t at = (size_t)r * C + c;
            if (INSIDE || (r >= 0 && r < counted))
                g[j] = load(gy + at) + (up + by * load(y + at));
            else
                g[j] = r >= 0 && r < frames ? load(gy + at) : zero;
        }
        UNROLL for (int i = 0; i < 4; i++) {
            grad[i] = zero;
            in[i] = INSIDE || i < n ? h.read(l + i, c) : zero;
        }
        UNROLL for (int t = 0; t < 5; t++) {
            Vector tap = load(a.weight + t * C + c), total = zero;
            UNROLL for (int i = 0; i < 4; i++) {
                if (STRIDE == 2 && (i - t) % 2) continue;
                const Vector &from = g[STRIDE == 1 ? i + 4 - t : (i - t) / 2 + 2];
                grad[i] += tap * from;
                total += in[i] * from;
            }
            add(taps + t * C + c, total);
        }
        Vector total = zero;
        UNROLL for (int i = 0; i < 4; i += STRIDE) {
            int r = (l + i) / STRIDE;
            if (INSIDE || r < frames) total += g[r - first];
        }
        add(biases + c, total);
        read_backward(h, l, INSIDE ? 4 : n, c, grad, to, sums);
    }
}

template <int STRIDE, int SCALED, bool SLOPED>
static void conv_backward(const ConvBackward &a)
{
    const Input &in = a.in;
    const int C = in.C, frames = (in.L - 1) / STRIDE + 1, tasks = tasks_of(in.L);
    float *parts = (float *)calloc((size_t)in.B * tasks * 9 * C, 4);
    #pragma omp parallel for schedule(static) num_threads(a.threads)
    for (int job = 0; job < in.B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        int valid = valid_frames(in, item);
        int end = smaller(begin + BLOCK, in.L);
        int counted = (valid - 1) / STRIDE + 1;
        size_t out = (size_t)item * frames * C;
        float *sums = parts + (size_t)job * 9 * C;
        Reader<SCALED, SLOPED> h(in, item);
        ReadGradients to = a.to.of(in, item);
        for (int l = begin; l < end; l += 4) {
            int n = smaller(smaller(end, valid) - l, 4);
            int first = (l + a.left) / STRIDE - (STRIDE == 1 ? 4 : 2);
            const float *level = a.level + (size_t)item * C;
            const float *tilt = a.tilt + (size_t)item * C;
            bool inside = n == 4 && first >= 0
                && first + (STRIDE == 1 ? 8 : 4) <= counted;
            if (inside)
                conv_backward_frames<STRIDE, SCALED, SLOPED, true>(
                    h, a, a.y + out, a.gy + out, level, tilt, l, 4, frames,
                    counted, to, sums);
            else
                conv_backward_frames<STRIDE, SCALED, SLOPED, false>(
                    h, a, a.y + out, a.gy + out, level, tilt, l,
                    n > 0 ? n : 0, frames, counted, to, sums);
            for (int i = n > 0 ? n : 0; i < smaller(end - l, 4); i++)
                memset(to.x + (size_t)(l + i) * C, 0, C * 4);
        }
    }
    if (SCALED == 1) {
        join_sums(parts, in.B, tasks, 9, 0, C, a.to.scale, a.threads);
        join_sums(parts, in.B, tasks, 9, 1, C, a.to.shift, a.threads);
    }
    for (int k = 0; k < 7; k++)  // slope, taps, bias: over all items
        join_sums(parts, 1, in.B * tasks, 9, 2 + k, C, a.sums + k * C, a.threads);
    free(parts);
}

// ------------------------------------------------------------------- reading

template <int SCALED, bool SLOPED>
static void read(const Input &in, float *out, int threads)
{
    const int C = in.C, tasks = tasks_of(in.L);
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int job = 0; job < in.B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        Reader<SCALED, SLOPED> h(in, item);
        float *to = out + (size_t)item * in.L * C;
        for (int l = begin; l < smaller(begin + BLOCK, in.L); l++)
            for (int c = 0; c < C; c += WIDTH)
                store(to + (size_t)l * C + c, h.read(l, c));
    }
}

template <int SCALED, bool SLOPED>
static void read_gradients(const ReadBackward &a)
{
    const Input &in = a.in;
    const int C = in.C, tasks = tasks_of(in.L);
    float *parts = (float *)calloc((size_t)in.B * tasks * 3 * C, 4);
    #pragma omp parallel for schedule(static) num_threads(a.threads)
    for (int job = 0; job < in.B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        int end = smaller(begin + BLOCK, in.L);
        const float *gh = a.gh + (size_t)item * in.L * C;
        float *sums = parts + (size_t)job * 3 * C;
        Reader<SCALED, SLOPED> h(in, item);
        ReadGradients to = a.to.of(in, item);
        for (int l = begin; l < end; l += 4) {
            int n = smaller(end - l, 4);
            for (int c = 0; c < C; c += WIDTH) {
                Vector g[4] = {};
                UNROLL for (int i = 0; i < n; i++)
                    g[i] = load(gh + (size_t)(l + i) * C + c);
                read_backward(h, l, n, c, g, to, sums);
            }
        }
    }
    if (SCALED == 1) {
        join_sums(parts, in.B, tasks, 3, 0, C, a.to.scale, a.threads);
        join_sums(parts, in.B, tasks, 3, 1, C, a.to.shift, a.threads);
    }
    if (SLOPED)
        join_sums(parts, 1, in.B * tasks, 3, 2, C, a.slopes, a.threads);
    free(parts);
}

// out = g + level + tilt * x in the frames that count, g in the others.
static void moments_backward(
    const Input &in, const float *g, const float *level, const float *tilt,
    float *out, int threads)
{
    const int C = in.C, tasks = tasks_of(in.L);
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int job = 0; job < in.B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        int valid = valid_frames(in, item);
        Reader<0, false> x(in, item);
        const float *up = level + (size_t)item * C, *by = tilt + (size_t)item * C;
        size_t start = (size_t)item * in.L * C;
        for (int l = begin; l < smaller(begin + BLOCK, in.L); l++)
            for (int c = 0; c < C; c += WIDTH) {
                size_t at = start + (size_t)l * C + c;
                Vector v = g ? load(g + at) : Vector{};
                if (l < valid)
                    v += load(up + c) + load(by + c) * x.signal(l, c);
                store(out + at, v);
            }
    }
}

// -------------------------------------------------------------------- gating

// 1 / (1 + exp(-z)), to 2 units in the last place. The exponential is that of
// Cephes: a polynomial on [-ln 2 / 2, ln 2 / 2] and a power of two.
static ALWAYS_INLINE Vector sigmoid(Vector z)
{
    Vector low = Vector{} - 87.0f, high = Vector{} + 87.0f;
    Vector x = Vector{} - z;
    x = x < low ? low : x;
    x = x > high ? high : x;
    const float round = 12582912.0f;  // 1.5 * 2^23: what is behind the point
    Vector n = (x * 1.44269504088896341f + round) - round;
    Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Whole power = (__builtin_convertvector(n, Whole) + 127) << 23;
    return 1.0f / (1.0f + p * (Vector)power);
}

// scale = a * s, shift = b * s + value with s = sigmoid(gate): what a signal
// that is read with a and b is read with when it has been gated and shifted.
static void gate(const Gate &a)
{
    const int C = a.gate.C, L = a.gate.L, tasks = tasks_of(L);
    const bool streamed = is_large(a.out_scale, (size_t)a.gate.B * L * C)
        && is_large(a.out_shift, (size_t)a.gate.B * L * C);
    #pragma omp parallel for schedule(static) num_threads(a.threads)
    for (int job = 0; job < a.gate.B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        Reader<1, false> gate(a.gate, item), value(a.value, item);
        const float *scale = a.scale + (size_t)item * C;
        const float *shift = a.shift + (size_t)item * C;
        size_t start = (size_t)item * L * C;
        for (int l = begin; l < smaller(begin + BLOCK, L); l++)
            for (int c = 0; c < C; c += WIDTH) {
                size_t at = start + (size_t)l * C + c;
                Vector s = sigmoid(gate.read(l, c));
                Vector u = load(scale + c) * s;
                Vector v = load(shift + c) * s + value.read(l, c);
                if (streamed) {
                    stream(a.out_scale + at, u);
                    stream(a.out_shift + at, v);
                } else {
                    store(a.out_scale + at, u);
                    store(a.out_shift + at, v);
                }
            }
        FENCE;
    }
}

static void gate_backward(const GateBackward &a)
{
    const Gate &given = a.given;
    const int C = given.gate.C, L = given.gate.L, B = given.gate.B;
    const int tasks = tasks_of(L);
    float *parts = (float *)calloc((size_t)B * tasks * 6 * C, 4);
    #pragma omp parallel for schedule(static) num_threads(given.threads)
    for (int job = 0; job < B * tasks; job++) {
        int item = job / tasks, begin = job % tasks * BLOCK;
        Reader<1, false> gate(given.gate, item), value(given.value, item);
        const float *scale = given.scale + (size_t)item * C;
        const float *shift = given.shift + (size_t)item * C;
        float *sums = parts + (size_t)job * 6 * C;
        size_t start = (size_t)item * L * C;
        for (int l = begin; l < smaller(begin + BLOCK, L); l++)
            for (int c = 0; c < C; c += WIDTH) {
                size_t at = start + (size_t)l * C + c;
                Vector s = sigmoid(gate.read(l, c));
                Vector of_scale = load(a.of_scale + at);
                Vector of_shift = load(a.of_shift + at);
                Vector of_s = of_scale * load(scale + c)
                    + of_shift * load(shift + c);
                Vector of_read = of_s * s * (1.0f - s);
                store(a.of_gate + at, of_read * load(gate.scale + c));
                store(a.of_value + at, of_shift * load(value.scale + c));
                add(sums + c, of_read * gate.signal(l, c));
                add(sums + C + c, of_read);
                add(sums + 2 * C + c, of_shift * value.signal(l, c));
                add(sums + 3 * C + c, of_shift);
                add(sums + 4 * C + c, of_scale * s);
                add(sums + 5 * C + c, of_shift * s);
            }
    }
    for (int k = 0; k < 6; k++)  // [6, B, C]
        join_sums(
            parts, B, tasks, 6, k, C, a.sums + (size_t)k * B * C, given.threads);
    free(parts);
}
