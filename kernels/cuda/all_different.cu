// Computes loopy belief propagation with all-different factors; contract in emnesy_gpu/reference/all_different.py.
//
// One block computes one row of the batch, from logits to results, with everything it remembers in shared memory; one
// warp computes one group at a time, with a subset of the values in every lane. VALUES (the number of values K),
// MAXIMISE, LARGEST_LOGIT and the row status codes are macros. Messages are probabilities times K, those of sweep t at
// t % 2, so that a phase reads old ones.
// Rows in which float32 loses digits are marked in `redo`: another launch repeats them with logarithms.

constexpr int K = VALUES;
constexpr int SUBSETS = 1 << K;
constexpr int PADDED = 33;  // partial sums of 32 lanes, no two of a column in one bank
constexpr int ROWS_AND_SUMS = (K * K + K * PADDED + 3) / 4 * 4;
constexpr float FLOOR = 1e-12f, CEILING = 1e35f;
constexpr double NEGLIGIBLE = -17.0;
constexpr double LN_2 = 0.6931471805599453;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr unsigned ALL_LANES = 0xffffffffu;
#define INF __int_as_float(0x7f800000)

// The loop over subset sizes is unrolled where the code stays small enough for the instruction cache.
#define LEVELS _Pragma("unroll VALUES <= 9 ? VALUES : 1")

// Where bit v of a subset counts in its place, a byte offset in a table. Places are exclusive ors of these, so that the
// lanes of a warp are in different banks for every subset with one value more or less if they are for the subsets.
__device__ constexpr int place_of_bit(int v) {
    constexpr int spread[] = {0, 0, 0, 0, 0, 0, 3, 12, 30, 23, 22, 15};
    return 4 * ((1 << v) ^ spread[v]);
}

extern __shared__ float4 memory[];

// F of the subset at a place, or G, whose places are BACKWARD higher. Every warp has both tables, zero where not known
// yet; so the sum over v in S of what is at S - v may run over all v: for the others S + v is looked up.
__device__ float &table(int place) { return *reinterpret_cast<float *>(reinterpret_cast<char *>(memory) + place); }

constexpr int BACKWARD = 4 * SUBSETS;

struct Graph {
    const int *groups, *incident, *degree, *phase_end, *bounding;
    int n_variables, n_groups, width;
};

struct Workspace {
    float *prior;           // [N, K]
    float *messages;        // [2, G, W, K]
    float *terms;           // [G]: log2 of a factor of the bound or of the evidence
    float *changes;         // [warps]: infinite once digits are lost
    unsigned short *subsets;  // [2^K], by size: the places of the subsets in the tables
};

struct Warp {
    int lane, index, count;
    int tables;       // place of the empty set
    float *incoming;  // [K, K]: n
    float *partial;   // [K, PADDED]
};

__device__ float plus_product(float sum, float x, float y) { return MAXIMISE ? fmaxf(sum, x * y) : fmaf(x, y, sum); }

__device__ float plus(float x, float y) { return MAXIMISE ? fmaxf(x, y) : x + y; }

// The largest x of a warp, for x >= 0: the bits of such numbers are in the same order.
__device__ float warp_max(float x) { return __uint_as_float(__reduce_max_sync(ALL_LANES, __float_as_uint(x))); }

__device__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

// The largest x of the block, for x >= 0; what was written before is visible to all threads.
__device__ float block_max(const Workspace &workspace, const Warp &warp, float x) {
    x = warp_max(x);
    if (warp.lane == 0) workspace.changes[warp.index] = x;
    __syncthreads();
    for (int i = 0; i < warp.count; ++i) x = fmaxf(x, workspace.changes[i]);
    __syncthreads();
    return x;
}

// Finite logits beyond +-LARGEST_LOGIT as that; infinities and NaN as they are.
__device__ float bounded(float x) { return fabsf(x) < INF ? fminf(fmaxf(x, -LARGEST_LOGIT), LARGEST_LOGIT) : x; }

__device__ float reciprocal(float x) { return x > 0.0f ? __fdividef(1.0f, x) : 0.0f; }

// The sum of the row of `incoming` that belongs to the lane.
__device__ float row_sum(const Warp &warp) {
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < K; ++v) sum += warp.incoming[warp.lane * K + v];
    return sum;
}

