"""The threads of a batch of CTAs: one numpy lane per thread, registers as arrays over all lanes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from profiling.gpu_simulator.active import WARP, ActiveSet
from profiling.gpu_simulator.counters import Counters
from profiling.gpu_simulator.memory import BankedMemory, GlobalMemory
from profiling.gpu_simulator.monitor import MemoryMonitor
from profiling.gpu_simulator.ptx_types import SIGNED, storage_dtype

if TYPE_CHECKING:
    from profiling.gpu_simulator.decoder import Program


@dataclass
class LaunchState:
    """What all batches of a launch share."""

    program: Program
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: dict[str, np.ndarray]
    global_memory: GlobalMemory
    symbols: dict[str, int]
    shared_bytes: int
    dynamic_shared_bytes: int
    counters: Counters | None
    checks: bool
    races: list[str] = field(default_factory=list)


class Lanes:
    """Registers, memories and identities of the threads of the CTAs `ctas`, padded to whole warps."""

    def __init__(self, launch: LaunchState, ctas: np.ndarray) -> None:
        program, block = launch.program, launch.block
        self.launch = launch
        self.n_threads = block[0] * block[1] * block[2]
        self.threads_per_cta = -(-self.n_threads // WARP) * WARP
        self.n_ctas = len(ctas)
        self.count = self.n_ctas * self.threads_per_cta
        index = np.arange(self.count)
        self.cta_slot = index // self.threads_per_cta
        self.cta = ctas[self.cta_slot].astype(np.int32)
        self.thread = (index % self.threads_per_cta).astype(np.uint32)
        self.lane = index % WARP
        self.warp_start = index - self.lane
        warps_per_cta = np.int32(self.threads_per_cta // WARP)
        self.warp = self.cta * warps_per_cta + (self.thread // np.uint32(WARP)).astype(np.int32)
        self.epoch = np.zeros(self.count, np.int32)
        self.existing = ActiveSet(self.count, self.thread < self.n_threads)
        self.registers: list[np.ndarray] = [np.zeros(1, storage_dtype(ptx_type)) for ptx_type in program.register_types]
        self.carry = np.zeros(1, np.uint64)
        self.shared = BankedMemory("shared", self.n_ctas, launch.shared_bytes)
        self.local = BankedMemory("local", self.count, program.local_bytes)
        self.monitor = MemoryMonitor(self)

    def write(self, register: int, value: np.ndarray, active: ActiveSet) -> None:
        """Set a register; narrower values are zero- or sign-extended as their type says."""
        old = self.registers[register]
        if value.dtype != old.dtype:
            if value.dtype.itemsize == old.dtype.itemsize and value.dtype.kind != "b":
                value = value.view(old.dtype)
            elif value.dtype.kind == "i":
                value = value.astype(SIGNED[old.dtype.itemsize * 8]).view(old.dtype)
            else:
                value = value.astype(old.dtype)
        self.registers[register] = value if active.mask is None else np.where(active.mask, value, old)

    def full(self, values: np.ndarray) -> np.ndarray:
        """One value per lane."""
        return np.broadcast_to(values, (self.count,))

    def pass_barrier(self, released: np.ndarray, n_ctas: int) -> None:
        self.epoch = self.epoch + released
        if self.launch.counters:
            self.launch.counters.barriers += n_ctas

    def name_of(self, lane: int) -> str:
        return f"CTA {int(self.cta[lane])} thread {int(self.thread[lane])}"
