"""Posteriors of circuits with one thread and with several: wall time of a call, the least of some turns.

    python -m profiling.circuit_threads [--threads 2]

"Of linear" is the time with one thread over that with several, and over their number. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.circuit import CIRCUITS as SMALL
from profiling.circuit_kernel import CIRCUITS as LARGE

TURNS, CALLS = 8, 5
ROWS = {
    "10-of-100": 4096,
    "sudoku-4x4": 4096,
    "permutation-of-12": 4096,
    "permutation of 14": 1024,
    "paths 8x8, edges": 2048,
}


def seconds(call: Callable[[], object], threads: int) -> float:
    """The least of some calls: threads that have slept wake late, which is not so from one call to the next."""
    torch.set_num_threads(threads)
    found = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def measure(name: str, batch: int, threads: int) -> str:
    """One row of the table."""
    problem: Any = (SMALL | LARGE)[name]()
    logits = 0.1 * torch.randn(batch, *problem.latent_shape, problem.cardinality)
    label = problem.encode([True] * batch)
    numbers = 1, threads
    turns = [[seconds(lambda: em.posterior(problem, logits, label), n) for n in numbers] for _ in range(TURNS)]
    one, several = map(min, zip(*turns, strict=True))
    return f"| {name} | {batch} | {one * 1e3:.2f} | {several * 1e3:.2f} | {one / several / threads:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    threads = parser.parse_args().threads
    # Freed at once: results then lie in memory that the process has, as in training, and cause no page faults.
    torch.zeros(1 << 22)
    print(f"| circuit | rows | ms with 1 thread | ms with {threads} | of linear |\n|---|---|---|---|---|")
    for name, batch in ROWS.items():
        print(measure(name, batch, threads), flush=True)


if __name__ == "__main__":
    main()
