"""One of two ranks, the second of which is killed once; both then join again, the first one late.

torchrun --nproc-per-node=2 --max-restarts=1 -m tests.restarted_ranks
"""

from __future__ import annotations

import os
import signal
import time

import torch.distributed as dist

from emnesy_gpu.tasks.core.distributed import joined, restarted

SECONDS_LATE = 1.0
"""Long enough for the second rank to look for the first one before it is there."""


def main() -> None:
    if restarted() and os.environ["RANK"] == "0":
        time.sleep(SECONDS_LATE)
    with joined() as ranks:
        dist.barrier()
        if ranks.rank == 1 and not restarted():
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()


if __name__ == "__main__":
    main()
