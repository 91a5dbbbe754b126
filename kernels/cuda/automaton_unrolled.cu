// Computes exact marginals of an automaton with few edges in float32; contract in emnesy_gpu/reference/automaton.py.
//
// The recurrences, the bound of what underflow takes, and the blocks of positions are those of the Triton kernel, see
// kernels/gpu/automaton/posterior.py. A thread has a row of the batch. The edges are macros, so that the compiler writes
// multiply-adds for each, all states are in registers, and nothing but weights is looked up. A thread loads the logits of
// as many positions at once as fill whole loads, and keeps alpha in scratch memory for itself alone.
// STATES, VALUES, CLASSES, LAYERS, USUAL_LAYER (of most positions), EDGES [E], (c S + s) S + t each, sorted by layer and
// that, EDGES_END [L], CLASS_OF_VALUE [L, K] with -1 for none, WEIGHTED (else all edges weigh 1), OUTPUTS (whether the
// label says something before the end), COMPLETE (whether all states have edges of weight 1 for all values), WIDTH (of
// loads), TOGETHER (positions), ORDERED, GRADIENT, LARGEST_LOGIT and the row status codes are macros. Where nothing leads
// out of the states or depends on the label before the end, alpha keeps its sum, and needs no scale.
// Rows in which float32 loses digits, and those with enormous logits, are marked in `redo`: another launch repeats them
// with logarithms.

constexpr int S = STATES, K = VALUES, C = CLASSES;
constexpr int ROWS = 32;     // of a block: one a thread
constexpr int KEPT = S + 2;  // numbers of a position that wait for the way back: alpha, and two of the softmax
constexpr bool KEEPS_SUM = COMPLETE && !OUTPUTS;
constexpr bool BINARY = K == 2;
constexpr float SMALLEST = 1e-37f;
constexpr float LARGEST = KEEPS_SUM ? 1e24f : 1e24f / K;  // else seen without a total of exponentials, which is at most K
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float ORDINARY = 1e6f;  // smaller logits may be multiplied by LOG2_E before the largest is subtracted
constexpr double LN_2 = 0.6931471805599453;
#define INF __int_as_float(0x7f800000)

__device__ constexpr int edges[] = {EDGES}, edges_end[LAYERS] = {EDGES_END};
__device__ constexpr signed char class_of[LAYERS * K] = {CLASS_OF_VALUE};

__device__ constexpr int first_edge(int layer) { return layer == 0 ? 0 : edges_end[layer - 1]; }
__device__ constexpr int class_of_edge(int edge) { return edges[edge] / (S * S); }
__device__ constexpr int source_of(int edge) { return edges[edge] / S % S; }
__device__ constexpr int target_of(int edge) { return edges[edge] % S; }
// Whether the edge is the first of its layer from its source by its class.
__device__ constexpr bool is_first(int layer, int edge) {
    return edge == first_edge(layer) || edges[edge] / S != edges[edge - 1] / S;
}
__device__ constexpr bool is_last(int layer, int edge) {
    return edge + 1 == edges_end[layer] || edges[edge] / S != edges[edge + 1] / S;
}

struct Machine {
    const int2 *positions;  // the layer of each, and the entry of the label after it or -1
    const float4 *weights;  // of the edges, four at a time
    const float *emissions;
    int n_emissions;
    int first_usual, n_usual;  // positions that all have USUAL_LAYER, where they begin groups that are loaded together

    __device__ bool is_usual(int begin) const {
        return LAYERS == 1 || static_cast<unsigned>(begin - first_usual) < n_usual;
    }
};

// The row of a thread. Threads without one compute the last row, and store nothing.
struct Row {
    const float *logits;  // [n, K]
    const int *label;
    const long long *symbol;
    float *out;  // [n, K]
    int n;
    bool present;
};

struct States {
    float x[S];
};

// The logits, and then the results, of positions that are loaded together.
struct Symbols {
    float x[TOGETHER * K];
};

struct Classes {
    float x[C];
};

// What the way back needs of the logits of a symbol: both probabilities if there are two. Else the exponentials are
// exp2(x LOG2_E + first), and these times second are the probabilities.
struct Softmax {
    float first, second;
    __device__ float share() const { return BINARY ? 1.0f : second; }
};

