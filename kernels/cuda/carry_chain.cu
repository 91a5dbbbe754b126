// Computes posterior and EM gradient of two addends in float32; contract in emnesy_gpu/reference/carry_chain.py.
//
// A thread computes RUN neighbouring positions of a row, from logits to results, in registers. The threads of a row,
// 32 at most in each warp, find the messages of the carry chain by scans of 2 x 2 matrices with shuffles. A row of more
// threads has a block for itself, else a block is one warp with ROWS rows. BASE, DIGITS, RUN, ROWS, GRADIENT,
// LARGEST_LOGIT and the row status codes are macros.
//
// Everything is computed with probabilities, scaled by powers of two, and with a bound of what underflow has lost.
// Blocks with a row in which this matters, or whose label is impossible or invalid, compute it again with logarithms.

constexpr int LANES = (DIGITS + RUN - 1) / RUN;  // threads of a row
constexpr int WARPS = (LANES + 31) / 32;
constexpr int SPAN = WARPS > 1 ? 32 : LANES;     // threads of a row in one warp
constexpr int ROW = 2 * DIGITS * BASE;           // logits of a row
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int EXPONENT = 0x7f800000;             // bits of the exponent of a float
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;
constexpr float SMALLEST_SUM = 0x1p-96f;         // underflow changes a larger sum by less than its last bit
constexpr float LARGEST_SAFE = 0x1p20f;          // larger logits times LOG2_E round by more than 1 / 8
constexpr float LARGEST_WEIGHT = 0x1p100f;       // of the product of two probabilities relative to the largest ones
#define INF __int_as_float(0x7f800000)

// `loss` bounds what underflow has taken from an entry, in units of 2^-47; the largest entry is in [1, 2).
constexpr float NO_LOSS = 0x1p-100f;
constexpr float LOSS_OF_LAST_BIT = 0x1p18f;      // 2^47 / 2^24 / 2^5: of a sum of four products with messages

struct Matrix {
    float m00, m01, m10, m11;  // weights of carry-in and carry-out
    float loss;
    int scale;                 // the entries lack a factor 2^scale
};

struct Vector {
    float v0, v1, loss;
    int scale;
};

