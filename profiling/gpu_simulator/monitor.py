"""Checks and counts of the memory accesses of one batch: bounds, alignment, initialisation, races, traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from profiling.gpu_simulator.active import WARP, ActiveSet
from profiling.gpu_simulator.errors import DataRace, UninitialisedRead
from profiling.gpu_simulator.memory import Fault, Region
from profiling.gpu_simulator.ptx_parser import Instruction
from profiling.gpu_simulator.races import Accessor, AccessRecords

if TYPE_CHECKING:
    from profiling.gpu_simulator.lanes import Lanes

_MAX_RACES = 20


@dataclass(frozen=True)
class Access:
    """One instruction's accesses within bounds: flat byte offsets of the active lanes into a state space."""

    instruction: Instruction
    active: ActiveSet
    space: str
    flat: np.ndarray
    regions: list[tuple[Region, np.ndarray | None]]
    n_bytes: int
    element_bytes: int


class MemoryMonitor:
    """Addresses in, accesses out; what the kernel does wrong on the way is raised or, for races, collected."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._launch = lanes.launch
        self._shared_records = AccessRecords(lanes.shared.bytes.size)

    def locate(
        self,
        instruction: Instruction,
        active: ActiveSet,
        space: str,
        addresses: np.ndarray,
        n_bytes: int,
        element_bytes: int,
    ) -> Access:
        """Check bounds and alignment of the active lanes' addresses."""
        regions: list[tuple[Region, np.ndarray | None]] = []
        try:
            if space == "global":
                flat, regions = self._launch.global_memory.locate(addresses, n_bytes)
            elif space == "shared":
                flat = self._lanes.shared.locate(addresses, active.pick(self._lanes.cta_slot), n_bytes)
            else:
                flat = self._lanes.local.locate(addresses, active.indices, n_bytes)
        except Fault as fault:
            raise self._located(fault, active, instruction, space) from None
        return Access(instruction, active, space, flat, regions, n_bytes, element_bytes)

    def elements(self, access: Access, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """The memory as an array of `dtype`, and the index of each lane's first element."""
        memory = {
            "global": self._launch.global_memory.bytes,
            "shared": self._lanes.shared.bytes,
            "local": self._lanes.local.bytes,
        }[access.space]
        return memory.view(dtype), access.flat // np.dtype(dtype).itemsize

    def read(self, access: Access) -> None:
        self._count(access, writing=False)
        if not self._launch.checks:
            return
        sizes = access.n_bytes, access.element_bytes
        if access.space == "shared":
            self._require_written(access)
            racing = self._shared_records.read(access.flat, *sizes, self._accessor(access.active))
            self._report(access, racing, "shared memory is read after another warp wrote it")
        for region, chosen, offsets, who in self._by_region(access):
            racing = region.access_records().read(offsets, *sizes, who)
            self._report(access, racing, f"{region.name} is read after another warp wrote it", chosen)

    def write(self, access: Access, unchanged: np.ndarray, atomic: bool = False) -> None:
        """`unchanged` marks plain writes of the value that is already there: writing it twice is no race."""
        self._count(access, writing=True)
        if not self._launch.checks:
            return
        sizes = access.n_bytes, access.element_bytes
        if access.space == "shared":
            if atomic:
                self._require_written(access)
            who = self._accessor(access.active)
            racing = self._shared_records.write(access.flat, *sizes, who, atomic, unchanged)
            self._report(access, racing, "shared memory is written after another warp used it")
        for region, chosen, offsets, who in self._by_region(access):
            same = unchanged if chosen is None else unchanged[chosen]
            racing = region.access_records().write(offsets, *sizes, who, atomic, same)
            self._report(access, racing, f"{region.name} is written after another warp used it", chosen)

    def report_conflict(self, access: Access, lost: np.ndarray) -> None:
        """Lanes of one store instruction wrote different values to one place; `lost` marks those overwritten.

        In shared memory only between warps: Triton lets all lanes of a warp store a reduction's result, whose last
        bits may differ from lane to lane.
        """
        if lost.any():
            if access.space == "shared":
                lost = lost & _used_by_other_warp(access.flat, access.active.pick(self._lanes.warp))
            if lost.any():
                self._report(access, lost, "two threads write different values to one location")

    def count_atomics(self, n_atomics: int) -> None:
        if self._launch.counters:
            self._launch.counters.atomics += n_atomics

    def _count(self, access: Access, writing: bool) -> None:
        counters = self._launch.counters
        if counters is None:
            return
        if access.space == "global":
            rows, ctas = self._warp_rows(access)
            traffic = counters.global_writes if writing else counters.global_reads
            traffic.record(access.flat, rows, ctas, access.n_bytes)
        elif access.space == "shared":
            counters.shared.record(self._warp_rows(access)[0], access.n_bytes)
        else:
            counters.local_bytes += len(access.flat) * access.n_bytes

    def _require_written(self, access: Access) -> None:
        unwritten = self._shared_records.unwritten(access.flat, access.n_bytes, access.element_bytes)
        if unwritten is not None:
            fault = Fault(UninitialisedRead, int(np.argmax(unwritten)), "nobody has written this location")
            raise self._located(fault, access.active, access.instruction, "shared")

    def _accessor(self, active: ActiveSet) -> Accessor:
        lanes = self._lanes
        return Accessor(active.pick(lanes.cta), active.pick(lanes.epoch), active.pick(lanes.warp))

    def _by_region(self, access: Access) -> Iterator[tuple[Region, np.ndarray | None, np.ndarray, Accessor]]:
        if not access.regions:
            return
        who = self._accessor(access.active)
        for region, chosen in access.regions:
            if chosen is None:
                yield region, None, access.flat - region.origin, who
            else:
                yield region, chosen, access.flat[chosen] - region.origin, who.select(chosen)

    def _warp_rows(self, access: Access) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the warps with an active lane as [warps, 32], -1 for idle lanes; and the CTA of every warp."""
        active = access.active
        ctas = self._lanes.cta.reshape(-1, WARP)[:, 0]
        if active.mask is None:
            return access.flat.reshape(-1, WARP), ctas
        rows = np.full(active.n_lanes, -1, np.int64)
        rows[active.mask] = access.flat
        busy = active.by_warp().any(axis=1)
        return rows.reshape(-1, WARP)[busy], ctas[busy]

    def _report(self, access: Access, racing: np.ndarray | None, what: str, chosen: np.ndarray | None = None) -> None:
        """One entry per instruction; the launch raises when it has run, so that all its races are known."""
        races, instruction = self._launch.races, access.instruction
        if racing is None or len(races) >= _MAX_RACES or any(race.endswith(str(instruction)) for race in races):
            return
        index = int(np.argmax(racing)) if chosen is None else int(np.nonzero(chosen)[0][np.argmax(racing)])
        fault = Fault(DataRace, index, f"{what}, with nothing that orders the two")
        races.append(str(self._located(fault, access.active, instruction, "")))

    def _located(self, fault: Fault, active: ActiveSet, instruction: Instruction, space: str) -> Exception:
        who = self._lanes.name_of(int(active.indices[fault.index]))
        return fault.error(f"{space + ' access by ' if space else ''}{who}: {fault} at {instruction}")


def _used_by_other_warp(flat: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """True where another warp uses the same location in the same instruction."""
    _, place = np.unique(flat, return_inverse=True)
    lowest = np.full(place.max() + 1, np.iinfo(warps.dtype).max, warps.dtype)
    highest = np.full(place.max() + 1, -1, warps.dtype)
    np.minimum.at(lowest, place, warps)
    np.maximum.at(highest, place, warps)
    return (lowest != highest)[place]
