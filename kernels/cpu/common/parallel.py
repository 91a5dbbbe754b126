"""Row ranges on all cores: Numba kernels that release the GIL, in threads that stay.

Numba's own threading layers abort after a fork or when two threads enter them at once.

Python handles a signal such as Ctrl-C in the main thread, between two of its steps. So the caller takes no part in long
calls: it waits, which a signal ends at once.

A thread that shares its core with another process begins a range and then does not run for milliseconds, for which the
caller waits. A call that took hardly less time than the caller alone would have is followed by calls on one thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from itertools import pairwise
from queue import SimpleQueue
from threading import Lock, Thread, local
from time import perf_counter, thread_time

import torch

MOST_ON_ONE_THREAD = 1 << 15
"""Numbers that torch passes over in one thread: others would spin afterwards."""

# Nanoseconds of work below which handing a range to another thread costs more than it saves.
SMALLEST_RANGE = 200_000
# The same of work in torch: Python makes hundreds of calls, in one thread at a time, whatever the number of rows.
SMALLEST_RANGE_IN_TORCH = 2_000_000
# Nanoseconds of work above which a range is cut, and a call is long: what still runs after a signal.
LARGEST_RANGE = 250_000_000
# Ranges per thread: a thread that is held up leaves the rest to the others.
RANGES_PER_THREAD = 4
# Seconds of calls on one thread for each second that was lost to threads which were held up: that costs a sixteenth.
PAYBACK = 16.0
# Seconds of that at most: a helper that compiles a kernel loses many once.
LONGEST_ALONE = 1.0
# The share of the time of the caller alone that several threads may take: beyond, they count as held up.
LARGEST_SHARE = 0.9

Outcomes = SimpleQueue[BaseException | None]

_lock = Lock()
_tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
_n_threads = 0
_alone_until = 0.0
_here = local()
"""``helps`` is set in a thread of this module, which hands nothing out: all of them would wait for each other."""


def for_rows(work: Callable[[int, int], None], rows: int, block: int, row_cost: float) -> None:
    """Call work(first, last) on ranges that cover all rows; every range but the last is whole blocks.

    row_cost: rough nanoseconds per row; 0 leaves a batch of unknown cost to one thread. Everything runs in the caller's
    thread if there is little to do, in a thread of this module, or for a while after other threads were held up, and in
    torch.get_num_threads() threads otherwise: work must release the GIL. An exception in the caller, such as
    KeyboardInterrupt, ends a long call at once: ranges that have begun go on alone.
    """
    is_long = rows > 0 and (row_cost == 0.0 or rows * row_cost >= LARGEST_RANGE)
    threads = torch.get_num_threads()
    bounds = _bounds(rows, block, row_cost, (threads, RANGES_PER_THREAD if threads > 1 else 1), SMALLEST_RANGE)
    is_short = not is_long and (len(bounds) <= 2 or perf_counter() < _alone_until)
    if is_short or _helps():
        work(0, rows)
    else:
        _share(work, bounds, min(threads, len(bounds) - 1), not is_long)


def for_rows_in_torch(
    work: Callable[[int, int], None], rows: int, block: int, row_cost: float, most_threads: int | None = None
) -> None:
    """The same for work that calls functions of torch: in threads in which these start none of OpenMP.

    Threads of OpenMP spin when they have done their share, and all wait for one that is held up. Unless the call is
    long, a thread has one range: torch takes less time for a few large tensors.
    """
    threads = torch.get_num_threads()
    if threads == 1 or rows * row_cost < SMALLEST_RANGE or _helps():
        work(0, rows)
    else:
        most = min(threads, most_threads or threads)
        bounds = _bounds(rows, block, row_cost, (most, 1), SMALLEST_RANGE_IN_TORCH)
        _share(work, bounds, min(most, len(bounds) - 1), False)


def _helps() -> bool:
    return getattr(_here, "helps", False)


def _share(work: Callable[[int, int], None], bounds: list[int], threads: int, takes_part: bool) -> None:
    """Call work on all ranges in so many threads, of which the caller is one if it takes part."""
    ranges, helpers, began = iter(list(pairwise(bounds))), threads - takes_part, perf_counter()
    own, alone = 0, 0.0
    outcomes: Outcomes = SimpleQueue()
    _hand_out(lambda: _take(ranges, work, outcomes), helpers)
    try:
        if takes_part:
            # CPU time: a helper on the core of the caller holds the caller up too.
            before = thread_time()
            own = _work_on(ranges, work)
            alone = thread_time() - before
        errors = [outcomes.get() for _ in range(helpers)]
    except BaseException:
        list(ranges)  # leaves nothing for the others to begin
        raise
    if own > 0:
        _note_loss(perf_counter() - began - LARGEST_SHARE * alone * (len(bounds) - 1) / own)
    for error in errors:
        if error is not None:
            raise error


def _note_loss(seconds: float) -> None:
    """Leave the next calls to one thread, where a call took so much longer than it should have."""
    global _alone_until
    if seconds > 0.0:
        _alone_until = perf_counter() + min(PAYBACK * seconds, LONGEST_ALONE)


def is_one_range(rows: int, row_cost: float) -> bool:
    """Whether ``for_rows`` would call its work once, in the caller's thread, whatever else."""
    return 0.0 < rows * row_cost < SMALLEST_RANGE


def most_of_one_range(row_cost: float) -> int:
    """The most rows for which ``is_one_range`` holds; 0 for a cost that is not known."""
    return math.ceil(SMALLEST_RANGE / row_cost) - 1 if row_cost > 0.0 else 0


def _bounds(rows: int, block: int, row_cost: float, most: tuple[int, int], smallest: int) -> list[int]:
    """Where ranges begin and end, the same number for each thread where there are several.

    most: threads, and ranges of each, but for long calls; smallest: nanoseconds of a range.
    """
    threads, each = most
    blocks, cost = -(-rows // block), rows * row_cost
    parts, least = min(threads * each, int(cost / smallest)), int(cost / LARGEST_RANGE)
    if parts > threads:
        parts -= parts % threads
    parts = max(1, min(blocks, max(parts, least + -least % threads)))
    return [min(rows, block * (blocks * part // parts)) for part in range(parts + 1)]


def _work_on(ranges: Iterable[tuple[int, int]], work: Callable[[int, int], None]) -> int:
    """How many ranges this thread has worked on."""
    done = 0
    for first, last in ranges:
        work(first, last)
        done += 1
    return done


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
        missing = times - _n_threads
        started: Outcomes = SimpleQueue()
        for number in range(_n_threads, times):
            # The end of the program does not wait for what a signal has left running.
            Thread(target=_serve, args=(_tasks, started), name=f"emnesy_gpu_{number}", daemon=True).start()
        if missing > 0:
            threads = torch.get_num_threads()
            for _ in range(missing):
                started.get()
            # That of a thread is also that of all threads which have not called torch yet.
            torch.set_num_threads(threads)
            _n_threads = times
    for _ in range(times):
        _tasks.put(task)


def _serve(tasks: SimpleQueue[Callable[[], None]], started: Outcomes) -> None:
    torch.get_num_threads()  # a thread takes the number of all others when it is asked for the first time
    torch.set_num_threads(1)
    _here.helps = True
    started.put(None)
    while True:
        tasks.get()()


def _forget_threads() -> None:
    """A forked child has the queue, and perhaps a held lock, but none of the threads."""
    global _lock, _tasks, _n_threads
    _lock, _tasks, _n_threads, _here.helps = Lock(), SimpleQueue(), 0, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