__device__ float exp2_flushed(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

struct Probabilities {
    static constexpr float ZERO = 0.0f, ONE = 1.0f;
    static __device__ float times(float x, float y) { return x * y; }
    static __device__ float dot(float a, float b, float c, float d) { return fmaf(a, b, c * d); }

    // The power of two that takes the largest entry to [1, 2).
    static __device__ float normaliser(float high, float &loss, int &scale) {
        const int exponent = __float_as_int(high) & EXPONENT;
        const float factor = __int_as_float(0x7f000000 - exponent);
        loss *= 16.0f * factor;
        scale += (exponent >> 23) - 127;
        return factor;
    }
};

// log2; ZERO is finite, so that differences of two zeros are not NaN.
struct Logarithms {
    static constexpr float ZERO = -1e30f, ONE = 0.0f, LEAST = -5e29f, LEAST_SHIFT = -1048576.0f;
    static __device__ float times(float x, float y) { return x + y; }
    static __device__ float add(float x, float y) {
        const float high = fmaxf(x, y);
        return high + __log2f(1.0f + exp2_flushed(fminf(x, y) - high));
    }
    static __device__ float dot(float a, float b, float c, float d) { return add(a + b, c + d); }

    // A whole number, so that the scale is exact.
    static __device__ float normaliser(float high, float &, int &scale) {
        const float shift = rintf(fmaxf(high, LEAST_SHIFT));
        scale += static_cast<int>(shift);
        return -shift;
    }
};

template <class S> __device__ Matrix normalised(Matrix m) {
    const float high = fmaxf(fmaxf(m.m00, m.m01), fmaxf(m.m10, m.m11));
    const float factor = S::normaliser(high, m.loss, m.scale);
    return {S::times(m.m00, factor), S::times(m.m01, factor), S::times(m.m10, factor), S::times(m.m11, factor), m.loss,
            m.scale};
}

template <class S> __device__ Matrix compose(const Matrix &a, const Matrix &b) {
    return normalised<S>({S::dot(a.m00, b.m00, a.m01, b.m10), S::dot(a.m00, b.m01, a.m01, b.m11),
                          S::dot(a.m10, b.m00, a.m11, b.m10), S::dot(a.m10, b.m01, a.m11, b.m11),
                          fmaxf(a.loss, b.loss), a.scale + b.scale});
}

template <class S> __device__ Vector vector_times_matrix(const Vector &v, const Matrix &m) {
    float loss = fmaxf(v.loss, m.loss);
    int scale = v.scale + m.scale;
    const float u0 = S::dot(v.v0, m.m00, v.v1, m.m10), u1 = S::dot(v.v0, m.m01, v.v1, m.m11);
    const float factor = S::normaliser(fmaxf(u0, u1), loss, scale);
    return {S::times(u0, factor), S::times(u1, factor), loss, scale};
}

template <class S> __device__ Vector matrix_times_vector(const Matrix &m, const Vector &v) {
    return vector_times_matrix<S>(v, {m.m00, m.m10, m.m01, m.m11, m.loss, m.scale});
}

// A matrix or vector of another lane; without its scale, which is its last word, where nobody asks for it.
template <bool SCALE, class T> __device__ T from_lane(const T &value, int lane) {
    T result = value;
    const float *source = reinterpret_cast<const float *>(&value);
    float *target = reinterpret_cast<float *>(&result);
#pragma unroll
    for (int i = 0; i < sizeof(T) / sizeof(float) - !SCALE; ++i) target[i] = __shfl_sync(ALL_LANES, source[i], lane);
    return result;
}

// The place of a thread among those that share rows with it.
struct Thread {
    int warp, lane;
    int place;  // in the row, from the least significant digits on
    int step;   // the same among the threads of the row in this warp
};

// The products of the matrices up to every thread of a warp, itself included, or from it on (without a scale).
template <class S, bool FORWARD> __device__ Matrix scan(Matrix m, const Thread &thread) {
#pragma unroll
    for (int distance = 1; distance < SPAN; distance *= 2) {
        const Matrix other = from_lane<FORWARD>(m, FORWARD ? thread.lane - distance : thread.lane + distance);
        const Matrix product = FORWARD ? compose<S>(other, m) : compose<S>(m, other);
        if (FORWARD ? thread.step >= distance : thread.step + distance < SPAN) m = product;
    }
    return m;
}

// Messages into (alpha) and out of (beta, without a scale) every position of a thread.
struct Messages {
    Vector alpha[RUN], beta[RUN];
};

template <class S> __device__ Messages find_messages(const Matrix *matrices, int top, const Thread &thread) {
    Vector start{S::ONE, S::ZERO, NO_LOSS, 0};
    Vector end{top == 0 ? S::ONE : S::ZERO, top == 1 ? S::ONE : S::ZERO, NO_LOSS, 0};
    Matrix product = matrices[0];
#pragma unroll
    for (int r = 1; r < RUN; ++r) product = compose<S>(product, matrices[r]);
    const Matrix before = scan<S, true>(product, thread), after = scan<S, false>(product, thread);
    if (WARPS > 1) {
        __shared__ Matrix products[WARPS];
        if (thread.lane == 31) products[thread.warp] = before;
        __syncthreads();
#pragma unroll 1
        for (int w = 0; w < thread.warp; ++w) start = vector_times_matrix<S>(start, products[w]);
#pragma unroll 1
        for (int w = WARPS - 1; w > thread.warp; --w) end = matrix_times_vector<S>(products[w], end);
    }
    Messages messages;
    messages.alpha[0] = from_lane<true>(vector_times_matrix<S>(start, before), thread.lane - 1);
    messages.beta[RUN - 1] = from_lane<false>(matrix_times_vector<S>(after, end), thread.lane + 1);
    if (thread.step == 0) messages.alpha[0] = start;
    if (thread.step == SPAN - 1) messages.beta[RUN - 1] = end;
#pragma unroll
    for (int r = 1; r < RUN; ++r) {
        messages.alpha[r] = vector_times_matrix<S>(messages.alpha[r - 1], matrices[r - 1]);
        messages.beta[RUN - 1 - r] = matrix_times_vector<S>(matrices[RUN - r], messages.beta[RUN - r]);
    }
    return messages;
}

// The low COUNT bits that are set in any thread of the row.
template <int COUNT> __device__ int any_of_row(int bits, const Thread &thread) {
    const unsigned row = SPAN == 32 ? ALL_LANES : ((1u << SPAN) - 1) << (thread.lane - thread.step);
    int any = 0;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) any |= (__ballot_sync(ALL_LANES, bits >> i & 1) & row) != 0 ? 1 << i : 0;
    if (WARPS > 1) {
        __shared__ int votes[WARPS];
        if (thread.lane == 0) votes[thread.warp] = any;
        __syncthreads();
        for (int w = 0; w < WARPS; ++w) any |= votes[w];
    }
    return any;
}

