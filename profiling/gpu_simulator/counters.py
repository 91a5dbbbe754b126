"""What a launch did: dynamic instructions, memory traffic in 32-byte sectors, shared-memory wavefronts.

The model behind the figures: a warp-wide global access is one request and fetches each 32-byte sector it touches
once ("requested" sectors). `block_sectors` counts each sector once per CTA, which is what an L1 that keeps up
fetches from L2. A shared access that needs at most one word of each of the 32 banks is one wavefront. Any other is
served in rows of 32 four-byte words (a half warp for 8-byte, a quarter warp for 16-byte accesses), and a row costs as
many wavefronts as its busiest bank has distinct words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

SECTOR_BYTES = 32
_PENDING_LIMIT = 1 << 20


class BlockSectors:
    """The distinct (CTA, sector) pairs seen so far."""

    def __init__(self) -> None:
        self._pending: list[np.ndarray] = []
        self._n_pending = 0
        self._compact = np.empty(0, np.int64)

    def add(self, ctas: np.ndarray, sectors: np.ndarray) -> None:
        self._pending.append((ctas.astype(np.int64) << 36) | sectors)
        self._n_pending += len(sectors)
        if self._n_pending > _PENDING_LIMIT:
            len(self)

    def __len__(self) -> int:
        if self._pending:
            self._compact = np.unique(np.concatenate([self._compact, *self._pending]))
            self._pending, self._n_pending = [], 0
        return len(self._compact)


@dataclass
class GlobalTraffic:
    """Reads or writes of global memory; a request is one instruction of one warp."""

    requests: int = 0
    bytes: int = 0
    sectors: int = 0
    block: BlockSectors = field(default_factory=BlockSectors, repr=False)

    @property
    def block_sectors(self) -> int:
        return len(self.block)

    @property
    def coalescing(self) -> float:
        """Useful bytes over bytes of the requested sectors; above 1 where lanes share an address."""
        return self.bytes / (self.sectors * SECTOR_BYTES) if self.sectors else 1.0

    def record(self, flat: np.ndarray, warp_rows: np.ndarray, cta_of_row: np.ndarray, n_bytes: int) -> None:
        """Count one access; `warp_rows` is -1 for idle lanes, else the byte address, one row per warp."""
        sectors, rows = distinct_per_row(np.where(warp_rows < 0, -1, warp_rows // SECTOR_BYTES))
        self.requests += int((warp_rows.max(axis=1) >= 0).sum())
        self.bytes += len(flat) * n_bytes
        self.sectors += len(sectors)
        self.block.add(cta_of_row[rows], sectors)


@dataclass
class SharedTraffic:
    """Accesses to shared memory; excess = wavefronts beyond the conflict-free number."""

    requests: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    @property
    def bank_conflicts(self) -> int:
        return self.wavefronts - self.ideal_wavefronts

    def record(self, warp_rows: np.ndarray, n_bytes: int) -> None:
        n_warps, per_lane = len(warp_rows), max(n_bytes // 4, 1)
        words = np.where(warp_rows < 0, -1, warp_rows // 4)
        if per_lane > 1:
            words = np.where(words[:, :, None] < 0, -1, words[:, :, None] + np.arange(per_lane)).reshape(n_warps, -1)
        distinct, warps = distinct_per_row(words)
        wavefronts = _busiest_bank(distinct, warps, n_warps)
        if per_lane > 1:
            by_row = _busiest_bank(*distinct_per_row(words.reshape(-1, 32)), n_warps * per_lane)
            wavefronts = np.where(wavefronts > 1, by_row.reshape(n_warps, per_lane).sum(axis=1), wavefronts)
        n_words = np.bincount(warps, minlength=n_warps)
        self.requests += int((n_words > 0).sum())
        self.wavefronts += int(wavefronts.sum())
        self.ideal_wavefronts += int((-(-n_words // 32)).sum())


def _busiest_bank(words: np.ndarray, rows: np.ndarray, n_rows: int) -> np.ndarray:
    """The largest number of the given words that one bank holds, per row."""
    return np.bincount(rows * 32 + words % 32, minlength=n_rows * 32).reshape(n_rows, 32).max(axis=1)


def distinct_per_row(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct non-negative values of every row, and the row each belongs to."""
    if (rows[:, 1:] < rows[:, :-1]).any():
        rows = np.sort(rows, axis=1)
    new = np.empty(rows.shape, bool)
    new[:, 0] = True
    np.not_equal(rows[:, 1:], rows[:, :-1], out=new[:, 1:])
    new &= rows >= 0
    return rows[new], np.nonzero(new)[0]


@dataclass
class Counters:
    """Sums over one launch."""

    n_threads: int = 0
    thread_instructions: int = 0  # lanes whose guard was true
    warp_instructions: int = 0  # issue slots: warps with an active lane, whatever the guard
    opcodes: Counter[str] = field(default_factory=Counter)  # thread instructions by full opcode
    global_reads: GlobalTraffic = field(default_factory=GlobalTraffic)
    global_writes: GlobalTraffic = field(default_factory=GlobalTraffic)
    shared: SharedTraffic = field(default_factory=SharedTraffic)
    local_bytes: int = 0
    atomics: int = 0
    barriers: int = 0
    divergent_branches: int = 0

    @property
    def instructions_per_thread(self) -> float:
        return self.thread_instructions / max(self.n_threads, 1)

    def summary(self) -> dict[str, float]:
        """The figures as one flat dictionary."""
        reads, writes = self.global_reads, self.global_writes
        return {
            "instructions_per_thread": self.instructions_per_thread,
            "warp_instructions": self.warp_instructions,
            "read_sectors": reads.sectors,
            "read_block_sectors": reads.block_sectors,
            "read_coalescing": reads.coalescing,
            "write_sectors": writes.sectors,
            "write_block_sectors": writes.block_sectors,
            "write_coalescing": writes.coalescing,
            "shared_wavefronts": self.shared.wavefronts,
            "bank_conflicts": self.shared.bank_conflicts,
            "barriers": self.barriers,
            "atomics": self.atomics,
            "local_bytes": self.local_bytes,
        }
