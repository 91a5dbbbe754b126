"""Numbers below the smallest normal one as zeros: processors of Intel take more than a hundred cycles for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALLEST = math.ulp(0.0)


@contextmanager
def flushed() -> Iterator[None]:
    """Let this thread take subnormal numbers as zeros, where its processor can do so.

    The work inside must not need them. Where the user has chosen the same for the thread, it stays so.
    """
    if are_flushed():
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def are_flushed() -> bool:
    """Whether this thread takes them as zeros."""
    return SMALLEST * 1.0 == 0.0