// n of one group, rows summing to 1; messages of the groups before `updated` are one sweep ahead. Members that the
// group lacks get rows that are constant over the values left to them. Returns false where digits are lost.
__device__ bool cavity(
    const Graph &graph, const Workspace &workspace, const Warp &warp, int group, int sweep, int updated) {
    const int messages = graph.n_groups * graph.width;
    __syncwarp();
    for (int entry = warp.lane; entry < K * K; entry += 32) {
        const int slot = entry / K, value = entry % K, own = group * graph.width + slot;
        const int variable = slot < graph.width ? graph.groups[own] : -1;
        float product = 1.0f;
        if (variable >= 0) {
            product = workspace.prior[variable * K + value];
            for (int i = 0; i < graph.degree[variable]; ++i) {
                const int edge = graph.incident[variable * graph.n_groups + i];
                const int turn = (sweep + (edge < updated * graph.width)) & 1;
                if (edge != own) product *= workspace.messages[(turn * messages + edge) * K + value];
            }
        }
        warp.incoming[entry] = product;
    }
    __syncwarp();
    bool kept = true;
    if (warp.lane < K) {
        float *row = warp.incoming + warp.lane * K;
        const bool real = warp.lane < graph.width && graph.groups[group * graph.width + warp.lane] >= 0;
        const float sum = row_sum(warp);
        kept = !real || (sum >= FLOOR && sum <= CEILING);
        const float scale = real ? reciprocal(sum) : reciprocal(K - warp.lane);
#pragma unroll
        for (int v = 0; v < K; ++v) row[v] *= scale;
    }
    return __all_sync(ALL_LANES, kept);
}

__device__ void clear_tables(const unsigned short *subsets, const Warp &warp) {
    float4 *tables = memory + warp.tables / 16;
    for (int i = warp.lane; i < SUBSETS / 2; i += 32) tables[i] = float4{0.0f, 0.0f, 0.0f, 0.0f};
    __syncwarp();
    if (warp.lane == 0) table(warp.tables + subsets[0]) = table(warp.tables + BACKWARD + subsets[SUBSETS - 1]) = 1.0f;
    __syncwarp();
}

// Fills F, every level divided by the largest weight of the one before. Adds to log2 of the permanent; returns false
// where digits are lost: the permanent is below FLOOR relative to the largest F of a level (the rest adds a factor <= 1).
__device__ bool forward_pass(const Workspace &workspace, const Warp &warp, float &log_permanent) {
    float scale = 1.0f, smallest = 1.0f;
    int first = 1, size = K;
    LEVELS for (int level = 1; level <= K; ++level) {
        float row[K], high = 0.0f;
#pragma unroll
        for (int v = 0; v < K; ++v) row[v] = warp.incoming[(level - 1) * K + v];
        const float inverse = reciprocal(scale);
#pragma unroll
        for (int start = 0; start < size; start += 32) {
            if (start + warp.lane < size) {
                const int place = warp.tables + workspace.subsets[first + start + warp.lane];
                float weight = 0.0f;
#pragma unroll
                for (int v = 0; v < K; ++v) weight = plus_product(weight, table(place ^ place_of_bit(v)), row[v]);
                weight *= inverse;
                table(place) = weight;
                high = fmaxf(high, weight);
            }
        }
        scale = warp_max(high);
        smallest = fminf(smallest, 1.0f) * scale;
        log_permanent += __log2f(scale);
        first += size;
        size = size * (K - level) / (level + 1);
        __syncwarp();
    }
    return smallest >= FLOOR;
}

// Sums over the first lanes: value v of this member into its row of `incoming`, which no lane needs any more.
__device__ void store_minors(const Warp &warp, const float *minors, int member, int n_lanes) {
#pragma unroll
    for (int v = 0; v < K; ++v) warp.partial[v * PADDED + warp.lane] = minors[v];
    __syncwarp();
    constexpr int PARTS = 32 / K, LENGTH = (32 + PARTS - 1) / PARTS;
    const int value = warp.lane % K, part = warp.lane / K;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < LENGTH; ++i) {
        const int column = part * LENGTH + i;
        const bool inside = (PARTS - 1) * LENGTH + i < n_lanes || column < n_lanes;  // the first is mostly a constant
        if (part < PARTS && inside) sum = plus(sum, warp.partial[value * PADDED + column]);
    }
    float whole = sum;
#pragma unroll
    for (int p = 1; p < PARTS; ++p) whole = plus(whole, __shfl_down_sync(ALL_LANES, sum, p * K));
    if (warp.lane < K) warp.incoming[member * K + value] = whole;
    __syncwarp();
}

// The new messages to all members, in proportion to the rows of `incoming`. Returns the largest change in any lane.
__device__ float store_messages(
    const Graph &graph, const Workspace &workspace, const Warp &warp, int group, int sweep, float damping) {
    if (warp.lane < K) warp.partial[warp.lane] = reciprocal(row_sum(warp));
    __syncwarp();
    const int messages = graph.n_groups * graph.width;
    float change = 0.0f;
    for (int entry = warp.lane; entry < K * K; entry += 32) {
        const int member = entry / K, slot = group * graph.width + member;
        if (member >= graph.width || graph.groups[slot] < 0) continue;
        const int message = slot * K + entry % K;
        const float old = workspace.messages[(sweep & 1) * messages * K + message];
        const float computed = warp.incoming[entry] * warp.partial[member] * K;
        const float renewed = (1.0f - damping) * computed + damping * old;
        workspace.messages[(1 - (sweep & 1)) * messages * K + message] = renewed;
        change = fmaxf(change, fabsf(renewed - old));
    }
    return change * (1.0f / K);
}