struct Kept {
    States alpha;
    Softmax softmax;
};

__device__ float exp2_flushed(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

__device__ float reciprocal(float x) { return __fdividef(1.0f, x); }

__device__ float bounded(float x) {
    return fabsf(x) < INF ? fminf(fmaxf(x, -LARGEST_LOGIT), LARGEST_LOGIT) : x;
}

template <int N, int FIRST> __device__ void store_pieces(float *place, const float (&x)[N]) {
    constexpr int LEFT = N - FIRST, SIZE = LEFT >= 4 ? 4 : LEFT >= 2 ? 2 : 1;
    if constexpr (SIZE == 4)
        reinterpret_cast<float4 *>(place)[threadIdx.x] = {x[FIRST], x[FIRST + 1], x[FIRST + 2], x[FIRST + 3]};
    else if constexpr (SIZE == 2) reinterpret_cast<float2 *>(place)[threadIdx.x] = {x[FIRST], x[FIRST + 1]};
    else place[threadIdx.x] = x[FIRST];
    if constexpr (LEFT > SIZE) store_pieces<N, FIRST + SIZE>(place + SIZE * ROWS, x);
}

template <int N, int FIRST> __device__ void load_pieces(const float *place, float (&x)[N]) {
    constexpr int LEFT = N - FIRST, SIZE = LEFT >= 4 ? 4 : LEFT >= 2 ? 2 : 1;
    if constexpr (SIZE == 4) {
        const float4 piece = reinterpret_cast<const float4 *>(place)[threadIdx.x];
        x[FIRST] = piece.x, x[FIRST + 1] = piece.y, x[FIRST + 2] = piece.z, x[FIRST + 3] = piece.w;
    } else if constexpr (SIZE == 2) {
        const float2 piece = reinterpret_cast<const float2 *>(place)[threadIdx.x];
        x[FIRST] = piece.x, x[FIRST + 1] = piece.y;
    } else x[FIRST] = place[threadIdx.x];
    if constexpr (LEFT > SIZE) load_pieces<N, FIRST + SIZE>(place + SIZE * ROWS, x);
}

__device__ void keep(float *place, const Kept &kept) {
    float x[KEPT];
#pragma unroll
    for (int s = 0; s < S; ++s) x[s] = kept.alpha.x[s];
    x[S] = kept.softmax.first, x[S + 1] = kept.softmax.second;
    store_pieces<KEPT, 0>(place, x);
}

__device__ Kept kept_at(const float *place) {
    float x[KEPT];
    load_pieces<KEPT, 0>(place, x);
    Kept kept;
#pragma unroll
    for (int s = 0; s < S; ++s) kept.alpha.x[s] = x[s];
    kept.softmax = {x[S], x[S + 1]};
    return kept;
}

__device__ Symbols load_symbols(const float *logits) {
    Symbols symbols;
    float *x = symbols.x;
#pragma unroll
    for (int i = 0; i < TOGETHER * K; i += WIDTH)
        if constexpr (WIDTH == 4) {
            const float4 piece = *reinterpret_cast<const float4 *>(logits + i);
            x[i] = piece.x, x[i + 1] = piece.y, x[i + 2] = piece.z, x[i + 3] = piece.w;
        } else if constexpr (WIDTH == 2) {
            const float2 piece = *reinterpret_cast<const float2 *>(logits + i);
            x[i] = piece.x, x[i + 1] = piece.y;
        } else x[i] = logits[i];
    return symbols;
}

__device__ void store_symbols(float *out, const Symbols &symbols) {
    const float *x = symbols.x;
#pragma unroll
    for (int i = 0; i < TOGETHER * K; i += WIDTH)
        if constexpr (WIDTH == 4) *reinterpret_cast<float4 *>(out + i) = {x[i], x[i + 1], x[i + 2], x[i + 3]};
        else if constexpr (WIDTH == 2) *reinterpret_cast<float2 *>(out + i) = {x[i], x[i + 1]};
        else out[i] = x[i];
}

__device__ float largest_of(const float *x) {
    float high = x[0];
#pragma unroll
    for (int v = 1; v < K; ++v) high = fmaxf(high, x[v]);
    return high;
}

__device__ void exponentiate(float *x, float shift) {
#pragma unroll
    for (int v = 0; v < K; ++v) x[v] = exp2_flushed(fmaf(x[v], LOG2_E, shift));
}

__device__ float sum_of(const float *x) {
    float sum = x[0];
#pragma unroll
    for (int v = 1; v < K; ++v) sum += x[v];
    return sum;
}

// Turns the logits of a symbol into probabilities, if there are two, else into exponentials over about the largest.
__device__ Softmax exponentials(float *x) {
    if constexpr (BINARY) {
        const float odds = exp2_flushed((x[1] - x[0]) * LOG2_E);
        x[0] = reciprocal(1.0f + odds), x[1] = reciprocal(1.0f + reciprocal(odds));
        return {x[0], x[1]};
    } else {
        const float shift = -largest_of(x) * LOG2_E;
        exponentiate(x, shift);
        return {shift, reciprocal(sum_of(x))};
    }
}

__device__ void exponentials_again(float *x, const Softmax &softmax) {
    if constexpr (BINARY) x[0] = softmax.first, x[1] = softmax.second;
    else exponentiate(x, softmax.first);
}

__device__ float sum_of(const States &states) {
    float sum = states.x[0];
#pragma unroll
    for (int s = 1; s < S; ++s) sum += states.x[s];
    return sum;
}

__device__ void scale(States &states, float factor) {
#pragma unroll
    for (int s = 0; s < S; ++s) states.x[s] *= factor;
}

// Of beta, at least 1.
__device__ float largest_of(const States &states) {
    float high = 1.0f;
#pragma unroll
    for (int s = 0; s < S; ++s) high = fmaxf(high, states.x[s]);
    return high;
}

// Calls body.run<layer>().
template <int FIRST, int END, class Body> __device__ void at_layer(int layer, Body &body) {
    if constexpr (END - FIRST == 1) body.template run<FIRST>();
    else {
        constexpr int MIDDLE = (FIRST + END) / 2;
        if (layer < MIDDLE) at_layer<FIRST, MIDDLE>(layer, body);
        else at_layer<MIDDLE, END>(layer, body);
    }
}

template <bool USUAL, class Body> __device__ void at_position(int layer, Body &body) {
    if constexpr (USUAL) body.template run<USUAL_LAYER>();
    else at_layer<0, LAYERS>(layer, body);
}

// The sums of the exponentials of each class.
template <int L> __device__ Classes weights_of(const float *x) {
    Classes weight;
#pragma unroll
    for (int c = 0; c < C; ++c) weight.x[c] = -0.0f;
#pragma unroll
    for (int v = 0; v < K; ++v)
        if (class_of[L * K + v] >= 0) weight.x[class_of[L * K + v]] += x[v];
    return weight;
}

// The weight of an edge, which is loaded with three others.
struct Weights {
    const float4 *weights;
    float4 four;
    __device__ float of(int edge, bool first) {
        if (first || edge % 4 == 0) four = weights[edge / 4];
        return edge % 4 == 0 ? four.x : edge % 4 == 1 ? four.y : edge % 4 == 2 ? four.z : four.w;
    }
};

// Loads of one position are not taken for those of another: registers would not hold as many weights.
__device__ Weights weights_anew(const float4 *weights) {
    if (WEIGHTED) __syncwarp();
    return {weights};
}

// alpha along all edges of a position; where it keeps its sum, with probabilities of values.
struct Forward {
    const float *x;
    States &alpha;
    const float4 *weights;
    float share;
    template <int L> __device__ void run() {
        Classes weight = weights_of<L>(x);
        if constexpr (KEEPS_SUM && !BINARY) {
            if constexpr (C < S)
#pragma unroll
                for (int c = 0; c < C; ++c) weight.x[c] *= share;
            else scale(alpha, share);
        }
        States after;
#pragma unroll
        for (int s = 0; s < S; ++s) after.x[s] = -0.0f;
        constexpr int FIRST = first_edge(L), END = edges_end[L];
        Weights edge_weights = weights_anew(weights);
        float along;
#pragma unroll
        for (int e = FIRST; e < END; ++e) {
            const int s = source_of(e), c = class_of_edge(e), t = target_of(e);
            if (WEIGHTED) {
                if (is_first(L, e)) along = weight.x[c] * alpha.x[s];
                after.x[t] = fmaf(along, edge_weights.of(e, e == FIRST), after.x[t]);
            } else after.x[t] = fmaf(weight.x[c], alpha.x[s], after.x[t]);
        }
        alpha = after;
    }
};

// beta along all edges of a position, and its results in the place of the exponentials. Times alpha it sums to 1, which
// where alpha keeps its sum only rounding changes.
struct Backward {
    float *x;
    const States &alpha;
    States &beta;
    const float4 *weights;
    bool rescaled;
    float share, gradient_scale;
    float factor = 1.0f;
    template <int L> __device__ void run() {
        if constexpr (KEEPS_SUM && !BINARY) scale(beta, share);
        const Classes weight = weights_of<L>(x);
        States before;
        Classes rest;
#pragma unroll
        for (int s = 0; s < S; ++s) before.x[s] = -0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) rest.x[c] = -0.0f;
        constexpr int FIRST = first_edge(L), END = edges_end[L];
        Weights edge_weights = weights_anew(weights);
        float ahead;
#pragma unroll
        for (int e = FIRST; e < END; ++e) {
            const int s = source_of(e), c = class_of_edge(e), t = target_of(e);
            if (WEIGHTED) {
                const float w = edge_weights.of(e, e == FIRST);
                ahead = is_first(L, e) ? w * beta.x[t] : fmaf(w, beta.x[t], ahead);
            } else ahead = beta.x[t];
            if (is_last(L, e)) {
                before.x[s] = fmaf(weight.x[c], ahead, before.x[s]);
                rest.x[c] = fmaf(alpha.x[s], ahead, rest.x[c]);
            }
        }
        if (rescaled) {
            float y = alpha.x[0] * before.x[0];
#pragma unroll
            for (int s = 1; s < S; ++s) y = fmaf(alpha.x[s], before.x[s], y);
            factor = reciprocal(y);
            scale(before, factor);
        }
        const float prior = GRADIENT ? gradient_scale * share : 0.0f;
        const float own = (GRADIENT ? -gradient_scale : 1.0f) * (KEEPS_SUM ? 1.0f : factor);
#pragma unroll
        for (int c = 0; c < C; ++c) rest.x[c] *= own;
#pragma unroll
        for (int v = 0; v < K; ++v) {
            const int c = class_of[L * K + v];
            const float ratio = c < 0 ? prior : GRADIENT ? rest.x[c < 0 ? 0 : c] + prior : rest.x[c < 0 ? 0 : c];
            x[v] *= ratio;
        }
        beta = before;
    }
};

