// Computes exact marginals of an automaton in float32; contract in emnesy_gpu/reference/automaton.py.
//
// The recurrences, the bound of what underflow takes, and the blocks of positions are those of the Triton kernel, see
// kernels/gpu/automaton/posterior.py. A block computes R rows. A thread has the states lane + i LANES, for four rows in
// each of GROUPS groups, so that what it looks up for an edge serves all of them. The vector of states that edges read
// and the weights of classes are in shared memory; a thread writes alpha to global memory for itself alone.
// Where edges have weights, a state has lists of them for each class, both ways: sums along a list are weighted by the
// class once, so that an edge takes one multiply-add each way where a state and class have many.
// STATES, VALUES, CLASSES, SINGLE, LAYERED, LANES, ROW_LANES, PER_THREAD, CHUNK, WEIGHTED, ORDERED,
// GRADIENT, LARGEST_LOGIT and the row status codes are macros.
// Rows in which float32 loses digits are marked in `redo`: another launch repeats them with logarithms.

constexpr int S = STATES, K = VALUES, C = CLASSES, N = PER_THREAD;
constexpr int GROUPS = 2;
constexpr int QUADS = GROUPS * ROW_LANES;  // groups of four rows
constexpr int R = 4 * QUADS;
constexpr int THREADS = LANES * ROW_LANES;
constexpr int STRIDE = QUADS + QUADS / 2;  // from state to state, in float4: neighbours are in different banks
constexpr int BYTES = 16 * STRIDE;
constexpr int PARTIAL = CHUNK * QUADS + ROW_LANES;  // from lane to lane, for the same reason
constexpr int LAYER_SIZES = 5;                       // base, width, degree, largest class, classes
constexpr float SMALLEST = 1e-37f, LARGEST = 1e24f;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr double LN_2 = 0.6931471805599453;
constexpr unsigned ALL_LANES = 0xffffffffu;
#define INF __int_as_float(0x7f800000)

extern __shared__ float4 memory[];

// Of the weighted edges by a class: where their columns begin, their number, and whether any edges exceed them.
struct Extent {
    int base, width, exceeded;
};

struct Machine {
    const int *layer, *sizes;
    // Distances in bytes of the source and the class of an edge into a state from those of number 0; where edges have
    // weights, the distance of its other end, and its weight. Columns that all states have, and what exceeds them.
    const int2 *columns, *more;
    const int *first;      // where what exceeds the columns begins; without weights all edges
    const int *successor;  // distances of targets
    const Extent *extents;  // [L, 2, C], of edges into and out of states
    const int *classes, *class_first, *class_values;
    const float *start;
    const int *entry;
    const float *emissions;
    int n_entries, n_emissions;
};

struct Rows {
    const float *logits;
    const int *label;
    long long first;
    int size, n;
};

// Where in shared memory, in float4.
constexpr int VECTOR = 0;                           // [S + 1, STRIDE], state S is zero
constexpr int WEIGHTS = VECTOR + (S + 1) * STRIDE;  // [C, STRIDE]
constexpr int REST = WEIGHTS + C * STRIDE;          // [C, QUADS]: r
constexpr int PARTIALS = REST + C * QUADS;          // [LANES, PARTIAL]
constexpr int SUMS = PARTIALS + LANES * PARTIAL;    // [QUADS]: z or y
constexpr int INVERSE = SUMS + QUADS;               // [QUADS]

// In global memory, for one block of threads and T positions.
struct Scratch {
    float *prior;    // [T, K, R]
    float *weight;   // [T, C, R], the prior where each class has one value
    float4 *alpha;   // [T, N * GROUPS, THREADS]
    float4 *starts;  // [blocks, N * GROUPS, THREADS]
};

struct Thread {
    int index, lane, group;
};

struct Vector {
    float4 x[N][GROUPS];
};

// What a row has come to, in the thread of its number.
struct Outcome {
    double product;
    int exponent, code;
    bool dead;
};

__device__ void synchronise() {
    if (THREADS > 32) __syncthreads();
    else __syncwarp();
}

