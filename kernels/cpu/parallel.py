"""Row ranges on all cores: Numba kernels that release the GIL, in a pool of Python threads.

Numba's own threading layers abort after a fork or when two threads enter them at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock

import torch

# Below about this many nanoseconds of work a second thread costs more than it saves.
SMALLEST_SHARE = 100_000

_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def for_rows(work: Callable[[int, int], None], rows: int, block: int, row_cost: float) -> None:
    """Call work(first, last) on ranges that cover all rows; every range but the last is whole blocks.

    row_cost: rough nanoseconds per row. Ranges run in the caller's thread if there is little to do or
    torch.get_num_threads() is 1, and concurrently otherwise: work must release the GIL.
    """
    blocks = -(-rows // block)
    shares = min(torch.get_num_threads(), blocks, max(1, int(rows * row_cost / SMALLEST_SHARE)))
    bounds = [min(rows, block * (blocks * share // shares)) for share in range(shares + 1)] if shares else []
    ranges = list(pairwise(bounds))
    if len(ranges) <= 1:
        for first, last in ranges:
            work(first, last)
        return
    pool = _threads(len(ranges) - 1)
    others = [pool.submit(work, first, last) for first, last in ranges[1:]]
    work(*ranges[0])
    for other in others:
        other.result()


def _threads(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # A pool that is replaced finishes what was submitted to it.
            _pool, _pool_size = ThreadPoolExecutor(size, "emnesy_gpu"), size
        return _pool


def _forget_threads() -> None:
    """A forked child has the pool object, and perhaps a held lock, but none of the threads."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