// A position of a row.
struct Place {
    bool active;
    int at;     // of the first digit's numbers in the row; those of the second are DIGITS * BASE further
    int digit;  // of the sum, 0 where the label has none
};

// What a position contributes.
struct Position {
    float p[BASE], r[BASE];  // relative to the largest probability; r[j] = q[(digit - j) mod BASE]
    float p_sum, r_sum;
    Matrix matrix;
    float unit;              // that of the matrix relative to products of p and r
    bool safe;               // whether neither logits nor sums lose digits
};

constexpr int WIDTH = BASE % 4 == 0 ? 4 : BASE % 2 == 0 ? 2 : 1;
struct alignas(4 * WIDTH) Piece {
    float values[WIDTH];
};

// Loads or stores the BASE numbers of a symbol.
__device__ void copy_symbol(const float *source, float *target) {
#pragma unroll
    for (int v = 0; v < BASE; v += WIDTH)
        *reinterpret_cast<Piece *>(target + v) = *reinterpret_cast<const Piece *>(source + v);
}

// values[(digit - j) mod BASE] for j = 0 .. BASE - 1: a barrel shifter, its own inverse.
__device__ void reflect(float *values, int digit) {
    float rotated[BASE];
#pragma unroll
    for (int j = 0; j < BASE; ++j) rotated[j] = values[(BASE - j) % BASE];
#pragma unroll
    for (int shift = 1; shift < BASE; shift *= 2) {
#pragma unroll
        for (int j = 0; j < BASE; ++j)
            values[j] = digit & shift ? rotated[(j + BASE - shift % BASE) % BASE] : rotated[j];
#pragma unroll
        for (int j = 0; j < BASE; ++j) rotated[j] = values[j];
    }
}

// Exponentials relative to the largest logit, in place, and their sum; NaN if the logits are no prior.
__device__ float exponentiate(float *values, float &largest_logit) {
    float high = values[0], sum = 0.0f;
#pragma unroll
    for (int v = 1; v < BASE; ++v) high = fmaxf(high, values[v]);
    // What rounding leaves in the largest exponent is a factor of all, and near 1 where the logit is not too large.
    const float shift = high * LOG2_E;
#pragma unroll
    for (int v = 0; v < BASE; ++v) sum += values[v] = exp2_flushed(fmaf(values[v], LOG2_E, -shift));
    largest_logit = fmaxf(largest_logit, fabsf(high));
    return sum;
}