__device__ float4 times(float4 a, float4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
__device__ float4 plus(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ float4 larger(float4 a, float4 b) {
    return {fmaxf(a.x, b.x), fmaxf(a.y, b.y), fmaxf(a.z, b.z), fmaxf(a.w, b.w)};
}
__device__ float4 plus_product(float4 s, float4 a, float4 b) {
    return {fmaf(a.x, b.x, s.x), fmaf(a.y, b.y, s.y), fmaf(a.z, b.z, s.z), fmaf(a.w, b.w, s.w)};
}
__device__ float4 all(float x) { return {x, x, x, x}; }

__device__ float inverse(float x) { return __fdividef(1.0f, fmaxf(x, SMALLEST)); }

__device__ float exp2_flushed(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

__device__ float &number(int place, int i) { return reinterpret_cast<float *>(memory + place)[i]; }

__device__ int layer_at(const Machine &machine, int position) { return LAYERED ? machine.layer[position] : 0; }

__device__ bool exists(const Thread &thread, int i) { return (i + 1) * LANES <= S || thread.lane + i * LANES < S; }

// What a table [..., S], seen from the first state of the thread, has for state i; for the last where that does not exist.
template <class T> __device__ T looked_up(const T *table, const Thread &thread, int i) {
    return table[(i + 1) * LANES <= S ? i * LANES : min(i * LANES, S - 1 - thread.lane)];
}

// Eight rows of a thread: four in each of two groups.
struct Eight {
    float4 x[GROUPS];
};

// The eight rows at an address in shared memory, which has 32 bits.
__device__ Eight load(unsigned address) {
    Eight y;
    asm volatile(
        "ld.shared.v4.f32 {%0, %1, %2, %3}, [%8];\n\t"
        "ld.shared.v4.f32 {%4, %5, %6, %7}, [%8 + %9];"
        : "=f"(y.x[0].x), "=f"(y.x[0].y), "=f"(y.x[0].z), "=f"(y.x[0].w), "=f"(y.x[1].x), "=f"(y.x[1].y), "=f"(y.x[1].z),
          "=f"(y.x[1].w)
        : "r"(address), "n"(16 * ROW_LANES));
    return y;
}

// The address of the rows of a thread of what is in shared memory for all rows.
__device__ unsigned rows_of(int place, const Thread &thread) {
    return static_cast<unsigned>(__cvta_generic_to_shared(memory + place)) + 16 * thread.group;
}

__device__ void put(const Vector &vector, const Thread &thread) {
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
        for (int q = 0; q < GROUPS; ++q)
            if (exists(thread, i))
                memory[VECTOR + (thread.lane + i * LANES) * STRIDE + q * ROW_LANES + thread.group] = vector.x[i][q];
}

__device__ void keep(float4 *place, const Vector &vector, const Thread &thread) {
#pragma unroll
    for (int i = 0; i < N * GROUPS; ++i) place[i * THREADS + thread.index] = vector.x[i / GROUPS][i % GROUPS];
}

__device__ Vector kept(const float4 *place, const Thread &thread) {
    Vector vector;
#pragma unroll
    for (int i = 0; i < N * GROUPS; ++i) vector.x[i / GROUPS][i % GROUPS] = place[i * THREADS + thread.index];
    return vector;
}

// Divides by the sums of the rows; the factors.
__device__ Eight scale(Vector &vector, const Thread &thread) {
    const Eight factor = load(rows_of(INVERSE, thread));
#pragma unroll
    for (int i = 0; i < N * GROUPS; ++i) {
        float4 &x = vector.x[i / GROUPS][i % GROUPS];
        x = times(x, factor.x[i % GROUPS]);
    }
    return factor;
}

// Threads that share a sum over the lanes.
__device__ constexpr int parts_of(int items) {
    int parts = 1;
    while (parts < 8 && 2 * parts <= LANES && 2 * parts * items <= THREADS) parts *= 2;
    return parts;
}

// The sums over all lanes of the first COUNT groups of rows that each has among the partial sums, to `place`.
template <int LARGEST_COUNT> __device__ void sum_lanes(int place, int count, const Thread &thread) {
    constexpr int PARTS = parts_of(LARGEST_COUNT);
    if (PARTS > 1 && thread.index / 32 * 32 >= count * PARTS) return;
    for (int i = thread.index; PARTS > 1 || i < count; i += THREADS) {
        const int item = i / PARTS, part = i % PARTS;
        float4 sum = all(0.0f);
        if (PARTS == 1 || item < count) {
            const float4 *partial = memory + PARTIALS + part * PARTIAL + item;
            sum = *partial;
#pragma unroll 8
            for (int k = 1; k < LANES / PARTS; ++k) sum = plus(sum, partial[k * PARTS * PARTIAL]);
        }
#pragma unroll
        for (int offset = 1; offset < PARTS; offset *= 2) {
            sum.x += __shfl_xor_sync(ALL_LANES, sum.x, offset);
            sum.y += __shfl_xor_sync(ALL_LANES, sum.y, offset);
            sum.z += __shfl_xor_sync(ALL_LANES, sum.z, offset);
            sum.w += __shfl_xor_sync(ALL_LANES, sum.w, offset);
        }
        if (part == 0 && item < count) memory[place + item] = sum;
        if (PARTS > 1) break;
    }
}

__device__ long long row_of(const Rows &rows, int r) {
    const long long row = rows.first + r;
    return row < rows.size ? row : rows.size - 1;
}

// Times what the label says about the states after a position.
__device__ void see_label(Vector &vector, const Machine &machine, const Rows &rows, int position, const Thread &thread) {
    const int entry = machine.entry[position];
    if (entry < 0) return;
    if (thread.index < R) {
        const int code = max(rows.label[row_of(rows, thread.index) * machine.n_entries + entry], 0);
        number(SUMS, thread.index) = __int_as_float((entry * machine.n_emissions + code) * S);
    }
    synchronise();
#pragma unroll
    for (int q = 0; q < GROUPS; ++q) {
        const int4 seen = reinterpret_cast<const int4 *>(memory)[SUMS + q * ROW_LANES + thread.group];
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float *weight = machine.emissions + min(thread.lane + i * LANES, S - 1);
            vector.x[i][q] =
                times(vector.x[i][q], {weight[seen.x], weight[seen.y], weight[seen.z], weight[seen.w]});
        }
    }
}

constexpr int WIDTH = K % 4 == 0 ? 4 : K % 2 == 0 ? 2 : 1;
struct alignas(4 * WIDTH) Piece {
    float values[WIDTH];
};

__device__ float bounded(float x) {
    return fabsf(x) < INF ? fminf(fmaxf(x, -LARGEST_LOGIT), LARGEST_LOGIT) : x;
}

// The prior [K, R] of a symbol, uniform where the logits are none; INVALID_LOGITS or POSSIBLE.
__device__ int store_prior(const float *logits, float *prior) {
    float x[K], high = -INF, farthest = 0.0f, sum = 0.0f;
#pragma unroll
    for (int v = 0; v < K; v += WIDTH) {
        const Piece piece = *reinterpret_cast<const Piece *>(logits + v);
#pragma unroll
        for (int w = 0; w < WIDTH; ++w) x[v + w] = piece.values[w];
    }
#pragma unroll
    for (int v = 0; v < K; ++v) {
        high = fmaxf(high, x[v]);
        farthest = fmaxf(farthest, fabsf(x[v]));
    }
    if (farthest > LARGEST_LOGIT) {
        high = bounded(high);
#pragma unroll
        for (int v = 0; v < K; ++v) x[v] = bounded(x[v]);
    }
#pragma unroll
    for (int v = 0; v < K; ++v) sum += x[v] = exp2_flushed((x[v] - high) * LOG2_E);
    const bool valid = sum >= 1.0f;
    const float factor = valid ? __fdividef(1.0f, sum) : 1.0f;
    if (!valid)
#pragma unroll
        for (int v = 0; v < K; ++v) x[v] = 1.0f / K;
#pragma unroll
    for (int v = 0; v < K; ++v) prior[v * R] = x[v] * factor;
    return valid ? POSSIBLE : INVALID_LOGITS;
}

// Priors and weights of classes of `count` positions; the status of the row thread.index % R.
__device__ int read_block(
    const Scratch &scratch, const Machine &machine, const Rows &rows, int first, int count, const Thread &thread) {
    const int r = thread.index % R;
    const long long row = row_of(rows, r);
    int code = POSSIBLE;
    for (int j = thread.index / R; j < count; j += THREADS / R) {
        float *prior = scratch.prior + j * (K * R) + r;
        code = max(code, store_prior(rows.logits + (row * rows.n + first + j) * K, prior));
        if (SINGLE) continue;
        const int layer = layer_at(machine, first + j);
        const int *begin = machine.class_first + layer * (C + 1), *values = machine.class_values + layer * K;
        for (int c = 0; c < machine.sizes[layer * LAYER_SIZES + 4]; ++c) {
            float sum = 0.0f;
            for (int k = begin[c]; k < begin[c + 1]; ++k) sum += prior[values[k] * R];
            scratch.weight[(j * C + c) * R + r] = sum;
        }
    }
    return code;
}

// The weights of classes of position j of a block, to shared memory.
__device__ void load_weights(const Scratch &scratch, int j, int n_classes, const Thread &thread) {
    const float4 *weight = reinterpret_cast<const float4 *>(scratch.weight + j * (C * R)) + thread.index;
    float4 *loaded = memory + WEIGHTS + thread.index / QUADS * STRIDE + thread.index % QUADS;
    for (int c = thread.index / QUADS; c < n_classes; c += THREADS / QUADS) {
        *loaded = *weight;
        weight += THREADS;
        loaded += THREADS / QUADS * STRIDE;
    }
}

__device__ void pull_edge(float4 *after, unsigned source, unsigned klass) {
    const Eight before = load(source), weight = load(klass);
#pragma unroll
    for (int q = 0; q < GROUPS; ++q) after[q] = plus_product(after[q], before.x[q], weight.x[q]);
}

// Zeros for the states of a thread that do not exist.
__device__ void clear_nowhere(Vector &vector, const Thread &thread) {
#pragma unroll
    for (int i = S / LANES; i < N; ++i)
#pragma unroll
        for (int q = 0; q < GROUPS; ++q)
            if (!exists(thread, i)) vector.x[i][q] = all(0.0f);
}

// Adds what is at the other end of a weighted edge.
__device__ void pull_weighted(float4 *sums, unsigned vector, int2 edge) {
    const Eight end = load(vector + edge.x);
#pragma unroll
    for (int q = 0; q < GROUPS; ++q) sums[q] = plus_product(sums[q], end.x[q], all(__int_as_float(edge.y)));
}

// The sums along the weighted edges at each state, into (0) or out of it (1), by a class.
__device__ Vector pull_class(const Machine &machine, int layer, int direction, int klass, const Thread &thread) {
    const int list = (2 * layer + direction) * C + klass;
    const Extent extent = machine.extents[list];
    const int2 *column = machine.columns + extent.base + thread.lane;
    const unsigned vector = rows_of(VECTOR, thread);
    Vector sums;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const int2 edge = looked_up(column, thread, i);
        const Eight end = load(vector + edge.x);
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) sums.x[i][q] = times(end.x[q], all(__int_as_float(edge.y)));
    }
#pragma unroll 1
    for (int d = 1; d < extent.width; ++d) {
        column += S;
#pragma unroll
        for (int i = 0; i < N; ++i) pull_weighted(sums.x[i], vector, looked_up(column, thread, i));
    }
#pragma unroll
    for (int i = 0; i < N && extent.exceeded; ++i) {
        if (!exists(thread, i)) continue;
        const int *first = machine.first + list * S + thread.lane + i * LANES;
#pragma unroll 1
        for (int edge = first[0]; edge < first[1]; ++edge) pull_weighted(sums.x[i], vector, machine.more[edge]);
    }
    return sums;
}

