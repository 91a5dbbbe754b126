"""Signals that ask a run to end: Ctrl-C, SIGTERM of a scheduler, SIGHUP of a terminal that is closed."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

GRACE = 10.0
"""Seconds for a batch to end after a signal; a batch that takes longer is cut off."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal, as shells have it."""
    return 128 + (interruption.number if isinstance(interruption, Stopped) else signal.SIGINT)


class StopSignals:
    """Raises ``Stopped`` in the main thread for every signal of ``SIGNALS``. A context manager.

    Within ``deferred``, the first signal is only noted, so that the caller can end its batch and save its state; the
    second one raises at once, and so does the end of ``GRACE``. Signals that the process ignores stay ignored, as nohup
    has it for SIGHUP. Outside the main thread, which alone receives signals, nothing changes.

    Compiled code that calls Python, as that of matplotlib does, may put its own error in place of ``Stopped``. The
    end of the block then raises ``Stopped`` from it.
    """

    def __init__(self) -> None:
        self.noted: int | None = None
        self._defers = self._raised = False
        self._previous: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._raised and self.noted is not None and isinstance(error, Exception):
            raise Stopped(self.noted) from error

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Note the first signal instead of raising."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
        self.check()

    def check(self) -> None:
        """Raise ``Stopped`` if a signal was noted."""
        if self.noted is not None:
            raise Stopped(self.noted)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        at_once = not self._defers or self.noted is not None
        self.noted = number  # a destructor that happens to run may swallow the exception
        if at_once:
            self._raised = True
            raise Stopped(number)
        self._timer = threading.Timer(GRACE, _repeat, [number])
        self._timer.daemon = True
        self._timer.start()


def _repeat(number: int) -> None:
    """Send a signal to the main thread; elsewhere than on POSIX, its handler runs when the thread has waited enough."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
