"""Seconds until the first posterior, in a new process: with an empty kernel cache, and with a filled one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

SCRIPT = """
import time, torch
start = time.perf_counter()
import emnesy_gpu as em
imported = time.perf_counter()
em.posterior(em.Addition(4), torch.zeros(8, 2, 4, 10), torch.zeros(8, 5, dtype=torch.int64))
print(imported - start, time.perf_counter() - start)
"""


def measure() -> dict[str, float]:
    """import: of emnesy_gpu after torch; cold and warm: import and first posterior together."""
    with tempfile.TemporaryDirectory() as cache:
        _, cold = _first_posterior(cache)
        imported, warm = _first_posterior(cache)
    return {"import": imported, "cold": cold, "warm": warm}


def _first_posterior(cache: str) -> tuple[float, float]:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    output = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    imported, total = map(float, output.stdout.split())
    return imported, total
