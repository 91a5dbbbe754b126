"""What a script needs and this machine lacks, in one sentence, with exit code 2."""

from __future__ import annotations

import sys
from typing import NoReturn

import torch

MISSING = 2
NO_CUDA_BUILD = (
    "this PyTorch was built without CUDA: install a CUDA build (https://pytorch.org/get-started/locally) "
    "on a machine with an NVIDIA GPU"
)
NO_DEVICE = "no CUDA device is visible: run it on a machine with an NVIDIA GPU and its driver (nvidia-smi lists them)"


def leave(script: str, sentence: str) -> NoReturn:
    print(f"{script}: {sentence}", file=sys.stderr)
    raise SystemExit(MISSING)


def missing_gpu() -> str | None:
    """Why nothing can run on a GPU here, or None where it can."""
    if torch.cuda.is_available():
        return None
    return NO_DEVICE if torch.version.cuda else NO_CUDA_BUILD
