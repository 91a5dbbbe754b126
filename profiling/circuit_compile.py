"""How fast rules become circuits: CPU time from a step function to the tables of the kernels.

    python -m profiling.circuit_compile

The least of three times, after one that is not counted. Prints a Markdown table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import emnesy_gpu as em

ROUNDS = 3


def permutation(n: int, *, arrays: bool) -> em.Circuit:
    def step(used: Any, value: Any, position: int) -> Any:
        return np.where(used >> value & 1, -1, used | 1 << value)

    def scalar(used: int, value: int, position: int) -> int | None:
        return None if used >> value & 1 else used | 1 << value

    return em.Circuit.from_program(step if arrays else scalar, n, n, arrays=arrays)


def sums() -> em.Circuit:
    return em.Circuit.from_program(lambda s, v, i: s + v, 40, 10, finish=lambda s: s)


def knapsack() -> em.Circuit:
    def step(weight: Any, count: Any, position: int) -> Any:
        return weight + count * (position * 37 % 101 + 1)

    return em.Circuit.from_program(step, 60, 4, finish=lambda weight: weight > 2000, arrays=True)


CIRCUITS: dict[str, Callable[[], Any]] = {
    "permutation of 12, arrays": lambda: permutation(12, arrays=True),
    "permutation of 16, arrays": lambda: permutation(16, arrays=True),
    "permutation of 12": lambda: permutation(12, arrays=False),
    "permutation of 14": lambda: permutation(14, arrays=False),
    "sum of 40 digits": sums,
    "knapsack of 60 items, arrays": knapsack,
    "paths 7x7, edges": lambda: em.SimplePaths(7, 7),
    "paths 9x9, edges": lambda: em.SimplePaths(9, 9),
    "paths 10x10, cells": lambda: em.SimplePaths(10, 10, over="cells"),
}


def seconds(make: Callable[[], Any]) -> float:
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        make()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    print("| circuit | edges | CPU s | million edges a second |\n|---|---|---|---|")
    for name, make in CIRCUITS.items():
        edges, took = make().n_edges, seconds(make)
        print(f"| {name} | {edges} | {took:.3f} | {edges / took / 1e6:.2f} |", flush=True)


if __name__ == "__main__":
    main()
