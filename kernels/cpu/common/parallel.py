"""Row ranges on all cores: Numba kernels that release the GIL, in a pool of Python threads.

Numba's own threading layers abort after a fork or when two threads enter them at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from threading import Lock

import torch

# Nanoseconds of work below which handing a range to another thread costs more than it saves.
SMALLEST_RANGE = 200_000
# Ranges per thread: a thread that is held up leaves the rest to the others.
RANGES_PER_THREAD = 4

_lock = Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def for_rows(work: Callable[[int, int], None], rows: int, block: int, row_cost: float) -> None:
    """Call work(first, last) on ranges that cover all rows; every range but the last is whole blocks.

    row_cost: rough nanoseconds per row. Everything runs in the caller's thread if there is little to do or
    torch.get_num_threads() is 1, and in as many threads otherwise: work must release the GIL.
    """
    blocks = -(-rows // block)
    threads = torch.get_num_threads()
    parts = min(blocks, threads * RANGES_PER_THREAD, int(rows * row_cost / SMALLEST_RANGE))
    if threads == 1 or parts <= 1:
        work(0, rows)
        return
    bounds = [min(rows, block * (blocks * part // parts)) for part in range(parts + 1)]
    ranges = iter(list(pairwise(bounds)))
    helpers = min(threads, parts) - 1
    pool = _threads(helpers)
    others = [pool.submit(_take, ranges, work) for _ in range(helpers)]
    try:
        _take(ranges, work)
    finally:
        wait(others)
    for other in others:
        other.result()


def _take(ranges: Iterable[tuple[int, int]], work: Callable[[int, int], None]) -> None:
    for first, last in ranges:
        work(first, last)


def _threads(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # A pool that is replaced still finishes what others have handed to it.
            _pool, _pool_size = ThreadPoolExecutor(size, "emnesy_gpu"), size
        return _pool


def _forget_threads() -> None:
    """A forked child has the pool, and perhaps a held lock, but none of the threads."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