// alpha along the edges into each state, to `after`, where they have weights.
__device__ void pull_forward_weighted(Vector &after, const Machine &machine, int layer, const Thread &thread) {
    const unsigned weights = rows_of(WEIGHTS, thread);
#pragma unroll 1
    for (int c = 0; c < machine.sizes[layer * LAYER_SIZES + 4]; ++c) {
        const Vector behind = pull_class(machine, layer, 0, c, thread);
        const Eight weight = load(weights + c * BYTES);
#pragma unroll
        for (int i = 0; i < N * GROUPS; ++i) {
            float4 &x = after.x[i / GROUPS][i % GROUPS];
            x = plus_product(x, behind.x[i / GROUPS][i % GROUPS], weight.x[i % GROUPS]);
        }
    }
}

// alpha along the edges into each state, to `after`, where these weigh 1.
__device__ void pull_forward_alike(Vector &after, const Machine &machine, int layer, const Thread &thread) {
    const int *sizes = machine.sizes + layer * LAYER_SIZES, width = sizes[1], degree = sizes[2];
    const int2 *column = machine.columns + sizes[0] + thread.lane;
    const unsigned vector = rows_of(VECTOR, thread), weights = rows_of(WEIGHTS, thread);
#pragma unroll 2
    for (int d = 0; d < width; ++d, column += S)
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int2 edge = looked_up(column, thread, i);
            pull_edge(after.x[i], vector + edge.x, weights + edge.y);
        }
