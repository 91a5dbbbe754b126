"""Stretches of code whose Triton kernels run on the simulated GPU.

with simulated_gpu(arch=80) as gpu:
    softmax_kernel[(8,)](x, y, n, BLOCK=1024)
gpu.launches[0].counters.summary()
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from profiling.gpu_simulator.device import SimulatedGpu, activated
from profiling.gpu_simulator.errors import UnsupportedPtx
from profiling.gpu_simulator.launch import DEFAULT_OPTIONS, Options

SUPPORTED_TRITON = ((3, 6), (3, 9))


@contextlib.contextmanager
def simulated_triton(arch: int = 80, options: Options = DEFAULT_OPTIONS) -> Iterator[SimulatedGpu]:
    """Make the simulator Triton's active driver; the previous driver and compiler settings come back afterwards.

    Compiled kernels go to a cache directory of their own: their "binary" is PTX.
    """
    import triton
    from triton import knobs

    # Triton is imported when a GPU is simulated, not before.
    from profiling.gpu_simulator.triton_driver import SimulatorDriver, active_driver, ptx_as_binary

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if not SUPPORTED_TRITON[0] <= version <= SUPPORTED_TRITON[1]:
        raise UnsupportedPtx(f"Triton {triton.__version__}; the simulated driver takes 3.6 to 3.9")
    if knobs.runtime.interpret:
        raise RuntimeError("kernels of this process run in Triton's interpreter (TRITON_INTERPRET is set)")
    gpu = SimulatedGpu(arch, options)
    with knobs.runtime.scope(), knobs.cache.scope(), active_driver(SimulatorDriver(arch)):
        knobs.runtime.add_stages_inspection_hook = ptx_as_binary
        knobs.cache.dir = os.path.join(knobs.cache.dir, "simulator")
        with activated(gpu):
            yield gpu


@contextlib.contextmanager
def simulated_gpu(arch: int = 80, options: Options = DEFAULT_OPTIONS) -> Iterator[SimulatedGpu]:
    """`simulated_triton`, and every emnesy_gpu op takes its Triton kernel whatever the device of its tensors."""
    import emnesy_gpu

    with simulated_triton(arch, options) as gpu, emnesy_gpu.backend("triton"):
        yield gpu
