"""One of the ranks that fail while they train together; it ends well if no thread of gloo is left at its end.

tests.ranks.start_module runs it.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import torch

from emnesy_gpu.tasks.core.distributed import joined


def threads_of_gloo() -> list[str]:
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "gloo" in name]


def leave_well() -> None:
    """Runs after all that is registered later; the error of this process is meant."""
    left = threads_of_gloo()
    print(left, flush=True)
    os._exit(len(left))


def main() -> None:
    atexit.register(leave_well)
    with joined() as ranks:
        net = ranks.replicated(torch.nn.Linear(2, 2))
        net(torch.ones(1, 2)).sum().backward()
        assert threads_of_gloo()
        raise ValueError("a mistake")


if __name__ == "__main__":
    main()