// Sets the matrix of a position from its probabilities.
__device__ void find_matrix(Position &position, int digit) {
    float m00 = 0.0f, m01 = 0.0f, m10 = 0.0f, m11 = position.p[BASE - 1] * position.r[0];
#pragma unroll
    for (int a = 0; a < BASE; ++a) {
        const float stay = a <= digit ? position.r[a] : 0.0f, carry = a <= digit ? 0.0f : position.r[a];
        m00 = fmaf(position.p[a], stay, m00);
        m01 = fmaf(position.p[a], carry, m01);
        if (a > 0) m10 = fmaf(position.p[a - 1], stay, m10);
        if (a > 0) m11 = fmaf(position.p[a - 1], carry, m11);
    }
    const float never_empty = fminf(m00, m11);
    const float smallest = fminf(never_empty, fminf(digit == BASE - 1 ? 1.0f : m01, digit == 0 ? 1.0f : m10));
    position.safe &= smallest >= SMALLEST_SUM;
    const float inverse = __fdividef(1.0f, position.p_sum * position.r_sum);
    const float high = fmaxf(fmaxf(m00, m01), fmaxf(m10, m11)) * inverse;
    float no_loss = NO_LOSS;
    int scale = 0;
    const float unit = inverse * Probabilities::normaliser(high, no_loss, scale);
    position.unit = unit;
    position.matrix = {m00 * unit, m01 * unit, m10 * unit, m11 * unit, NO_LOSS, scale};
}

__device__ void read_position(Position &position, const float *logits, const Place &place) {
#pragma unroll
    for (int v = 0; v < BASE; ++v) position.p[v] = position.r[v] = 0.0f;
    if (place.active) {
        copy_symbol(logits + place.at, position.p);
        copy_symbol(logits + place.at + DIGITS * BASE, position.r);
    }
    float largest_logit = 0.0f;
    position.p_sum = exponentiate(position.p, largest_logit);
    position.r_sum = exponentiate(position.r, largest_logit);
    position.safe = largest_logit <= LARGEST_SAFE;
    reflect(position.r, place.digit);
    find_matrix(position, place.digit);
    if (!place.active) position.matrix = {1.0f, 0.0f, 0.0f, 1.0f, NO_LOSS, 0};
}

// alpha m beta.
template <class S> __device__ float sum_of_paths(const Vector &alpha, const Matrix &m, const Vector &beta) {
    return S::dot(alpha.v0, S::dot(m.m00, beta.v0, m.m01, beta.v1), alpha.v1, S::dot(m.m10, beta.v0, m.m11, beta.v1));
}

// Stores the results of one position; `total` is alpha m beta. Returns whether nothing that counts was lost.
__device__ bool write_position(
    const Position &position, const Place &place, const Vector &alpha, const Vector &beta, float total, float scale,
    float *out) {
    const float weight = __fdividef(position.unit, total), signed_weight = GRADIENT ? -scale * weight : weight;
    const float to_0 = beta.v0 * signed_weight, to_1 = beta.v1 * signed_weight;
    const float w00 = alpha.v0 * to_0, w01 = alpha.v0 * to_1, w10 = alpha.v1 * to_0, w11 = alpha.v1 * to_1;
    const float of_p = GRADIENT ? __fdividef(scale, position.p_sum) : 0.0f;
    const float of_r = GRADIENT ? __fdividef(scale, position.r_sum) : 0.0f;
    float p[BASE], r[BASE];
#pragma unroll
    for (int a = 0; a < BASE; ++a) {
        const int next = (a + 1) % BASE;
        const float w0 = a <= place.digit ? w00 : w01, w1 = a + 1 <= place.digit ? w10 : w11;
        p[a] = position.p[a] * fmaf(position.r[a], w0, fmaf(position.r[next], w1, of_p));
        r[a] = a > 0 ? fmaf(position.p[a], w0, r[a]) : position.p[a] * w0;
        r[next] = next > 0 ? fmaf(position.p[a], w1, of_r) : fmaf(position.p[a], w1, r[next] + of_r);
    }
#pragma unroll
    for (int a = 0; a < BASE; ++a) r[a] *= position.r[a];
    reflect(r, place.digit);
    if (place.active) {
        copy_symbol(p, out + place.at);
        copy_symbol(r, out + place.at + DIGITS * BASE);
    }
    return weight <= LARGEST_WEIGHT && fmaxf(alpha.loss, beta.loss) <= LOSS_OF_LAST_BIT * total;
}

