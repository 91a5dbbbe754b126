"""Peak rates of the GPUs that roofline.py models, with the documents they come from.

Rates per SM and clock cycle are those of the CUDA C++ Programming Guide ("Throughput of native arithmetic
instructions" and the sections on each compute capability); memory bandwidth, SM counts and boost clocks are those of
NVIDIA's data sheets. They are limits that no program reaches; nothing here was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
SECTOR_BYTES = 32
ISSUE_SLOTS = 4  # warp instructions per SM and cycle: one for each of the four schedulers
L1_BYTES = 128  # per SM and cycle, L1 hits and shared memory together
SPECIAL_LANES = 16  # ex2, lg2, rcp, rsqrt, sqrt per SM and cycle
ALU_LANES = 64  # compare, select, min, max, integer and bitwise operations per SM and cycle
GUIDE = "CUDA C++ Programming Guide, arithmetic throughput"


@dataclass(frozen=True)
class Gpu:
    """One GPU: ``bandwidth`` in bytes per second, ``clock`` in Hz at boost, lanes per SM and cycle."""

    name: str
    arch: int
    n_sm: int
    clock: float
    bandwidth: float
    fp32_lanes: int
    fp64_lanes: int
    source: str

    @property
    def cycles(self) -> float:
        """SM cycles per second over the whole GPU."""
        return self.n_sm * self.clock


A100_SOURCE = "NVIDIA A100 80GB SXM data sheet; NVIDIA A100 architecture white paper"
H100_SOURCE = "NVIDIA H100 SXM data sheet (3.35 TB/s; 67 TFLOPS FP32 = 132 SMs at 1.98 GHz)"
H200_SOURCE = "NVIDIA H200 SXM data sheet (4.8 TB/s, 67 TFLOPS FP32, the SMs and clocks of the H100)"
B200_SOURCE = "NVIDIA DGX B200 data sheet (64 TB/s for 8 GPUs); SMs and clock from published tables (75 TFLOPS FP32)"
RTX_SOURCE = "NVIDIA RTX Blackwell architecture white paper (GeForce RTX 5090)"

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 80, 108, 1.410e9, 2.039e12, fp32_lanes=64, fp64_lanes=32, source=A100_SOURCE),
        Gpu("H100", 90, 132, 1.980e9, 3.350e12, fp32_lanes=128, fp64_lanes=64, source=H100_SOURCE),
        Gpu("H200", 90, 132, 1.980e9, 4.800e12, fp32_lanes=128, fp64_lanes=64, source=H200_SOURCE),
        Gpu("B200", 100, 148, 1.980e9, 8.000e12, fp32_lanes=128, fp64_lanes=64, source=B200_SOURCE),
        Gpu("RTX 5090", 120, 170, 2.407e9, 1.792e12, fp32_lanes=128, fp64_lanes=2, source=RTX_SOURCE),
    )
}