#pragma unroll
    for (int i = 0; i < N && width < degree; ++i) {
        if (!exists(thread, i)) continue;
        const int *first = machine.first + layer * (S + 1) + thread.lane + i * LANES;
        for (int edge = first[0] + width; edge < first[1]; ++edge)
            pull_edge(after.x[i], vector + machine.more[edge].x, weights + machine.more[edge].y);
    }
}

// alpha along the edges into each state.
__device__ Vector pull_forward(const Machine &machine, int layer, const Thread &thread) {
    Vector after;
#pragma unroll
    for (int i = 0; i < N * GROUPS; ++i) after.x[i / GROUPS][i % GROUPS] = all(0.0f);
    if (WEIGHTED) pull_forward_weighted(after, machine, layer, thread);
    else pull_forward_alike(after, machine, layer, thread);
    clear_nowhere(after, thread);
    return after;
}

// The sums over the states of a thread, as number `place` of its partial sums.
__device__ void store_partial(const float4 *sums, int place, const Thread &thread) {
#pragma unroll
    for (int q = 0; q < GROUPS; ++q)
        memory[PARTIALS + thread.lane * PARTIAL + place * QUADS + q * ROW_LANES + thread.group] = sums[q];
}

// The positions of a block from first to last: keeps alpha before each, and returns it after the last.
__device__ Vector forward(
    const Scratch &scratch, const Machine &machine, const Rows &rows, Vector alpha, int first, int count,
    Outcome *outcome, const Thread &thread) {
    for (int j = 0; j < count; ++j) {
        const int layer = layer_at(machine, first + j);
        keep(scratch.alpha + j * (N * GROUPS * THREADS), alpha, thread);
        put(alpha, thread);
        load_weights(scratch, j, machine.sizes[layer * LAYER_SIZES + 4], thread);
        synchronise();
        alpha = pull_forward(machine, layer, thread);
        see_label(alpha, machine, rows, first + j, thread);
        float4 sums[GROUPS];
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) {
            sums[q] = alpha.x[0][q];
#pragma unroll
            for (int i = 1; i < N; ++i) sums[q] = plus(sums[q], alpha.x[i][q]);
        }
        store_partial(sums, 0, thread);
        synchronise();
        sum_lanes<QUADS>(SUMS, QUADS, thread);
        synchronise();
        if (thread.index < R) {
            const float z = number(SUMS, thread.index);
            number(INVERSE, thread.index) = inverse(z);
            if (outcome) {
                const bool dead = !(z > 1.01f * SMALLEST);
                outcome->dead |= dead;
                outcome->product *= dead ? 1.0f : z;
                if (outcome->product < 0x1p-500) {
                    outcome->product *= 0x1p500;
                    outcome->exponent -= 500;
                }
            }
        }
        synchronise();
        scale(alpha, thread);
    }
    return alpha;
}