// Finite logits beyond +-LARGEST_LOGIT as that; infinities and NaN as they are. Probabilities need no bound: where they
// are safe, logits below -LARGEST_LOGIT are zeros, and none is above LARGEST_LOGIT.
__device__ float bounded(float x) { return fabsf(x) < INF ? fminf(fmaxf(x, -LARGEST_LOGIT), LARGEST_LOGIT) : x; }

// A symbol of one position, for the computation with logarithms.
struct Symbol {
    const float *logits;
    float high, sum;  // the largest logit; of the exponentials relative to it, NaN if the logits are no prior

    __device__ explicit Symbol(const float *logits) : logits(logits), high(bounded(logits[0])), sum(0.0f) {
        for (int v = 1; v < BASE; ++v) high = fmaxf(high, bounded(logits[v]));
        for (int v = 0; v < BASE; ++v) sum += exp2_flushed(relative(v));
    }

    __device__ float relative(int v) const { return (bounded(logits[v]) - high) * LOG2_E; }
    __device__ float operator()(int v) const { return fmaxf(relative(v), Logarithms::ZERO); }
};

// The pairs of digits of one carry-in and carry-out: first digits from `first` to `last`.
struct Pairs {
    int total, first, last;

    __device__ Pairs(int digit, int carry_in, int carry_out)
        : total(digit - carry_in + BASE * carry_out), first(max(0, total - BASE + 1)), last(min(BASE - 1, total)) {}
};

__device__ float log2_sum(const Symbol &p, const Symbol &q, const Pairs &pairs) {
    float high = Logarithms::ZERO, sum = 0.0f;
    for (int a = pairs.first; a <= pairs.last; ++a) high = fmaxf(high, p(a) + q(pairs.total - a));
    for (int a = pairs.first; a <= pairs.last; ++a) sum += exp2_flushed(p(a) + q(pairs.total - a) - high);
    return fmaxf(high + __log2f(sum), Logarithms::ZERO);
}

// The transfer matrix; `invalid`: set where the logits are no prior.
__device__ Matrix log2_matrix(const float *logits, const Place &place, bool &invalid) {
    if (!place.active) return {0.0f, Logarithms::ZERO, Logarithms::ZERO, 0.0f, NO_LOSS, 0};
    const Symbol p(logits + place.at), q(logits + place.at + DIGITS * BASE);
    const float both = p.sum * q.sum, shift = __log2f(both);
    invalid |= !(both == both);
    const int digit = place.digit;
    return normalised<Logarithms>(
        {log2_sum(p, q, {digit, 0, 0}) - shift, log2_sum(p, q, {digit, 0, 1}) - shift,
         log2_sum(p, q, {digit, 1, 0}) - shift, log2_sum(p, q, {digit, 1, 1}) - shift, NO_LOSS, 0});
}

// Adds the weights of the pairs of one carry-in and carry-out, times 2^shift, to the results of both digits.
__device__ float add_pairs(const Symbol &p, const Symbol &q, const Pairs &pairs, float shift, float *out) {
    float total = 0.0f;
    for (int a = pairs.first; a <= pairs.last; ++a) {
        const float weight = exp2_flushed(p(a) + q(pairs.total - a) + shift);
        out[a] += weight;
        out[DIGITS * BASE + pairs.total - a] += weight;
        total += weight;
    }
    return total;
}

// weights * posterior_scale + softmax * prior_scale in place of the weights.
__device__ void mix(const Symbol &symbol, float posterior_scale, float prior_scale, float *out) {
    for (int v = 0; v < BASE; ++v) {
        const float weight = posterior_scale == 0.0f ? 0.0f : out[v] * posterior_scale;
        out[v] = weight + exp2_flushed(symbol.relative(v)) * (prior_scale / symbol.sum);
    }
}

