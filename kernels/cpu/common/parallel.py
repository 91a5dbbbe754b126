"""Row ranges on all cores: Numba kernels that release the GIL, in threads that stay.

Numba's own threading layers abort after a fork or when two threads enter them at once.

Python handles a signal such as Ctrl-C in the main thread, between two of its steps. So the caller takes no part in long
calls: it waits, which a signal ends at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from itertools import pairwise
from queue import SimpleQueue
from threading import Lock, Thread

import torch

MOST_ON_ONE_THREAD = 1 << 15
"""Numbers that torch passes over in one thread: others would spin afterwards."""

# Nanoseconds of work below which handing a range to another thread costs more than it saves.
SMALLEST_RANGE = 200_000
# Nanoseconds of work above which a range is cut, and a call is long: what still runs after a signal.
LARGEST_RANGE = 250_000_000
# Ranges per thread: a thread that is held up leaves the rest to the others.
RANGES_PER_THREAD = 4

Outcomes = SimpleQueue[BaseException | None]

_lock = Lock()
_tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
_n_threads = 0


def for_rows(work: Callable[[int, int], None], rows: int, block: int, row_cost: float) -> None:
    """Call work(first, last) on ranges that cover all rows; every range but the last is whole blocks.

    row_cost: rough nanoseconds per row; 0 leaves a batch of unknown cost to one thread. Everything runs in the caller's
    thread if there is little to do, and in torch.get_num_threads() threads otherwise: work must release the GIL. An
    exception in the caller, such as KeyboardInterrupt, ends a long call at once: ranges that have begun go on alone.
    """
    is_long = rows > 0 and (row_cost == 0.0 or rows * row_cost >= LARGEST_RANGE)
    threads = torch.get_num_threads()
    bounds = _bounds(rows, block, row_cost, threads)
    if len(bounds) <= 2 and not is_long:
        work(0, rows)
        return
    ranges, helpers = iter(list(pairwise(bounds))), min(threads, len(bounds) - 1) - (not is_long)
    outcomes: Outcomes = SimpleQueue()
    _hand_out(lambda: _take(ranges, work, outcomes), helpers)
    try:
        if not is_long:
            _work_on(ranges, work)
        errors = [outcomes.get() for _ in range(helpers)]
    except BaseException:
        list(ranges)  # leaves nothing for the others to begin
        raise
    for error in errors:
        if error is not None:
            raise error


def is_one_range(rows: int, row_cost: float) -> bool:
    """Whether ``for_rows`` would call its work once, in the caller's thread, whatever else."""
    return 0.0 < rows * row_cost < SMALLEST_RANGE


def most_of_one_range(row_cost: float) -> int:
    """The most rows for which ``is_one_range`` holds; 0 for a cost that is not known."""
    return math.ceil(SMALLEST_RANGE / row_cost) - 1 if row_cost > 0.0 else 0


def _bounds(rows: int, block: int, row_cost: float, threads: int) -> list[int]:
    """Where ranges begin and end: a few for each thread, more in long calls, none of them too small."""
    blocks, cost = -(-rows // block), rows * row_cost
    wanted = min(threads * RANGES_PER_THREAD if threads > 1 else 1, int(cost / SMALLEST_RANGE))
    parts = max(1, min(blocks, max(wanted, int(cost / LARGEST_RANGE))))
    return [min(rows, block * (blocks * part // parts)) for part in range(parts + 1)]


def _work_on(ranges: Iterable[tuple[int, int]], work: Callable[[int, int], None]) -> None:
    for first, last in ranges:
        work(first, last)


def _take(ranges: Iterable[tuple[int, int]], work: Callable[[int, int], None], outcomes: Outcomes) -> None:
    try:
        _work_on(ranges, work)
    except BaseException as error:
        outcomes.put(error)
    else:
        outcomes.put(None)


def _hand_out(task: Callable[[], None], times: int) -> None:
    """Let threads run a task so often, in parallel; there are as many threads as any call has asked for."""
    global _n_threads
    with _lock:
        while _n_threads < times:
            # The end of the program does not wait for what a signal has left running.
            Thread(target=_serve, args=(_tasks,), name=f"emnesy_gpu_{_n_threads}", daemon=True).start()
            _n_threads += 1
    for _ in range(times):
        _tasks.put(task)


def _serve(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()


def _forget_threads() -> None:
    """A forked child has the queue, and perhaps a held lock, but none of the threads."""
    global _lock, _tasks, _n_threads
    _lock, _tasks, _n_threads = Lock(), SimpleQueue(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