// Times what an entry of the label says about the states, if any.
__device__ void see_label(States &states, const Machine &machine, const Row &row, int entry) {
    if (entry < 0) return;
    const float *weight = machine.emissions + (entry * machine.n_emissions + max(row.label[entry], 0)) * S;
#pragma unroll
    for (int s = 0; s < S; ++s) states.x[s] *= weight[s];
}

// What a row has come to. The product is NaN after logits that are no prior.
struct Outcome {
    double product;
    int exponent;
    float least, farthest;  // z, and the largest logit of a symbol

    // Two logits are subtracted before they are multiplied, so that they may be far below 0.
    __device__ void see_largest_logit(const float *x) {
        farthest = fmaxf(farthest, BINARY ? largest_of(x) : fabsf(largest_of(x)));
    }

    __device__ void see(float z) {
        product *= z;
        least = fminf(least, z);
    }
    // Brings the product, of a few scales more, into the range that holds as many again.
    __device__ void normalise() {
        if (product < 0x1p-500) {
            product *= 0x1p500;
            exponent -= 500;
        }
    }
    __device__ bool is_dead() const { return !(least > 1.01f * SMALLEST && product > 0.0 && farthest < ORDINARY); }
};

// Positions that are loaded together, in order: keeps alpha before each, and brings it behind the last.
template <bool USUAL>
__device__ void forward_together(Symbols &symbols, float *scratch, const Machine &machine, int begin,
                                 const Row &row, States &alpha, Outcome &outcome) {
#pragma unroll
    for (int i = 0; i < TOGETHER; ++i) {
        float *x = symbols.x + i * K;
        const int2 here = machine.positions[begin + i];
        outcome.see_largest_logit(x);
        const Softmax softmax = exponentials(x);
        keep(scratch + i * (KEPT * ROWS), {alpha, softmax});
        Forward step{x, alpha, machine.weights, softmax.share()};
        at_position<USUAL>(here.x, step);
        if (OUTPUTS) see_label(alpha, machine, row, here.y);
        if constexpr (!KEEPS_SUM) {
            const float sum = sum_of(alpha);
            scale(alpha, reciprocal(sum));
            outcome.see(sum * softmax.share());
        }
    }
    if (!KEEPS_SUM) outcome.normalise();
}

