"""Peak memory of a stretch of work, beyond what was in use when it began."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

STATUS = "/proc/self/status"


class PeakMemory:
    """``bytes()`` is the most memory in use since this was made, less what was in use then; None where unknown.

    The resident size of this process on a CPU (Linux), torch's allocator on CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
            self.before = size_of("VmRSS", STATUS)

    def bytes(self) -> int | None:
        if self.before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, size_of("VmHWM", STATUS) - self.before)


def size_of(field: str, path: str) -> int:
    """The bytes that a line "field: n kB" of a file speaks of; OSError where there is none."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in {path}")