// Fills G and stores the messages to all members. Returns the largest change in any lane.
__device__ float backward_pass(
    const Graph &graph, const Workspace &workspace, const Warp &warp, int group, int sweep, float damping) {
    float scale = 1.0f;
    int first = SUBSETS - 1, size = 1;
    LEVELS for (int level = K - 1; level >= 0; --level) {
        size = size * (level + 1) / (K - level);
        first -= size;
        float row[K], minors[K], high = 0.0f;
#pragma unroll
        for (int v = 0; v < K; ++v) {
            row[v] = warp.incoming[level * K + v];
            minors[v] = 0.0f;
        }
        const float inverse = reciprocal(scale);
#pragma unroll
        for (int start = 0; start < size; start += 32) {
            if (start + warp.lane < size) {
                const int place = warp.tables + BACKWARD + workspace.subsets[first + start + warp.lane];
                const float before = table(place - BACKWARD);
                float weight = 0.0f;
#pragma unroll
                for (int v = 0; v < K; ++v) {
                    const float larger = table(place ^ place_of_bit(v));
                    weight = plus_product(weight, larger, row[v]);
                    minors[v] = plus_product(minors[v], larger, before);
                }
                weight *= inverse;
                table(place) = weight;
                high = fmaxf(high, weight);
            }
        }
        scale = warp_max(high);
        store_minors(warp, minors, level, min(size, 32));
    }
    return store_messages(graph, workspace, warp, group, sweep, damping);
}

// Stores the priors of the row. Returns INVALID_LOGITS in a thread that met logits that are no prior, else POSSIBLE.
__device__ float store_prior(const Graph &graph, const Workspace &workspace, const float *logits) {
    float code = POSSIBLE;
    for (int i = threadIdx.x; i < graph.n_variables; i += blockDim.x) {
        float row[K], high = -INF, sum = 0.0f;
#pragma unroll
        for (int v = 0; v < K; ++v) high = fmaxf(high, row[v] = bounded(logits[i * K + v]));
#pragma unroll
        for (int v = 0; v < K; ++v) sum += row[v] = exp2f((row[v] - high) * LOG2_E);
        if (!(sum >= 1.0f)) code = INVALID_LOGITS;
#pragma unroll
        for (int v = 0; v < K; ++v) workspace.prior[i * K + v] = row[v] / sum;
    }
    return code;
}

// All phases once. Returns the largest change, infinite where digits are lost; sets `certain` where the groups of the
// first phase show p(valid) to be negligible and the label is 0.
__device__ float run_sweep(
    const Graph &graph, const Workspace &workspace, const Warp &warp, int sweep, float damping, bool ignored,
    bool &certain) {
    float change = 0.0f;
    for (int updated = 0; updated < graph.n_groups && change < INF && !certain;) {
        const int end = graph.phase_end[updated];
        float largest = 0.0f;
        for (int group = updated + warp.index; group < end; group += warp.count) {
            float log_permanent = 0.0f;
            bool kept = cavity(graph, workspace, warp, group, sweep, updated);
            clear_tables(workspace.subsets, warp);
            kept &= forward_pass(workspace, warp, log_permanent);
            largest = fmaxf(largest, backward_pass(graph, workspace, warp, group, sweep, damping));
            if (!kept) largest = INF;
            if (warp.lane == 0) workspace.terms[group] = log_permanent;
        }
        change = fmaxf(change, block_max(workspace, warp, largest));
        if (ignored && sweep == 0 && updated == 0 && change < INF) {
            double bound = 0.0;
            for (int g = 0; g < end; ++g) bound += graph.bounding[g] ? workspace.terms[g] : 0.0f;
            certain = bound * LN_2 < NEGLIGIBLE;
        }
        updated = end;
    }
    return change;
}

// log2 of the Bethe terms of the groups and their pairs with members, into `terms`; infinite where digits are lost.
__device__ void factor_evidence(const Graph &graph, const Workspace &workspace, const Warp &warp, int sweep) {
    for (int group = warp.index; group < graph.n_groups; group += warp.count) {
        float term = 0.0f, pair = 1.0f;
        bool kept = cavity(graph, workspace, warp, group, sweep, 0);
        clear_tables(workspace.subsets, warp);
        if (warp.lane < K && warp.lane < graph.width && graph.groups[group * graph.width + warp.lane] >= 0) {
            const int slot = (sweep & 1) * graph.n_groups * graph.width + group * graph.width + warp.lane;
            pair = 0.0f;
            for (int v = 0; v < K; ++v) pair += warp.incoming[warp.lane * K + v] * workspace.messages[slot * K + v];
        }
        kept &= __all_sync(ALL_LANES, pair >= FLOOR);
        kept &= forward_pass(workspace, warp, term);
        term -= warp_sum(__log2f(pair));
        if (warp.lane == 0) workspace.terms[group] = kept ? term : -INF;
    }
}