// The positions of a block from first to last: keeps alpha before each, and returns it after the last.
__device__ States forward(float *scratch, const Machine &machine, const Row &row, States alpha, int first, int count,
                          Outcome &outcome) {
    const float *logits = row.logits + first * K;
    for (int begin = first; begin < first + count; begin += TOGETHER) {
        Symbols symbols = load_symbols(logits);
        if (machine.is_usual(begin)) forward_together<true>(symbols, scratch, machine, begin, row, alpha, outcome);
        else forward_together<false>(symbols, scratch, machine, begin, row, alpha, outcome);
        logits += TOGETHER * K, scratch += TOGETHER * (KEPT * ROWS);
    }
    return alpha;
}

// Positions that are loaded together, from last to first: results in the place of logits, and beta before the first;
// returns the largest number that the bound sees.
template <bool USUAL>
__device__ float backward_together(Symbols &symbols, const float *scratch, const Machine &machine, int begin,
                                   const Row &row, States &beta, float gradient_scale) {
    float largest = 1.0f;
#pragma unroll
    for (int i = TOGETHER - 1; i >= 0; --i) {
        float *x = symbols.x + i * K;
        const int2 here = machine.positions[begin + i];
        const Kept kept = kept_at(scratch + i * (KEPT * ROWS));
        const float high = KEEPS_SUM ? 0.0f : largest_of(beta);
        if (OUTPUTS) see_label(beta, machine, row, here.y);
        exponentials_again(x, kept.softmax);
        const bool rescaled = !KEEPS_SUM || i == TOGETHER - 1;
        Backward step{x, kept.alpha, beta, machine.weights, rescaled, kept.softmax.share(), gradient_scale};
        at_position<USUAL>(here.x, step);
        if (!KEEPS_SUM) largest = fmaxf(largest, high * step.factor);
    }
    return largest;
}

