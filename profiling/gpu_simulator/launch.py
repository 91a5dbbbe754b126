"""Launch a kernel of a PTX module on the simulated device.

    record = launch(ptx, grid=(4,), block=(128,), arguments=[array, 1000])

numpy arrays are buffers, copied to guarded device memory and back; scalars are packed by the size of their parameter.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from profiling.gpu_simulator.counters import Counters
from profiling.gpu_simulator.decoder import Program, load_program
from profiling.gpu_simulator.errors import DataRace, UnsupportedPtx
from profiling.gpu_simulator.executor import Executor
from profiling.gpu_simulator.lanes import Lanes, LaunchState
from profiling.gpu_simulator.memory import GlobalMemory
from profiling.gpu_simulator.ptx_parser import Variable
from profiling.gpu_simulator.ptx_types import BITS

_LANES_PER_BATCH = 1 << 14
Scalar = int | float | bytes


@dataclass(frozen=True)
class Options:
    """checks: races and uninitialised shared memory (bounds and alignment are always checked); counters: traffic."""

    checks: bool = True
    counters: bool = True
    max_steps: int = 5_000_000
    lanes_per_batch: int = _LANES_PER_BATCH


DEFAULT_OPTIONS = Options()


@dataclass
class LaunchRecord:
    """What one launch did."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    counters: Counters
    races: list[str] = field(default_factory=list)

    def require_no_races(self) -> None:
        if self.races:
            raise DataRace(f"{self.name}: {len(self.races)} races\n" + "\n".join(self.races))


def launch(
    ptx: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[np.ndarray | Scalar],
    *,
    name: str | None = None,
    dynamic_shared_bytes: int = 0,
    options: Options = DEFAULT_OPTIONS,
) -> LaunchRecord:
    """Run one kernel on numpy buffers, which are updated in place."""
    memory = GlobalMemory()
    addresses: list[Scalar] = []
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.ndarray):
            addresses.append(memory.allocate(f"argument {i}", argument.reshape(-1).view(np.uint8)))
        else:
            addresses.append(argument)
    record = run_program(load_program(ptx, name), grid, block, addresses, memory, dynamic_shared_bytes, options)
    record.require_no_races()
    for argument, address in zip(arguments, addresses, strict=True):
        if isinstance(argument, np.ndarray) and isinstance(address, int):
            argument.reshape(-1).view(np.uint8)[:] = memory.data(address, argument.nbytes)
    return record


def run_program(
    program: Program,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Scalar],
    memory: GlobalMemory,
    dynamic_shared_bytes: int,
    options: Options,
    ctas: range | None = None,
) -> LaunchRecord:
    """Run a decoded kernel whose pointer arguments are addresses in `memory`; races are left in the record.

    `ctas`: the blocks to run, by linear index; all of the grid unless given.
    """
    counters = Counters()
    state = LaunchState(
        program=program,
        grid=_three(grid),
        block=_three(block),
        parameters=_pack_parameters(program, arguments),
        global_memory=memory,
        symbols=_allocate_variables(program, memory),
        shared_bytes=program.static_shared_bytes + dynamic_shared_bytes,
        dynamic_shared_bytes=dynamic_shared_bytes,
        counters=counters if options.counters else None,
        checks=options.checks,
    )
    n_threads = int(np.prod(state.block))
    every = range(int(np.prod(state.grid))) if ctas is None else ctas
    batch = 1 if program.has_spin_lock else max(1, options.lanes_per_batch // n_threads)
    for first in range(0, len(every), batch):
        Executor(Lanes(state, np.array(every[first : first + batch])), options.max_steps).run()
    return LaunchRecord(program.kernel.name, state.grid, state.block, state.shared_bytes, counters, state.races)


def _three(extent: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*extent, 1, 1)[:3]
    return int(x), int(y), int(z)


def _pack_parameters(program: Program, arguments: Sequence[Scalar]) -> dict[str, np.ndarray]:
    """Raw bytes per parameter; parameters beyond the arguments (scratch pointers of Triton) are null."""
    sizes = program.kernel.parameters
    if len(arguments) > len(sizes):
        raise UnsupportedPtx(f"{len(arguments)} arguments for {len(sizes)} parameters of {program.kernel.name}")
    padded = [*arguments, *[0] * (len(sizes) - len(arguments))]
    packed = {name: _pack(value, size) for (name, size), value in zip(sizes.items(), padded, strict=True)}
    return {name: np.frombuffer(raw, np.uint8) for name, raw in packed.items()}


def _pack(value: Scalar, size: int) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return struct.pack("<f" if size == 4 else "<d", value)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _allocate_variables(program: Program, memory: GlobalMemory) -> dict[str, int]:
    variables = [v for v in program.kernel.variables.values() if v.space in ("global", "const")]
    return {variable.name: memory.allocate(variable.name, _initial_bytes(variable)) for variable in variables}


def _initial_bytes(variable: Variable) -> np.ndarray:
    width = BITS[variable.type] // 8
    values = [*variable.values, *[0] * (variable.n_elements - len(variable.values))]
    raw = b"".join((value & ((1 << 8 * width) - 1)).to_bytes(width, "little") for value in values)
    return np.frombuffer(raw, np.uint8)
