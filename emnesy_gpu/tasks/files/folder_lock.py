"""A lock on a folder, so that two processes never write files of one name there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emnesy_gpu.tasks.files.errors import DataError

LOCK_FILE = ".lock"
SECONDS_BETWEEN_ATTEMPTS = 0.1


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is missing; DataError where another process holds it.

    The system releases the lock when the process ends, however it ends. The file of the lock stays. A file system
    without locks lets everyone in.

    patience: seconds to wait for another process to end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with (folder / LOCK_FILE).open("a+") as file:
        while not _acquire(file):
            if time.monotonic() >= deadline:
                raise DataError(f"{folder} is in use by {_holder(file)}: wait for its end, or choose another folder")
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(file: IO[str]) -> str:
    file.seek(0)
    number = file.read(20)
    return f"process {number}" if number.isdigit() else "another process"


if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """The byte that is locked: far behind the number of the process, which others can read."""

    def _acquire(file: IO[str]) -> bool:
        os.lseek(file.fileno(), FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _acquire(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