__device__ void write_log2_position(
    const float *logits, const Place &place, const Vector &alpha, const Vector &beta, const Matrix &m, bool possible,
    float scale, float *out) {
    const Symbol p(logits + place.at), q(logits + place.at + DIGITS * BASE);
    const float high = fmaxf(alpha.v0 + fmaxf(m.m00 + beta.v0, m.m01 + beta.v1),
                             alpha.v1 + fmaxf(m.m10 + beta.v0, m.m11 + beta.v1));
    const float shift = __log2f(p.sum * q.sum) + m.scale + high;
    float total = 0.0f;
    for (int v = 0; v < BASE; ++v) out[place.at + v] = out[place.at + DIGITS * BASE + v] = 0.0f;
    for (int pair = 0; possible && pair < 4; ++pair) {
        const float from = pair / 2 ? alpha.v1 : alpha.v0, to = pair % 2 ? beta.v1 : beta.v0;
        total += add_pairs(p, q, {place.digit, pair / 2, pair % 2}, from + to - shift, out + place.at);
    }
    // float has no digits for differences of logarithms near 1e8: such a position keeps its prior.
    const bool kept = possible && total > 0.0f && total < INF;
    const float posterior_scale = kept ? (GRADIENT ? -scale : 1.0f) / total : 0.0f;
    const float prior_scale = kept == GRADIENT ? scale : 0.0f;
    mix(p, posterior_scale, prior_scale, out + place.at);
    mix(q, posterior_scale, prior_scale, out + place.at + DIGITS * BASE);
}

struct Batch {
    const float *logits;      // [n_rows, 2, DIGITS, BASE]
    const long long *label;   // [n_rows, n_extra + DIGITS]
    float *out;               // as the logits
    float *evidence;          // [n_rows]
    unsigned char *status;    // [n_rows]
    int n_rows, n_extra;
    float scale;              // of the gradient
};

// What a thread computes.
struct Task {
    Thread thread;
    int row;             // of the batch
    Place places[RUN];
    int top;             // carry out of the most significant digit
    bool invalid_label;  // of the digits that this thread has read, one is outside [0, BASE)
    bool last;           // whether it has the most significant digit, and stores evidence and status
};

__device__ Task find_task(const Batch &batch, int index) {
    const int lane = index % 32, own = WARPS > 1 ? 0 : lane / LANES, place = index - own * LANES;
    const int row = static_cast<int>(blockIdx.x) * ROWS + own;
    const bool present = own < ROWS && row < batch.n_rows;
    Task task{{index / 32, lane, place, WARPS > 1 ? lane : place}, row};
    const long long *label = batch.label + static_cast<long long>(row) * (batch.n_extra + DIGITS);
    task.top = 0;
    task.invalid_label = false;
    task.last = present && place == LANES - 1;
    for (int i = 0; present && i < batch.n_extra; ++i) {
        task.invalid_label |= label[i] < 0 || label[i] >= BASE;
        task.top = task.top * BASE + static_cast<int>(label[i]);
    }
#pragma unroll
    for (int r = 0; r < RUN; ++r) {
        const int position = DIGITS - 1 - place * RUN - r;
        const bool active = present && position >= 0;
        const long long digit = active ? label[batch.n_extra + position] : 0;
        const bool valid = digit >= 0 && digit < BASE;
        task.invalid_label |= !valid;
        task.places[r] = {active, (own * 2 * DIGITS + position) * BASE, valid ? static_cast<int>(digit) : 0};
    }
    return task;
}

// Computes the row with probabilities; `out` is the tile of the block. Returns whether nothing that counts was lost.
__device__ bool compute_with_probabilities(const Batch &batch, const Task &task, float *out) {
    const float *logits = batch.logits + static_cast<long long>(blockIdx.x) * (ROWS * ROW);
    Position positions[RUN];
    Matrix matrices[RUN];
#pragma unroll
    for (int r = 0; r < RUN; ++r) read_position(positions[r], logits, task.places[r]);
#pragma unroll
    for (int r = 0; r < RUN; ++r) matrices[r] = positions[r].matrix;
    const Messages messages = find_messages<Probabilities>(matrices, task.top, task.thread);
    bool kept = true;
#pragma unroll
    for (int r = 0; r < RUN; ++r) {
        const Vector &alpha = messages.alpha[r], &beta = messages.beta[r];
        const float total = sum_of_paths<Probabilities>(alpha, matrices[r], beta);
        const bool safe = write_position(positions[r], task.places[r], alpha, beta, total, batch.scale, out);
        kept &= !task.places[r].active || (safe && positions[r].safe);
        if (r == RUN - 1 && task.last) {
            batch.evidence[task.row] = (__log2f(total) + static_cast<float>(alpha.scale + matrices[r].scale)) * LN_2;
            batch.status[task.row] = POSSIBLE;
        }
    }
    return kept && !task.invalid_label;
}

