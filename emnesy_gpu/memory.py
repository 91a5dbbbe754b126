"""Peak memory of a piece of work, beyond what was in use when it began."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

STATUS = "/proc/self/status"
"""Where Linux keeps the resident size of this process (VmRSS) and its peak (VmHWM), in kB."""


class PeakMemory:
    """A meter of the peak memory in use since it was made, less what was in use then.

    It reads the resident size of this process on a CPU (Linux), and torch's allocator on CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        with contextlib.suppress(OSError):
            # "5" resets the peak resident size: see proc(5).
            Path("/proc/self/clear_refs").write_text("5")
            self.before = size_of("VmRSS", STATUS)

    def bytes(self) -> int | None:
        """The peak in bytes; None where the system does not tell it."""
        if self.before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, size_of("VmHWM", STATUS) - self.before)


def size_of(field: str, path: str) -> int:
    """The size in bytes that a line "field: n kB" of a file states; raises OSError if there is no such line."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in {path}")