// Beliefs, or priors where `sweep` is negative. Returns log2 of their sums, added up over the variables of the thread.
__device__ double store_beliefs(const Graph &graph, const Workspace &workspace, float *out, int sweep) {
    double evidence = 0.0;
    for (int i = threadIdx.x; i < graph.n_variables; i += blockDim.x) {
        float belief[K], sum = 0.0f;
        for (int v = 0; v < K; ++v) belief[v] = workspace.prior[i * K + v];
        for (int d = 0; sweep >= 0 && d < graph.degree[i]; ++d) {
            const int slot = (sweep & 1) * graph.n_groups * graph.width + graph.incident[i * graph.n_groups + d];
            for (int v = 0; v < K; ++v) belief[v] *= workspace.messages[slot * K + v];
        }
        for (int v = 0; v < K; ++v) sum += belief[v];
        evidence += sum >= FLOOR && sum <= CEILING ? __log2f(sum) : -INF;
        for (int v = 0; v < K; ++v) out[i * K + v] = belief[v] / sum;
    }
    return evidence;
}

// The sum of x over the block, in thread 0.
__device__ double block_sum(const Warp &warp, double x, double *buffer) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    __syncthreads();
    if (warp.lane == 0) buffer[warp.index] = x;
    __syncthreads();
    double sum = 0.0;
    for (int i = 0; threadIdx.x == 0 && i < warp.count; ++i) sum += buffer[i];
    return sum;
}

extern "C" __global__ void belief_propagation(
    const float *logits, const long long *label, const int *groups, const int *incident, const int *degree,
    const int *phase_end, const int *bounding, const int *subsets, float *out, float *evidence, unsigned char *status,
    int *sweeps, float *change, unsigned char *redo, int n_variables, int n_groups, int width, int iterations,
    float damping, float tolerance) {
    const long long row = blockIdx.x;
    const Graph graph{groups, incident, degree, phase_end, bounding, n_variables, n_groups, width};
    const int lane = threadIdx.x % 32, index = threadIdx.x / 32, count = blockDim.x / 32;
    float *shared = reinterpret_cast<float *>(memory) + 2 * SUBSETS * count, *own = shared + index * ROWS_AND_SUMS;
    const Warp warp{lane, index, count, 8 * SUBSETS * index, own, own + K * K};
    Workspace workspace;
    workspace.prior = shared + count * ROWS_AND_SUMS;
    workspace.messages = workspace.prior + n_variables * K;
    workspace.terms = workspace.messages + 2 * n_groups * width * K;
    workspace.changes = workspace.terms + n_groups;
    workspace.subsets = reinterpret_cast<unsigned short *>(workspace.changes + count);
    for (int i = threadIdx.x; i < SUBSETS; i += blockDim.x) workspace.subsets[i] = subsets[i];
    for (int i = threadIdx.x; i < n_groups * width * K; i += blockDim.x) workspace.messages[i] = 1.0f;

    const float invalid_logits = store_prior(graph, workspace, logits + row * n_variables * K);
    const float code = block_max(workspace, warp, label[row] == 0 || label[row] == 1 ? invalid_logits : INVALID_LABEL);
    float largest = 0.0f;
    bool certain = false;
    int sweep = 0;
    while (code == POSSIBLE && sweep < iterations && (sweep == 0 || largest >= tolerance) && largest < INF && !certain)
        largest = run_sweep(graph, workspace, warp, sweep++, damping, label[row] == 0 && !MAXIMISE, certain);
    bool possible = code == POSSIBLE && largest < INF && !certain;
    if (possible) factor_evidence(graph, workspace, warp, sweep);
    double total = store_beliefs(graph, workspace, out + row * n_variables * K, possible ? sweep : -1);
    __syncthreads();
    for (int g = threadIdx.x; possible && g < n_groups; g += blockDim.x) total += workspace.terms[g];
    total = block_sum(warp, total, reinterpret_cast<double *>(memory));
    const bool failed = code == POSSIBLE && !certain && !(possible && total > -INF);
    if (threadIdx.x > 0) return;
    const bool good = code == POSSIBLE && !failed && !certain;
    evidence[row] = !good ? -INF : MAXIMISE ? 0.0f : static_cast<float>(total * LN_2);
    status[row] = failed ? IMPOSSIBLE : static_cast<unsigned char>(code);
    sweeps[row] = good ? sweep : 0;
    change[row] = good ? largest : 0.0f;
    redo[row] = failed;
}
