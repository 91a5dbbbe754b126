"""Device memory: one flat byte array per state space, bounds and alignment checked on every access.

Global allocations are separated by guard regions, so that an access past the end of a buffer hits no other buffer.
Fresh shared and local memory holds a byte pattern, never zeros, so that a forgotten initialisation shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiling.gpu_simulator.errors import Misaligned, OutOfBounds
from profiling.gpu_simulator.races import AccessRecords

GLOBAL_BASE = 0x7000_0000_0000
SHARED_WINDOW = 0x5000_0000_0000
LOCAL_WINDOW = 0x6000_0000_0000
WINDOW_BYTES = 1 << 32
FRESH_BYTE = 0xA5
_ALIGNMENT = 512
_GUARD_BYTES = 4096


@dataclass
class Region:
    """Bytes [start, end) of the flat array that a kernel may touch."""

    name: str
    start: int
    end: int
    records: AccessRecords | None = None

    @property
    def origin(self) -> int:
        return self.start - self.start % _ALIGNMENT

    def access_records(self) -> AccessRecords:
        if self.records is None:
            self.records = AccessRecords(self.end - self.origin)
        return self.records


class GlobalMemory:
    """The allocations of one launch; addresses are GLOBAL_BASE + flat offset."""

    def __init__(self) -> None:
        self.bytes = np.full(1 << 14, FRESH_BYTE, np.uint8)
        self._top = _GUARD_BYTES
        self._regions: list[Region] = []
        self._starts = self._ends = np.empty(0, np.int64)

    def allocate(
        self, name: str, data: np.ndarray, misalignment: int = 0, spans: Sequence[tuple[str, int, int]] = ()
    ) -> int:
        """Copy raw bytes in; the address has the given remainder modulo 16.

        `spans` (name, first, end) narrow what may be touched to parts of the allocation, in ascending order.
        """
        start = -(-self._top // _ALIGNMENT) * _ALIGNMENT + misalignment
        self._top = start + data.size + _GUARD_BYTES
        if self._top > self.bytes.size:
            grown = np.full(-(-self._top // _GUARD_BYTES) * _GUARD_BYTES * 2, FRESH_BYTE, np.uint8)
            grown[: self.bytes.size] = self.bytes
            self.bytes = grown
        self.bytes[start : start + data.size] = data
        for span_name, first, end in spans or [(name, 0, data.size)]:
            self._regions.append(Region(span_name, start + first, start + end))
        self._starts = np.array([region.start for region in self._regions], np.int64)
        self._ends = np.array([region.end for region in self._regions], np.int64)
        return GLOBAL_BASE + start

    def data(self, address: int, n_bytes: int) -> np.ndarray:
        start = address - GLOBAL_BASE
        return self.bytes[start : start + n_bytes]

    def locate(self, addresses: np.ndarray, n_bytes: int) -> tuple[np.ndarray, list[tuple[Region, np.ndarray | None]]]:
        """Flat offsets, and the regions they fall in (with a mask, or None when there is just one region)."""
        flat = addresses - GLOBAL_BASE
        lowest, highest = int(flat.min()), int(flat.max())
        first = int(np.searchsorted(self._starts, lowest, "right")) - 1
        if first >= 0 and highest + n_bytes <= self._ends[first]:
            regions: list[tuple[Region, np.ndarray | None]] = [(self._regions[first], None)]
        else:
            index = np.searchsorted(self._starts, flat, "right") - 1
            outside = (index < 0) | (flat + n_bytes > self._ends[index])
            if outside.any():
                bad = int(np.argmax(outside))
                raise Fault(OutOfBounds, bad, self._describe(int(flat[bad]), n_bytes))
            regions = [(self._regions[i], index == i) for i in np.unique(index)]
        _require_alignment(flat, n_bytes)
        return flat, regions

    def _describe(self, flat: int, n_bytes: int) -> str:
        """The nearest allocation and how far outside it the access lies."""
        best = min(self._regions, key=lambda region: max(region.start - flat, flat - region.end), default=None)
        if best is None:
            return "no allocation exists"
        distance = f"{best.start - flat} B before" if flat < best.start else f"{flat + n_bytes - best.end} B past"
        return f"{distance} the {'start' if flat < best.start else 'end'} of {best.name} ({best.end - best.start} B)"


class BankedMemory:
    """Shared or local memory: `n_banks` copies (one per CTA or per lane) of `bank_bytes` bytes in one flat array."""

    def __init__(self, space: str, n_banks: int, bank_bytes: int) -> None:
        self._space = space
        self._stride = -(-bank_bytes // 16) * 16
        self._bank_bytes = bank_bytes
        self.bytes = np.full(max(n_banks * self._stride, 16), FRESH_BYTE, np.uint8)

    def locate(self, addresses: np.ndarray, banks: np.ndarray, n_bytes: int) -> np.ndarray:
        outside = (addresses < 0) | (addresses + n_bytes > self._bank_bytes)
        if outside.any():
            bad = int(np.argmax(outside))
            message = f"byte {int(addresses[bad])} + {n_bytes} of {self._bank_bytes} B of {self._space} memory"
            raise Fault(OutOfBounds, bad, message)
        _require_alignment(addresses, n_bytes)
        return banks * self._stride + addresses


class Fault(Exception):
    """A failed access before it is known which thread made it: error type, index into the accesses, description."""

    def __init__(self, error: type[Exception], index: int, description: str) -> None:
        super().__init__(description)
        self.error, self.index = error, index


def _require_alignment(offsets: np.ndarray, n_bytes: int) -> None:
    misplaced = (offsets & (n_bytes - 1)) != 0
    if misplaced.any():
        bad = int(np.argmax(misplaced))
        raise Fault(Misaligned, bad, f"a {n_bytes}-byte access {int(offsets[bad]) % n_bytes} B off its alignment")