// What is ahead of each state by the class whose successors are in the column.
__device__ Vector pull_successors(const int *column, const Thread &thread) {
    const unsigned vector = rows_of(VECTOR, thread);
    Vector ahead;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const Eight end = load(vector + looked_up(column, thread, i));
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) ahead.x[i][q] = end.x[q];
    }
    return ahead;
}

// Follows the classes `first` to `last` from each state: adds to beta, and leaves the sums r of each class.
__device__ void pull_backward(
    Vector &before, const Vector &alpha, const Machine &machine, int layer, int first, int last, const Thread &thread) {
    const int *column = machine.successor + (layer * C + first) * S + thread.lane;
    const unsigned weights = rows_of(WEIGHTS, thread);
#pragma unroll WEIGHTED ? 1 : 2
    for (int c = first; c < last; ++c, column += S) {
        const Vector ahead = WEIGHTED ? pull_class(machine, layer, 1, c, thread) : pull_successors(column, thread);
        const Eight weight = load(weights + c * BYTES);
        float4 rest[GROUPS];
#pragma unroll
        for (int i = 0; i < N; ++i)
#pragma unroll
            for (int q = 0; q < GROUPS; ++q) {
                const float4 x = ahead.x[i][q];
                before.x[i][q] = plus_product(before.x[i][q], x, weight.x[q]);
                rest[q] = i == 0 ? times(x, alpha.x[i][q]) : plus_product(rest[q], x, alpha.x[i][q]);
            }
        store_partial(rest, c - first, thread);
    }
    synchronise();
    sum_lanes<CHUNK * QUADS>(REST + first * QUADS, (last - first) * QUADS, thread);
    synchronise();
}

