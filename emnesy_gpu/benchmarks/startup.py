"""Startup time: seconds until the first posterior in a new process, with an empty and with a filled kernel cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

SCRIPT = """
import sys, time, torch
start = time.perf_counter()
import emnesy_gpu as em
imported = time.perf_counter()
from importlib import import_module
suite = import_module(f"emnesy_gpu.benchmarks.{sys.argv[1]}").SUITE
size = int(sys.argv[2]) if sys.argv[2].isdigit() else sys.argv[2]
problem, logits, label, *_ = suite.inputs(size, 8, torch.device("cpu"))
prepared = time.perf_counter()
em.posterior(problem, logits, label)
print(imported - start, time.perf_counter() - prepared + imported - start)
"""


def measure(suite: str, size: int | str) -> dict[str, float]:
    """Seconds of the import of emnesy_gpu after torch, and of import and first posterior together, cold and warm."""
    with tempfile.TemporaryDirectory() as cache:
        _, cold = _first_posterior(cache, suite, size)
        imported, warm = _first_posterior(cache, suite, size)
    return {"import": imported, "cold": cold, "warm": warm}


def _first_posterior(cache: str, suite: str, size: int | str) -> tuple[float, float]:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, suite, str(size)], env=environment, capture_output=True, text=True, check=True
    )
    imported, total = map(float, output.stdout.split())
    return imported, total
