"""Claims on the folders of experiments, for processes on several machines that share a file system.

The claims of a folder are files with numbers, and the last one counts. Its owner touches it now and then, and writes
``RELEASED`` into it in the end. When it is released, or its owner is dead, whoever creates the file of the next number
has the folder. Creating a file that must not exist is atomic on network file systems too, where locks may not work. No
claim is ever removed: two processes that find the same dead owner cannot both follow it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.files.run_directory import replace_file

HEARTBEAT = 20.0
"""Seconds from one touch of a claim to the next."""

DEAD_AFTER = 180.0
"""Seconds without a touch after which an owner counts as dead: more than a network file system caches times."""

RELEASED = "released"


class Claims:
    """The folders that this process has claimed. A context manager, which releases what is left at its end."""

    def __init__(self) -> None:
        self._held: set[Path] = set()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claims:
        self._heart.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._ended.set()
        self._heart.join()
        for claim in list(self._held):
            self.release(claim)

    def take(self, folder: Path) -> Path | None:
        """Claim a folder, which is made where it is missing; returns None where another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        last = max(folder.glob("claim-*"), key=_number, default=None)
        if last is not None and not _is_free(last):
            return None
        claim = folder / f"claim-{1 if last is None else _number(last) + 1}"
        try:
            with claim.open("x") as file:
                file.write(json.dumps(_owner()))
        except FileExistsError:
            return None
        except OSError:
            claim.unlink(missing_ok=True)  # without its owner it would count as alive
            raise
        self._held.add(claim)
        return claim

    def holds(self, claim: Path) -> bool:
        """Whether no other process has followed, as it does when this one stood still for too long."""
        return claim in self._held and not _next(claim).exists()

    def release(self, claim: Path) -> None:
        """Let others claim the folder."""
        self._held.discard(claim)
        replace_file(claim, lambda partial: partial.write_text(RELEASED))

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            for claim in list(self._held):
                with contextlib.suppress(OSError):
                    os.utime(claim)


def _number(claim: Path) -> int:
    digits = claim.name.removeprefix("claim-")
    return int(digits) if digits.isdecimal() else 0


def _next(claim: Path) -> Path:
    return claim.with_name(f"claim-{_number(claim) + 1}")


def _is_free(claim: Path) -> bool:
    """Whether the owner has released the claim or is dead."""
    text = claim.read_text()
    if text == RELEASED:
        return True
    with contextlib.suppress(ValueError):  # the owner is writing it
        owner = json.loads(text)
        if owner["place"] == _place():
            return not _is_alive(owner["process"])
    return _age(claim) > DEAD_AFTER


def _age(claim: Path) -> float:
    """Return the seconds since the last touch by the clock of the file system, whatever those of the machines say."""
    with tempfile.NamedTemporaryFile(dir=claim.parent, prefix=".now-") as now:
        return os.fstat(now.fileno()).st_mtime - claim.stat().st_mtime


def _owner() -> dict[str, Any]:
    return {"place": _place(), "process": os.getpid()}


def _place() -> str:
    """Return a name for where the numbers of processes mean the same: the machine, or the container on it."""
    words = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            words.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip())
    return " ".join(words)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