// The positions of a block from last to first: results, and beta before the first; the largest number that the bound sees.
__device__ float backward(const float *scratch, const Machine &machine, const Row &row, States &beta, int first,
                          int count, float gradient_scale) {
    float largest = 1.0f;
    const float *logits = row.logits + (first + count) * K;
    float *out = row.out + (first + count) * K;
    scratch += count * (KEPT * ROWS);
    for (int begin = first + count - TOGETHER; begin >= first; begin -= TOGETHER) {
        logits -= TOGETHER * K, out -= TOGETHER * K, scratch -= TOGETHER * (KEPT * ROWS);
        Symbols symbols;
        if constexpr (!BINARY) symbols = load_symbols(logits);
        const float seen =
            machine.is_usual(begin)
                ? backward_together<true>(symbols, scratch, machine, begin, row, beta, gradient_scale)
                : backward_together<false>(symbols, scratch, machine, begin, row, beta, gradient_scale);
        largest = fmaxf(largest, seen);
        if (row.present) store_symbols(ORDERED ? row.out + row.symbol[begin] * K : out, symbols);
    }
    return largest;
}

// Priors, or no gradient, as results of a row without a posterior: uniform where logits are none; whether some are none.
__device__ bool store_priors(const Row &row) {
    bool invalid = false;
    for (int position = 0; position < row.n; ++position) {
        float x[K];
#pragma unroll
        for (int v = 0; v < K; ++v) x[v] = row.logits[position * K + v];
        const float high = bounded(largest_of(x));
#pragma unroll
        for (int v = 0; v < K; ++v) x[v] = bounded(x[v]) - high;
        exponentiate(x, 0.0f);
        const float total = sum_of(x);
        const bool valid = total > 0.5f;
        invalid |= !valid;
        float *out = row.out + (ORDERED ? row.symbol[position] : position) * K;
#pragma unroll
        for (int v = 0; v < K; ++v)
            if (row.present) out[v] = GRADIENT ? 0.0f : valid ? x[v] / total : 1.0f / K;
    }
    return invalid;
}

