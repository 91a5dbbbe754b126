"""A layer over files in which one write call fails: opening, writing, closing, syncing, renaming, making folders."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

LONGEST_SCRIPT = 1000
"""Write calls after which a script that has not ended is taken for one that never ends."""

MOST_CALLS_OF_A_RUN = 100
"""Write calls of a run of three epochs: fewer."""


class Fault(NamedTuple):
    """How a write call fails.

    error: the number of the OSError. torn: a write leaves half of its bytes in the file before that. lasting: all
    later calls fail too, as on a full disk.
    """

    error: int
    torn: bool
    lasting: bool


FAULTS = {
    "full disk": Fault(errno.ENOSPC, torn=False, lasting=True),
    "full disk in a write": Fault(errno.ENOSPC, torn=True, lasting=True),
    "broken once": Fault(errno.EIO, torn=False, lasting=False),
    "short write": Fault(errno.EIO, torn=True, lasting=False),
}


class FaultyCalls:
    """Counts write calls, and fails that of a number, counted from 1; 0 fails none."""

    def __init__(self, number: int, fault: Fault) -> None:
        self.number, self.fault, self.calls = number, fault, 0

    @property
    def failed(self) -> bool:
        return 0 < self.number <= self.calls

    def now(self) -> bool:
        """Count one more call; returns whether it fails."""
        self.calls += 1
        return self.calls == self.number or (self.failed and self.fault.lasting)

    def error(self, name: Any) -> OSError:
        return OSError(self.fault.error, os.strerror(self.fault.error), str(name))

    def failing(self, function: Callable[..., Any], name: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a failure in its turn; name: the file of the error, from its arguments."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self.now():
                raise self.error(name(*arguments))
            return function(*arguments, **options)

        return call

    def opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``open`` whose files for writing fail too."""

        def call(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+"):
                return function(file, mode, *arguments, **options)
            if self.now():
                raise self.error(file)
            return FaultyFile(function(file, mode, *arguments, **options), self)

        return call


class FaultyFile:
    """A file that is open for writing: ``write``, ``truncate`` and ``close`` may fail."""

    def __init__(self, file: Any, calls: FaultyCalls) -> None:
        self._file, self._calls = file, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FaultyFile:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, content: Any) -> Any:
        if self._calls.now():
            if self._calls.fault.torn:
                self._file.write(content[: len(content) // 2])
                self._file.flush()
            raise self._calls.error(self._file.name)
        return self._file.write(content)

    def truncate(self, *size: int) -> Any:
        if self._calls.now():
            raise self._calls.error(self._file.name)
        return self._file.truncate(*size)

    def close(self) -> None:
        was_open = not self._file.closed
        self._file.close()
        if was_open and self._calls.now():
            raise self._calls.error(self._file.name)


@contextmanager
def failing(number: int, fault: Fault) -> Iterator[FaultyCalls]:
    """A block whose write call of this number fails."""
    calls = FaultyCalls(number, fault)
    with pytest.MonkeyPatch.context() as patch:
        for module in (builtins, io):
            patch.setattr(module, "open", calls.opening(io.open))
        for name in ("replace", "rename", "mkdir", "fsync"):
            patch.setattr(os, name, calls.failing(getattr(os, name), lambda first, *others: first))
        yield calls


def write_calls(script: Callable[[], Any]) -> int:
    """How many write calls a script makes."""
    with failing(0, FAULTS["broken once"]) as calls:
        script()
    return calls.calls


def faulty_runs(
    script: Callable[[], Any], fault: Fault, before: Callable[[], Any]
) -> Iterator[OSError | Exception | None]:
    """Run a script once for each of its write calls, which fails; yields its error. before: is called first."""
    for number in range(1, LONGEST_SCRIPT):
        before()
        error = None
        with failing(number, fault) as calls:
            try:
                script()
            except Exception as found:
                error = found
        if not calls.failed:
            return
        yield error
    raise AssertionError(f"the script makes more than {LONGEST_SCRIPT} write calls")
