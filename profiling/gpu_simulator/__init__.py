"""Execute the PTX that Triton or NVRTC emitted, on the CPU, a whole grid in lockstep on numpy.

Found while running, with source line: out-of-bounds and misaligned accesses, reads of shared memory nobody wrote,
races on shared and global memory, barriers that not all threads reach, warp-wide instructions under divergence.
Counted: dynamic instructions, 32-byte sectors, coalescing, shared-memory bank conflicts, barriers.

Limits. The PTX is executed, not the machine code that ptxas makes of it. Memory is sequentially consistent: missing
fences and acquire/release orderings go unnoticed, while correct locks are reported as races. Lanes of one warp run in
lockstep and are never in a race with each other. Asynchronous copies complete at once, so a missing wait goes
unnoticed. Approximate instructions (ex2, lg2, sin, cos, div.full, rsqrt, tanh) return the exact value, rounded, and
are thus better than hardware. Atomics take turns in lane order. Tensor-memory accelerator, mbarrier, wgmma, tcgen05,
clusters, named barriers and device function calls are refused by the decoder.
"""

from profiling.gpu_simulator.device import SimulatedGpu
from profiling.gpu_simulator.errors import (
    BarrierDeadlock,
    DataRace,
    DivergentCollective,
    EndlessLoop,
    KernelTrap,
    Misaligned,
    OutOfBounds,
    SimulationError,
    UninitialisedRead,
    UnsupportedPtx,
)
from profiling.gpu_simulator.launch import LaunchRecord, Options, launch
from profiling.gpu_simulator.session import simulated_gpu, simulated_triton

__all__ = [
    "BarrierDeadlock",
    "DataRace",
    "DivergentCollective",
    "EndlessLoop",
    "KernelTrap",
    "LaunchRecord",
    "Misaligned",
    "Options",
    "OutOfBounds",
    "SimulatedGpu",
    "SimulationError",
    "UninitialisedRead",
    "UnsupportedPtx",
    "launch",
    "simulated_gpu",
    "simulated_triton",
]
