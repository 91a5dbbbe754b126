"""The threads of a batch of CTAs: one numpy lane per thread, registers as arrays over all lanes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .counters import Counters
from .memory import BankedMemory, GlobalMemory
from .ptx_types import SIGNED, storage_dtype

if TYPE_CHECKING:
    from .decoder import Program

WARP = 32


class ActiveSet:
    """The lanes that take part in an instruction; `mask` is None when all of them do."""

    def __init__(self, n_lanes: int, mask: np.ndarray | None = None) -> None:
        self.n_lanes = n_lanes
        self.mask = None if mask is None or mask.all() else mask

    @cached_property
    def count(self) -> int:
        return self.n_lanes if self.mask is None else int(np.count_nonzero(self.mask))

    @cached_property
    def n_warps(self) -> int:
        return self.n_lanes // WARP if self.mask is None else int(self.by_warp().any(axis=1).sum())

    @cached_property
    def indices(self) -> np.ndarray:
        return np.arange(self.n_lanes) if self.mask is None else np.nonzero(self.mask)[0]

    def as_mask(self) -> np.ndarray:
        return np.ones(self.n_lanes, bool) if self.mask is None else self.mask

    def by_warp(self) -> np.ndarray:
        return self.as_mask().reshape(-1, WARP)

    def pick(self, values: np.ndarray) -> np.ndarray:
        """The values of the active lanes, in lane order."""
        if values.shape != (self.n_lanes,):
            return np.broadcast_to(values, (self.count,))
        return values if self.mask is None else values[self.mask]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `pick`: values back in their lanes, zero elsewhere."""
        if self.mask is None:
            return values
        lanes = np.zeros(self.n_lanes, values.dtype)
        lanes[self.mask] = values
        return lanes

    def where(self, condition: np.ndarray) -> ActiveSet:
        if self.mask is None:
            return ActiveSet(self.n_lanes, np.broadcast_to(condition, (self.n_lanes,)))
        return ActiveSet(self.n_lanes, self.mask & condition)

    def without(self, other: ActiveSet) -> ActiveSet:
        return ActiveSet(self.n_lanes, self.as_mask() & ~other.as_mask())

    def union(self, other: ActiveSet) -> ActiveSet:
        if self.mask is None or other.mask is None:
            return self if self.mask is None else other
        return ActiveSet(self.n_lanes, self.mask | other.mask)


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
        self.warp = self.cta * np.int32(self.threads_per_cta // WARP) + (self.thread // np.uint32(WARP)).astype(np.int32)
        self.epoch = np.zeros(self.count, np.int32)
        self.existing = ActiveSet(self.count, self.thread < self.n_threads)
        self.registers = [np.zeros(1, storage_dtype(ptx_type)) for ptx_type in program.register_types]
        self.carry = np.zeros(1, np.uint64)
        self.global_memory = launch.global_memory
        self.shared = BankedMemory("shared", self.n_ctas, launch.shared_bytes)
        self.local = BankedMemory("local", self.count, program.local_bytes)

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
