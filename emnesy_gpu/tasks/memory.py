"""Peak memory of a stretch of work, beyond what was in use when it began."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


class PeakMemory:
    """``bytes()`` is the most memory in use since this was made, less what was in use then; None where unknown.

    The resident size of this process on a CPU (Linux), torch's allocator on CUDA.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before: int | None = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            self.before = _status("VmRSS")

    def bytes(self) -> int | None:
        if self.device.type == "cuda":
            peak: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _status("VmHWM")
        return None if peak is None or self.before is None else max(0, peak - self.before)


def _status(field: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return None
