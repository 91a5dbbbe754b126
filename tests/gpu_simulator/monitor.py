"""Checks and counts of the memory accesses of one batch: bounds, alignment, initialisation, races, traffic."""

from __future__ import annotations

import numpy as np

from .errors import DataRace, UninitialisedRead
from .lanes import WARP, ActiveSet, Lanes
from .memory import Fault, Region
from .ptx_parser import Instruction
from .races import AccessRecords, Accessor

_MAX_RACES = 20
Regions = list[tuple[Region, "np.ndarray | None"]]


class MemoryMonitor:
    """Addresses in, flat offsets out; what the kernel does wrong on the way is raised or, for races, collected."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._launch = lanes.launch
        self._shared_records = AccessRecords(lanes.shared.bytes.size)

    def locate_global(
        self, instruction: Instruction, active: ActiveSet, addresses: np.ndarray, n_bytes: int
    ) -> tuple[np.ndarray, Regions]:
        try:
            return self._launch.global_memory.locate(addresses, n_bytes)
        except Fault as fault:
            raise self._located(fault, active, instruction, "global") from None

    def locate_banked(
        self, instruction: Instruction, active: ActiveSet, space: str, addresses: np.ndarray, n_bytes: int
    ) -> np.ndarray:
        memory = self._lanes.shared if space == "shared" else self._lanes.local
        banks = active.pick(self._lanes.cta_slot) if space == "shared" else active.indices
        try:
            return memory.locate(addresses, banks, n_bytes)
        except Fault as fault:
            raise self._located(fault, active, instruction, space) from None

    def read_global(
        self,
        instruction: Instruction,
        active: ActiveSet,
        flat: np.ndarray,
        regions: Regions,
        n_bytes: int,
        element_bytes: int,
    ) -> None:
        if self._launch.counters:
            rows, ctas = self._warp_rows(active, flat)
            self._launch.counters.global_reads.record(flat, rows, ctas, n_bytes)
        if self._launch.checks:
            for region, chosen, offsets, who in self._by_region(active, flat, regions):
                racing = region.access_records().read(offsets, n_bytes, element_bytes, who)
                what = f"{region.name} is read after another warp wrote it"
                self._report(racing, chosen, active, instruction, what)

    def write_global(
        self,
        instruction: Instruction,
        active: ActiveSet,
        flat: np.ndarray,
        regions: Regions,
        n_bytes: int,
        element_bytes: int,
        unchanged: np.ndarray,
        atomic: bool = False,
    ) -> None:
        """`unchanged` marks plain writes of the value that is already there: writing it twice is no race."""
        if self._launch.counters:
            rows, ctas = self._warp_rows(active, flat)
            self._launch.counters.global_writes.record(flat, rows, ctas, n_bytes)
        if self._launch.checks:
            for region, chosen, offsets, who in self._by_region(active, flat, regions):
                same = unchanged if chosen is None else unchanged[chosen]
                racing = region.access_records().write(offsets, n_bytes, element_bytes, who, atomic, same)
                what = f"{region.name} is written after another warp used it"
                self._report(racing, chosen, active, instruction, what)

    def read_shared(
        self, instruction: Instruction, active: ActiveSet, offsets: np.ndarray, n_bytes: int, element_bytes: int
    ) -> None:
        if self._launch.counters:
            self._launch.counters.shared.record(self._warp_rows(active, offsets)[0], n_bytes)
        if self._launch.checks:
            unwritten = self._shared_records.unwritten(offsets, n_bytes, element_bytes)
            if unwritten is not None:
                fault = Fault(UninitialisedRead, int(np.argmax(unwritten)), "nobody has written this location")
                raise self._located(fault, active, instruction, "shared")
            racing = self._shared_records.read(offsets, n_bytes, element_bytes, self._accessor(active))
            self._report(racing, None, active, instruction, "shared memory is read after another warp wrote it")

    def write_shared(
        self,
        instruction: Instruction,
        active: ActiveSet,
        offsets: np.ndarray,
        n_bytes: int,
        element_bytes: int,
        unchanged: np.ndarray,
        atomic: bool = False,
    ) -> None:
        if self._launch.counters:
            self._launch.counters.shared.record(self._warp_rows(active, offsets)[0], n_bytes)
        if self._launch.checks:
            who = self._accessor(active)
            racing = self._shared_records.write(offsets, n_bytes, element_bytes, who, atomic, unchanged)
            self._report(racing, None, active, instruction, "shared memory is written after another warp used it")

    def report_conflict(self, conflicting: np.ndarray, active: ActiveSet, instruction: Instruction) -> None:
        """Lanes of one store instruction wrote different values to one place."""
        if conflicting.any():
            what = "two threads write different values to one location"
            self._report(conflicting, None, active, instruction, what)

    def _accessor(self, active: ActiveSet) -> Accessor:
        lanes = self._lanes
        return Accessor(active.pick(lanes.cta), active.pick(lanes.epoch), active.pick(lanes.warp))

    def _by_region(self, active: ActiveSet, flat: np.ndarray, regions: Regions):  # type: ignore[no-untyped-def]
        who = self._accessor(active)
        for region, chosen in regions:
            if chosen is None:
                yield region, None, flat - region.origin, who
            else:
                yield region, chosen, flat[chosen] - region.origin, who.select(chosen)

    def _warp_rows(self, active: ActiveSet, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the warps with an active lane as [warps, 32], -1 for idle lanes; and the CTA of every warp."""
        ctas = self._lanes.cta.reshape(-1, WARP)[:, 0]
        if active.mask is None:
            return offsets.reshape(-1, WARP), ctas
        rows = np.full(active.n_lanes, -1, np.int64)
        rows[active.mask] = offsets
        busy = active.by_warp().any(axis=1)
        return rows.reshape(-1, WARP)[busy], ctas[busy]

    def _report(
        self,
        racing: np.ndarray | None,
        chosen: np.ndarray | None,
        active: ActiveSet,
        instruction: Instruction,
        what: str,
    ) -> None:
        """One entry per instruction; the launch raises when it has run, so that all its races are known."""
        races = self._launch.races
        if racing is None or len(races) >= _MAX_RACES or any(race.endswith(str(instruction)) for race in races):
            return
        index = int(np.argmax(racing)) if chosen is None else int(np.nonzero(chosen)[0][np.argmax(racing)])
        fault = Fault(DataRace, index, f"{what}, with nothing that orders the two")
        races.append(str(self._located(fault, active, instruction, "")))

    def _located(self, fault: Fault, active: ActiveSet, instruction: Instruction, space: str) -> Exception:
        who = self._lanes.name_of(int(active.indices[fault.index]))
        return fault.error(f"{space + ' access by ' if space else ''}{who}: {fault} at {instruction}")