__device__ int label_status(const Row &row, int n_entries) {
    int code = POSSIBLE;
    for (int entry = 0; entry < n_entries; ++entry) code = row.label[entry] < 0 ? INVALID_LABEL : code;
    return code;
}

// Where a limit would help, the assembler rather spills a few bytes than exceed 168 registers without one.
#if STATES > 16 || (WEIGHTED && STATES > 9 && STATES * VALUES > 160) || (OUTPUTS && STATES > 9)
#define BOUNDS __launch_bounds__(ROWS, 8)
#else
#define BOUNDS __launch_bounds__(ROWS)
#endif

extern "C" __global__ void BOUNDS marginals(
    const float *logits, const int *label, const int2 *positions, const float4 *weights, const float *start,
    const float *emissions, const double *log_scale, float *scratch,
    const long long *symbol, float *out, float *evidence, unsigned char *status, unsigned char *redo, int batch, int n,
    int block, int n_entries, int n_emissions, int per_block, int first_usual, int n_usual, float gradient_scale) {
    const Machine machine{positions, weights, emissions, n_emissions, first_usual, n_usual};
    scratch += static_cast<long long>(per_block) * blockIdx.x;
    float *starts = scratch + block * (KEPT * ROWS);
    const int last = (n - 1) / block;
    for (long long first_row = static_cast<long long>(blockIdx.x) * ROWS; first_row < batch;
         first_row += static_cast<long long>(gridDim.x) * ROWS) {
        const bool present = first_row + threadIdx.x < batch;
        const long long r = present ? first_row + threadIdx.x : batch - 1;
        const Row row{logits + r * n * K, label + r * n_entries, symbol, out + r * n * K, n, present};
        Outcome outcome{1.0, 0, 1.0f, 0.0f};
        States alpha, beta;
#pragma unroll
        for (int s = 0; s < S; ++s) alpha.x[s] = start[s], beta.x[s] = 1.0f;
        float largest = 1.0f;
        for (int step = 0; step <= 2 * last; ++step) {
            const int index = min(step, 2 * last - step), first = index * block, count = min(n - first, block);
            float *place = starts + index * (S * ROWS);
            if (step <= last) store_pieces<S, 0>(place, alpha.x);
            else load_pieces<S, 0>(place, alpha.x);
            Outcome seen = outcome;
            alpha = forward(scratch, machine, row, alpha, first, count, seen);
            if (step <= last) outcome = seen;
            if (step == last && !OUTPUTS) {
                const int entry = machine.positions[n - 1].y;
                see_label(alpha, machine, row, entry);
                const float z = sum_of(alpha);
                outcome.see(z);
                see_label(beta, machine, row, entry);
                if (KEEPS_SUM) {
                    scale(beta, reciprocal(z));
                    largest = largest_of(beta);
                }
            }
            if (step >= last)
                largest = fmaxf(largest, backward(scratch, machine, row, beta, first, count, gradient_scale));
        }
        int code = label_status(row, n_entries);
        const bool dead = outcome.is_dead(), drowned = dead || !(largest <= LARGEST);
        if (dead || code != POSSIBLE) code = max(code, store_priors(row) ? INVALID_LOGITS : POSSIBLE);
        const bool possible = code == POSSIBLE && !drowned;
        if (present) {
            const double total = (log2(outcome.product) + outcome.exponent) * LN_2 + log_scale[0];
            evidence[r] = possible ? static_cast<float>(total) : -INF;
            status[r] = code == POSSIBLE && drowned ? IMPOSSIBLE : code;
            redo[r] = code == POSSIBLE && drowned;
        }
    }
}
