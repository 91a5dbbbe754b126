"""Happens-before at warp granularity: who touched a memory cell last, and is this access ordered after it?

Within a CTA only a barrier orders two warps, so an access is identified by (CTA, epoch, warp), where the epoch counts
the barriers that the CTA has passed. Between CTAs of one launch nothing but atomics orders anything. Not modelled:
races between lanes of one warp (other than one store instruction that writes two values to one place), and
acquire/release patterns, so a correct spin lock is reported as a race.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOBODY, SEVERAL = -1, -2
_JOURNAL_LIMIT = 1 << 21


@dataclass(frozen=True)
class Accessor:
    """Who makes the accesses of one instruction: three int32 arrays, one entry per access. Warp ids are grid-wide."""

    cta: np.ndarray
    epoch: np.ndarray
    warp: np.ndarray

    def repeat(self, times: int) -> Accessor:
        if times == 1:
            return self
        return Accessor(*(np.repeat(values, times) for values in (self.cta, self.epoch, self.warp)))

    def select(self, chosen: np.ndarray) -> Accessor:
        return Accessor(self.cta[chosen], self.epoch[chosen], self.warp[chosen])


class _LastAccess:
    """The latest accessor of every cell; SEVERAL stands for more than one warp of an epoch, or more than one CTA."""

    def __init__(self, n_cells: int) -> None:
        self.cta = np.full(n_cells, NOBODY, np.int32)
        self.epoch = np.zeros(n_cells, np.int32)
        self.warp = np.full(n_cells, NOBODY, np.int32)

    def refine(self, factor: int) -> None:
        for name in ("cta", "epoch", "warp"):
            setattr(self, name, np.repeat(getattr(self, name), factor))

    def unordered(self, cells: np.ndarray, me: Accessor) -> np.ndarray:
        """True where the recorded access belongs to another warp and no barrier lies between."""
        warp = self.warp[cells]
        other = (warp != me.warp) & (warp != NOBODY)
        if other.any():
            other &= (self.cta[cells] != me.cta) | (self.epoch[cells] == me.epoch)
        return other

    def replace(self, cells: np.ndarray, me: Accessor) -> None:
        self.cta[cells], self.epoch[cells], self.warp[cells] = me.cta, me.epoch, me.warp

    def join(self, cells: np.ndarray, me: Accessor) -> None:
        """Add readers: earlier ones that are still unordered with a later write are kept as SEVERAL."""
        cta, warp = self.cta[cells], self.warp[cells]
        same_epoch = (cta == me.cta) & (self.epoch[cells] == me.epoch)
        foreign = (cta != me.cta) & (cta != NOBODY)
        self.cta[cells] = np.where(foreign, SEVERAL, me.cta)
        self.warp[cells] = np.where(same_epoch & (warp != me.warp), SEVERAL, me.warp)
        self.epoch[cells] = me.epoch
        self._mark_duplicates("cta", cells, me.cta)
        self._mark_duplicates("warp", cells, me.warp)

    def _mark_duplicates(self, name: str, cells: np.ndarray, mine: np.ndarray) -> None:
        """Two accesses of one instruction share a cell when one of them does not read itself back."""
        values = getattr(self, name)
        overwritten = values[cells] != mine
        if overwritten.any():
            values[cells[overwritten]] = SEVERAL


class AccessRecords:
    """Readers and writers of one stretch of memory, kept per cell; the cell shrinks to the narrowest access seen."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._cell_bytes = 0
        self._journal: list[tuple[np.ndarray, int, int, Accessor]] = []
        self._journal_length = 0
        self._ever_written = False

    def read(self, offsets: np.ndarray, n_bytes: int, element_bytes: int, me: Accessor) -> np.ndarray | None:
        """Record a read; the mask of accesses that race with an earlier write, or None.

        Until the first write nothing can race, so reads only join a journal: inputs cost next to nothing.
        """
        if not self._ever_written and self._journal_length < _JOURNAL_LIMIT:
            self._journal.append((offsets, n_bytes, element_bytes, me))
            self._journal_length += len(offsets)
            return None
        self._replay()
        cells, per_access = self._cells(offsets, n_bytes, element_bytes)
        who = me.repeat(per_access)
        racing = self._writes.unordered(cells, who)
        self._reads.join(cells, who)
        return _per_access(racing, per_access)

    def write(
        self, offsets: np.ndarray, n_bytes: int, element_bytes: int, me: Accessor, atomic: bool, unchanged: np.ndarray
    ) -> np.ndarray | None:
        """Record a write; the mask of accesses that race. Two plain writes of one value are no race."""
        self._ever_written = True
        self._replay()
        cells, per_access = self._cells(offsets, n_bytes, element_bytes)
        who = me.repeat(per_access)
        racing = self._writes.unordered(cells, who)
        if atomic:
            racing &= ~self._atomic[cells]
        else:
            racing &= ~np.repeat(unchanged, per_access)
        racing |= self._reads.unordered(cells, who)
        self._writes.replace(cells, who)
        self._atomic[cells] = atomic
        return _per_access(racing, per_access)

    def unwritten(self, offsets: np.ndarray, n_bytes: int, element_bytes: int) -> np.ndarray | None:
        """The mask of accesses that touch a cell nobody has written, or None."""
        cells, per_access = self._cells(offsets, n_bytes, element_bytes)
        return _per_access(self._writes.warp[cells] == NOBODY, per_access)

    def _replay(self) -> None:
        journal, self._journal = self._journal, []
        for offsets, n_bytes, element_bytes, me in journal:
            cells, per_access = self._cells(offsets, n_bytes, element_bytes)
            self._reads.join(cells, me.repeat(per_access))

    def _cells(self, offsets: np.ndarray, n_bytes: int, element_bytes: int) -> tuple[np.ndarray, int]:
        self._use_cells_of(element_bytes)
        first, per_access = offsets // self._cell_bytes, n_bytes // self._cell_bytes
        if per_access == 1:
            return first, 1
        return (first[:, None] + np.arange(per_access)).reshape(-1), per_access

    def _use_cells_of(self, element_bytes: int) -> None:
        if self._cell_bytes == 0:
            self._cell_bytes = element_bytes
            n_cells = -(-self._n_bytes // element_bytes)
            self._reads, self._writes = _LastAccess(n_cells), _LastAccess(n_cells)
            self._atomic = np.zeros(n_cells, bool)
        elif element_bytes < self._cell_bytes:
            factor = self._cell_bytes // element_bytes
            self._reads.refine(factor)
            self._writes.refine(factor)
            self._atomic = np.repeat(self._atomic, factor)
            self._cell_bytes = element_bytes


def _per_access(cells: np.ndarray, per_access: int) -> np.ndarray | None:
    if not cells.any():
        return None
    return cells if per_access == 1 else np.any(cells.reshape(-1, per_access), axis=1)
