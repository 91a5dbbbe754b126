"""Scratch of kernels in lanes: rows of numbers with one column per lane, of which each thread keeps some."""

from __future__ import annotations

import threading

import numpy as np
import torch

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES, FLOAT64_LANES

KEPT_BYTES = 1 << 26
"""Scratch up to this size is kept by its thread: to take its pages from the system costs as much as what fills them."""


def scratch(rows: int, dtype: type) -> np.ndarray:
    """Uninitialised [rows, lanes] that starts on a cache line, as torch allocates: no load touches two of them."""
    if dtype is np.float32:
        return torch.empty((rows, FLOAT32_LANES), dtype=torch.float32, device="cpu").numpy()
    return torch.empty((rows, FLOAT64_LANES), dtype=torch.float64, device="cpu").numpy()


def half_lanes(rows: np.ndarray) -> np.ndarray:
    """A view of scratch for few samples: vectors of half the length cost half as much."""
    return rows[:, : rows.shape[1] // 2]


class _Kept(threading.local):
    def __init__(self) -> None:
        self.keep(scratch(0, np.float32))

    def keep(self, rows: np.ndarray) -> None:
        self.rows, self.half_rows, self.numbers = rows, half_lanes(rows), rows.reshape(-1)
        self.doubles, self.double_rows = self.numbers.view(np.float64), rows.view(np.float64)


_kept = _Kept()


def kept_scratch(rows: int) -> np.ndarray:
    """float32 scratch of at least that many rows, which the thread keeps for its next call up to KEPT_BYTES.

    One can be in use at a time. A small batch then takes no memory but its results.
    """
    if len(_kept.rows) >= rows:
        return _kept.rows
    fresh = scratch(rows, np.float32)
    if fresh.nbytes <= KEPT_BYTES:
        _kept.keep(fresh)
    return fresh


def forget_scratch() -> None:
    """Give back what this thread keeps: its next call takes memory anew, which can be measured."""
    _kept.keep(scratch(0, np.float32))


def kept_lanes(rows: int, batch: int) -> np.ndarray:
    """The same with half as many lanes for a batch that fits in these."""
    if batch > FLOAT32_LANES // 2:
        return kept_scratch(rows)
    return _kept.half_rows if len(_kept.rows) >= rows else half_lanes(kept_scratch(rows))


def kept_numbers(size: int) -> np.ndarray:
    """The same as at least that many numbers, for ``as_lanes``."""
    kept = _kept.numbers
    return kept if len(kept) >= size else kept_scratch(-(-size // FLOAT32_LANES)).reshape(-1)


def kept_doubles(rows: int, one_lane: bool) -> np.ndarray:
    """The same in float64, for ``as_lanes``: FLOAT64_LANES, or one."""
    if len(_kept.rows) >= rows:
        return _kept.doubles if one_lane else _kept.double_rows
    fresh = kept_scratch(rows).view(np.float64)
    return fresh.reshape(-1) if one_lane else fresh