// Computes the row with logarithms, and stores its results if it is wanted.
__device__ void compute_with_logarithms(const Batch &batch, const Task &task, bool wanted, float *out) {
    const float *logits = batch.logits + static_cast<long long>(blockIdx.x) * (ROWS * ROW);
    Matrix matrices[RUN];
    bool invalid_logits = false;
#pragma unroll
    for (int r = 0; r < RUN; ++r) matrices[r] = log2_matrix(logits, task.places[r], invalid_logits);
    const Messages messages = find_messages<Logarithms>(matrices, task.top, task.thread);
    const Vector &alpha = messages.alpha[RUN - 1];
    const float log2_evidence = sum_of_paths<Logarithms>(alpha, matrices[RUN - 1], messages.beta[RUN - 1]) +
                                static_cast<float>(alpha.scale + matrices[RUN - 1].scale);
    const bool finite = task.last && log2_evidence > Logarithms::LEAST && task.top < 2;
    const int found = any_of_row<3>(finite + 2 * invalid_logits + 4 * task.invalid_label, task.thread);
    const int code = found & 4 ? INVALID_LABEL : found & 2 ? INVALID_LOGITS : found & 1 ? POSSIBLE : IMPOSSIBLE;
    const bool possible = code == POSSIBLE;
    if (!wanted) return;
#pragma unroll
    for (int r = 0; r < RUN; ++r)
        if (task.places[r].active)
            write_log2_position(logits, task.places[r], messages.alpha[r], messages.beta[r], matrices[r], possible,
                                batch.scale, out);
    if (!task.last) return;
    batch.evidence[task.row] = possible ? log2_evidence * LN_2 : -INF;
    batch.status[task.row] = code;
}

constexpr int COPIED = ROW % 4 == 0 ? 4 : 2;
struct alignas(4 * COPIED) Copied {
    float values[COPIED];
};

// Writes the results of all rows of the block.
__device__ void copy_tile(const Copied *tile, float *out, int count) {
    for (int i = threadIdx.x; i < count / COPIED; i += 32 * WARPS) reinterpret_cast<Copied *>(out)[i] = tile[i];
}

// The same number, of which the compiler does not know that it is: what was computed from x is not kept in registers.
__device__ int forgotten(int x) {
    asm volatile("mov.b32 %0, %0;" : "+r"(x));
    return x;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, (16 + WARPS - 1) / WARPS) marginals(
    const float *logits, const long long *label, float *results, float *evidence, unsigned char *status, int n_rows,
    int n_extra, float scale) {
    const Batch batch{logits, label, results, evidence, status, n_rows, n_extra, scale};
    extern __shared__ Copied tile[];
    float *out = reinterpret_cast<float *>(tile);
    const Task task = find_task(batch, threadIdx.x);
    const bool lost = any_of_row<1>(!compute_with_probabilities(batch, task, out), task.thread);
    if (__any_sync(ALL_LANES, lost)) {
        compute_with_logarithms(batch, find_task(batch, forgotten(threadIdx.x)), lost, out);
    }
    if (WARPS > 1) __syncthreads(); else __syncwarp();
    const int first = static_cast<int>(blockIdx.x) * ROWS;
    copy_tile(tile, batch.out + static_cast<long long>(first) * ROW, ROW * min(ROWS, n_rows - first));
}