// The results of a position, for the row of the thread.
__device__ void store_results(
    const float *prior, const int *classes, float factor, bool without, float gradient_scale, float *out, int r) {
#pragma unroll
    for (int v = 0; v < K; v += WIDTH) {
        Piece piece;
#pragma unroll
        for (int w = 0; w < WIDTH; ++w) {
            const int klass = SINGLE ? v + w : classes[v + w];
            const float p = prior[(v + w) * R], rest = klass < 0 ? 0.0f : number(REST, klass * R + r);
            const float result = without ? p : p * rest * factor;
            piece.values[w] = GRADIENT ? (p - result) * gradient_scale : result;
        }
        *reinterpret_cast<Piece *>(out + v) = piece;
    }
}

// y of the row of the thread.
__device__ float weighted_rest(int n_classes, int r) {
    float sum = 0.0f;
#pragma unroll 2
    for (int c = 0; c < n_classes; ++c) sum = fmaf(number(WEIGHTS, c * (4 * STRIDE) + r), number(REST, c * R + r), sum);
    return sum;
}

struct Backward {
    Vector beta;
    float4 largest[GROUPS];  // that the bound looks at
};

// The positions of a block from last to first: results, beta before the first, and the largest numbers.
__device__ void backward(
    const Scratch &scratch, const Machine &machine, const Rows &rows, Backward &state, int first, int count, bool without,
    float gradient_scale, const long long *symbol, float *out, const Thread &thread) {
    for (int j = count - 1; j >= 0; --j) {
        const int position = first + j, layer = layer_at(machine, position);
        const int n_classes = machine.sizes[layer * LAYER_SIZES + 4];
        float4 high[GROUPS];
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) {
            high[q] = all(1.0f);
#pragma unroll
            for (int i = 0; i < N; ++i) high[q] = larger(high[q], state.beta.x[i][q]);
        }
        see_label(state.beta, machine, rows, position, thread);
        put(state.beta, thread);
        load_weights(scratch, j, n_classes, thread);
        const Vector alpha = kept(scratch.alpha + j * (N * GROUPS * THREADS), thread);
#pragma unroll
        for (int i = 0; i < N * GROUPS; ++i) state.beta.x[i / GROUPS][i % GROUPS] = all(0.0f);
        synchronise();
        for (int c = 0; c < n_classes; c += CHUNK)
            pull_backward(state.beta, alpha, machine, layer, c, min(c + CHUNK, n_classes), thread);
        if (thread.index < R) {
            const int r = thread.index;
            const float factor = number(INVERSE, r) = inverse(weighted_rest(n_classes, r));
            if (rows.first + r < rows.size) {
                const long long at = ((rows.first + r) * rows.n + (ORDERED ? symbol[position] : position)) * K;
                store_results(
                    scratch.prior + j * (K * R) + r, machine.classes + layer * K, factor, without, gradient_scale, out + at,
                    r);
            }
        }
        synchronise();
        const Eight factor = scale(state.beta, thread);
#pragma unroll
        for (int q = 0; q < GROUPS; ++q)
            state.largest[q] = larger(state.largest[q], times(high[q], factor.x[q]));
    }
}

// The largest number of any state of the row of the thread.
__device__ float largest_of_row(const float4 *largest, const Thread &thread) {
    store_partial(largest, 0, thread);
    synchronise();
    float high = 0.0f;
    if (thread.index < R)
        for (int lane = 0; lane < LANES; ++lane) high = fmaxf(high, number(PARTIALS + lane * PARTIAL, thread.index));
    return high;
}

__device__ Vector start_vector(const Machine &machine, const Thread &thread) {
    Vector alpha;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const float weight = exists(thread, i) ? machine.start[thread.lane + i * LANES] : 0.0f;
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) alpha.x[i][q] = all(weight);
    }
    return alpha;
}

