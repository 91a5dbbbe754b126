"""The simulator runs what Triton compiles: values of a zoo of kernels against references, no check complains."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from profiling.gpu_simulator import UnsupportedPtx, simulated_triton
from profiling.gpu_simulator.zoo import ZOO, matmul_example


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("arch", [80, 90])
def test_values(name: str, arch: int) -> None:
    example = ZOO[name]()
    with simulated_triton(arch) as gpu:
        example.launch()
    example.check()
    assert len(gpu.launches) == 1
    assert gpu.launches[0].counters.thread_instructions > 0


@pytest.mark.parametrize(("arch", "opcode"), [(90, "wgmma"), (100, "tcgen05")])
def test_new_tensor_cores_are_refused_by_name(arch: int, opcode: str) -> None:
    example = matmul_example(64, torch.float16, 1e-4, size=64)
    with simulated_triton(arch), pytest.raises(UnsupportedPtx, match=f"opcode {opcode}"):
        example.launch()


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("arch", [80, 90, 100, 120])
@pytest.mark.parametrize("num_warps", [1, 2, 8])
def test_values_over_warps(name: str, arch: int, num_warps: int) -> None:
    example = ZOO[name]()
    with simulated_triton(arch):
        example.launch(num_warps=num_warps)
    example.check()
