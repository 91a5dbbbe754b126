"""The same engine on CUDA C: NVRTC compiles to PTX without a driver, the simulator runs it."""

from __future__ import annotations

import numpy as np
import pytest

from profiling.gpu_simulator import (
    BarrierDeadlock,
    DataRace,
    DivergentCollective,
    OutOfBounds,
    UninitialisedRead,
    launch,
)
from profiling.gpu_simulator.nvrtc import compile_cuda, find_nvrtc

pytestmark = pytest.mark.skipif(find_nvrtc() is None, reason="needs libnvrtc: pip install nvidia-cuda-nvrtc")

SOURCE = r"""
extern "C" __global__ void block_sums(const float* x, float* y, int n) {
    __shared__ float partial[8];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    float value = i < n ? x[i] : 0.0f;
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0f;
        for (int w = 0; w < 8; ++w) total += partial[w];
        y[blockIdx.x] = total;
    }
}

extern "C" __global__ void block_scan(const float* x, float* y, int* positive, int n) {
    extern __shared__ float buffer[];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    buffer[t] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int offset = 1; offset < blockDim.x; offset <<= 1) {
        float left = t >= offset ? buffer[t - offset] : 0.0f;
        __syncthreads();
        buffer[t] += left;
        __syncthreads();
    }
    unsigned ballot = __ballot_sync(0xffffffffu, i < n && x[i] > 0.0f);
    if ((t & 31) == 0) atomicAdd(positive, __popc(ballot));
    if (i < n) y[i] = buffer[t];
}

extern "C" __global__ void grid_index(int* out, int width, int height) {
    int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column < width && row < height) out[row * width + column] = row * 1000 + column;
}

extern "C" __global__ void accurate(const float* x, const double* a, float* y, double* b, int n) {
    int i = threadIdx.x;
    if (i < n) { y[i] = expf(x[i]) + log1pf(fabsf(x[i])) + sinf(x[i]); b[i] = exp(a[i]) / log(fabs(a[i]) + 2.0); }
}
"""


def mutant(old: str, new: str) -> str:
    assert SOURCE.count(old) == 1
    return SOURCE.replace(old, new)


def draw(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def run_sums(source: str, arch: int = 80) -> np.ndarray:
    sums = np.zeros(4, np.float32)
    launch(compile_cuda(source, arch), (4,), (256,), [draw(1000), sums, 1000], name="block_sums")
    return sums


def run_scan(source: str, arch: int = 80, shared_bytes: int = 1024) -> tuple[np.ndarray, int]:
    scanned, positive = np.zeros(1000, np.float32), np.zeros(1, np.int32)
    arguments = [draw(1000), scanned, positive, 1000]
    launch(compile_cuda(source, arch), (4,), (256,), arguments, name="block_scan", dynamic_shared_bytes=shared_bytes)
    return scanned, int(positive[0])


@pytest.mark.parametrize("arch", [80, 90, 100, 120])
def test_block_sums_and_scan(arch: int) -> None:
    x = draw(1000)
    blocks = np.pad(x, (0, 24)).reshape(4, 256).astype(np.float64)
    np.testing.assert_allclose(run_sums(SOURCE, arch), blocks.sum(1), atol=1e-5)
    scanned, positive = run_scan(SOURCE, arch)
    np.testing.assert_allclose(scanned, blocks.cumsum(1).reshape(-1)[:1000], atol=2e-5)
    assert positive == (x > 0).sum()


def test_two_dimensional_blocks_of_no_whole_warps() -> None:
    out = np.zeros((7, 13), np.int32)
    launch(compile_cuda(SOURCE), (3, 3), (5, 3), [out, 13, 7], name="grid_index")
    assert (out == np.arange(7)[:, None] * 1000 + np.arange(13)).all()


def test_accurate_functions() -> None:
    x, a = draw(32) * 5, draw(32).astype(np.float64) * 5
    y, b = np.zeros_like(x), np.zeros_like(a)
    launch(compile_cuda(SOURCE), (1,), (32,), [x, a, y, b, 32], name="accurate")
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, np.exp(wide) + np.log1p(np.abs(wide)) + np.sin(wide), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(b, np.exp(a) / np.log(np.abs(a) + 2), rtol=1e-14)


def test_missing_barrier_after_the_partial_sums() -> None:
    with pytest.raises((DataRace, UninitialisedRead), match=r"kernel\.cu"):
        run_sums(mutant("partial[warp] = value;\n    __syncthreads();", "partial[warp] = value;"))


def test_missing_barrier_in_the_scan() -> None:
    with pytest.raises(DataRace, match=r"shared memory is .*kernel\.cu"):
        run_scan(mutant("        buffer[t] += left;\n        __syncthreads();", "        buffer[t] += left;"))


def test_missing_bound() -> None:
    with pytest.raises(OutOfBounds, match=r"argument 0 .*kernel\.cu"):
        run_sums(mutant("float value = i < n ? x[i] : 0.0f;", "float value = x[i];"))


def test_too_little_dynamic_shared_memory() -> None:
    with pytest.raises(OutOfBounds, match=r"shared memory at kernel\.cu"):
        run_scan(SOURCE, shared_bytes=1000)


def test_shuffle_in_a_partly_active_warp() -> None:
    with pytest.raises(DivergentCollective, match=r"kernel\.cu"):
        run_sums(mutant("for (int offset = 16; offset > 0", "if (i < n) for (int offset = 16; offset > 0"))


def test_barrier_in_a_branch() -> None:
    old = "buffer[t] = i < n ? x[i] : 0.0f;\n    __syncthreads();"
    with pytest.raises(BarrierDeadlock, match=r"different barriers.*kernel\.cu"):
        run_scan(mutant(old, old.replace("__syncthreads", "if (t < 128) __syncthreads")))


def test_non_atomic_count() -> None:
    with pytest.raises(DataRace, match="argument 2"):
        run_scan(mutant("atomicAdd(positive, __popc(ballot))", "*positive += __popc(ballot)"))


def test_compile_errors_show_the_log() -> None:
    with pytest.raises(RuntimeError, match=r"kernel\.cu.*undefined"):
        compile_cuda('extern "C" __global__ void broken() { undefined_name = 1; }')