__device__ int label_status(const Machine &machine, const Rows &rows, int r) {
    int code = POSSIBLE;
    const int *label = rows.label + row_of(rows, r) * machine.n_entries;
    for (int entry = 0; entry < machine.n_entries; ++entry) code = label[entry] < 0 ? INVALID_LABEL : code;
    return code;
}

// Merges the statuses that the threads of a row have found.
__device__ int status_of_row(int code, const Thread &thread) {
    if (THREADS == R) return code;
    synchronise();
    number(PARTIALS, thread.index) = __int_as_float(code);
    synchronise();
    for (int other = thread.index % R; other < THREADS; other += R)
        code = max(code, __float_as_int(number(PARTIALS, other)));
    synchronise();
    return code;
}

extern "C" __global__ void __launch_bounds__(THREADS) marginals(
    const float *logits, const int *label, const int *layer, const int *sizes, const int2 *columns, const int2 *more,
    const int *first_more, const int *successor, const Extent *extents, const int *classes, const int *class_first,
    const int *class_values, const float *start, const int *entry, const float *emissions,
    const double *log_scale, float *memory_of_all, const long long *symbol, float *out, float *evidence,
    unsigned char *status, unsigned char *redo, int batch, int n, int block, int n_entries, int n_emissions,
    int per_block, float gradient_scale) {
    const int t = threadIdx.x;
    const Thread thread{t, t / ROW_LANES, t % ROW_LANES};
    const Machine machine{layer,       sizes,        columns, more,  first_more, successor, extents, classes,
                          class_first, class_values, start,   entry, emissions,  n_entries, n_emissions};
    Scratch scratch;
    scratch.prior = memory_of_all + static_cast<long long>(per_block) * blockIdx.x;
    scratch.weight = SINGLE ? scratch.prior : scratch.prior + block * (K * R);
    scratch.alpha = reinterpret_cast<float4 *>(scratch.weight + block * (C * R));
    scratch.starts = scratch.alpha + block * (N * GROUPS * THREADS);
    if (t < QUADS) memory[VECTOR + S * STRIDE + t] = all(0.0f);
    const int last = (n - 1) / block;
    for (long long first_row = static_cast<long long>(blockIdx.x) * R; first_row < batch;
         first_row += static_cast<long long>(gridDim.x) * R) {
        const Rows rows{logits, label, first_row, batch, n};
        Outcome outcome{1.0, 0, label_status(machine, rows, t % R), false};
        Backward state;
        Vector alpha = start_vector(machine, thread);
#pragma unroll
        for (int i = 0; i < N * GROUPS; ++i) state.beta.x[i / GROUPS][i % GROUPS] = all(1.0f);
#pragma unroll
        for (int q = 0; q < GROUPS; ++q) state.largest[q] = all(1.0f);
        bool without = false;
        for (int step = 0; step <= 2 * last; ++step) {
            const int index = min(step, 2 * last - step), first = index * block, count = min(n - first, block);
            outcome.code = max(outcome.code, read_block(scratch, machine, rows, first, count, thread));
            if (step <= last) keep(scratch.starts + index * (N * GROUPS * THREADS), alpha, thread);
            else alpha = kept(scratch.starts + index * (N * GROUPS * THREADS), thread);
            synchronise();
            alpha = forward(scratch, machine, rows, alpha, first, count, step <= last ? &outcome : nullptr, thread);
            if (step < last) continue;
            if (step == last) {
                outcome.code = status_of_row(outcome.code, thread);
                without = outcome.code != POSSIBLE || outcome.dead;
            }
            backward(scratch, machine, rows, state, first, count, without, gradient_scale, symbol, out, thread);
            synchronise();
        }
        const float largest = largest_of_row(state.largest, thread);
        if (t < R && first_row + t < batch) {
            const bool drowned = outcome.dead || !(largest <= LARGEST);
            const bool possible = outcome.code == POSSIBLE && !drowned;
            const double total = (log2(outcome.product) + outcome.exponent) * LN_2 + log_scale[0];
            evidence[first_row + t] = possible ? static_cast<float>(total) : -INF;
            status[first_row + t] = outcome.code == POSSIBLE && drowned ? IMPOSSIBLE : outcome.code;
            redo[first_row + t] = outcome.code == POSSIBLE && drowned;
        }
        synchronise();
    }
}
