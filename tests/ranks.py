"""Processes of ``torch.distributed`` for tests: ``start`` calls functions of modules of these tests on some ranks.

python -m tests.ranks FOLDER NAME... is one of these processes; its place among them is in its environment.
"""

from __future__ import annotations

import gc
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported later, its defaults would keep the process group alive

ROOT = Path(__file__).parent.parent
SECONDS = 600.0


def start(size: int, folder: Path, names: Sequence[str]) -> None:
    """Call functions "module.name" of a folder on every rank: see ``start_module``."""
    start_module(size, "tests.ranks", str(folder), *names)


def start_module(size: int, module: str, *words: str) -> None:
    """Run a module on every rank; an AssertionError shows what the failed ranks printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        texts = [child.communicate(timeout=SECONDS)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    ends = enumerate(zip(children, texts, strict=True))
    failed = [f"rank {rank}: {text[-3000:]}" for rank, (child, text) in ends if child.returncode != 0]
    assert not failed, "\n".join(failed)  # all of them: most only say that another one is gone


def call(folder: Path, names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        module, function = name.split(".")
        getattr(importlib.import_module(f"tests.{module}"), function)(folder)
        dist.barrier()
    gc.collect()  # nets hold the group, whose threads are to end before the interpreter does
    dist.destroy_process_group()


if __name__ == "__main__":
    call(Path(sys.argv[1]), sys.argv[2:])
