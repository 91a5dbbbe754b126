// Loops that keep one unit of a streaming multiprocessor busy; the loop itself costs it at most one instruction in 32.

// 32 independent-by-8 multiply-adds a turn.
extern "C" __global__ void fma_rate(float* out, int turns) {
    float x[8];
    for (int k = 0; k < 8; ++k) x[k] = threadIdx.x + k;
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int k = 0; k < 32; ++k) asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(x[k % 8]) : "f"(0.5f), "f"(1.0f));
    }
    float total = 0.0f;
    for (int k = 0; k < 8; ++k) total += x[k];
    if (total == -1.0f) out[0] = total;
}

// 32 powers of two a turn.
extern "C" __global__ void ex2_rate(float* out, int turns) {
    float x[8];
    for (int k = 0; k < 8; ++k) x[k] = -1.0f - threadIdx.x - k;
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int k = 0; k < 32; ++k) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[k % 8]));
    }
    float total = 0.0f;
    for (int k = 0; k < 8; ++k) total += x[k];
    if (total == -1.0f) out[0] = total;
}

// 32 funnel shifts of integers a turn, which the assembler cannot merge as it does sums and exclusive ors.
extern "C" __global__ void alu_rate(float* out, int turns) {
    int x[8];
    for (int k = 0; k < 8; ++k) x[k] = threadIdx.x + k;
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int k = 0; k < 32; ++k) asm volatile("shf.l.wrap.b32 %0, %0, %1, 7;" : "+r"(x[k % 8]) : "r"(turn));
    }
    int total = 0;
    for (int k = 0; k < 8; ++k) total += x[k];
    if (total == -1) out[0] = total;
}

// 32 reads of 16 bytes a turn, without conflicts: neighbouring threads read neighbouring bytes.
extern "C" __global__ void shared_rate(float* out, int turns) {
    __shared__ float4 words[256];
    words[threadIdx.x] = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
    __syncthreads();
    unsigned address = __cvta_generic_to_shared(&words[threadIdx.x]);
    float4 x = words[threadIdx.x];
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int k = 0; k < 32; ++k)
            asm volatile("ld.volatile.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                         : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w) : "r"(address));
    }
    if (x.x + x.y + x.z + x.w == -1.0f) out[0] = x.x;
}
