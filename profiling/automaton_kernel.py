"""The CPU kernel of automata alone, beside the whole call: CPU time of one thread, medians.

    python -m profiling.automaton_kernel [--states 16 64]

The kernel is given its tables, the rows of the label and memory for the results. Everything else that a call does is in
the second time. An edge is one (state, state, values that lead from one to the other) of a position and row; a logit is
one value of a position and row. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.measure import medians_in_turns
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, graph
from emnesy_gpu.kernels.cpu.automaton.linear import run
from emnesy_gpu.reference.label_rows import label_rows


class Size(NamedTuple):
    """An automaton whose state is the sum of its symbols modulo the number of states."""

    states: int
    values: int
    symbols: int
    batch: int

    @property
    def edges(self) -> int:
        return self.states * min(self.values, self.states) * self.symbols * self.batch

    @property
    def logits(self) -> int:
        return self.values * self.symbols * self.batch


SIZES = (
    Size(16, 10, 8, 1024),
    Size(16, 10, 100, 64),
    Size(16, 10, 100, 1024),
    Size(16, 10, 1000, 64),
    Size(16, 26, 100, 1024),
    Size(64, 2, 100, 256),
    Size(64, 10, 100, 1024),
    Size(64, 26, 100, 64),
    Size(256, 10, 100, 64),
    Size(4, 10, 100, 1024),
    Size(4, 10, 1000, 1024),
    Size(4, 4, 100, 1024),
    Size(2, 10, 8, 1024),
    Size(2, 2, 100, 1024),
)


def calls(size: Size) -> dict[str, Callable[[], object]]:
    problem = em.Automaton(
        lambda s, v: (s + v) % size.states, start=0, label=lambda s: s, n_symbols=size.symbols, cardinality=size.values
    )
    generator = torch.Generator().manual_seed(size.states)
    logits = torch.randn(size.batch, size.symbols, size.values, generator=generator)
    label = torch.randint(size.states, (size.batch,), generator=generator)
    tables = list(problem.tables(logits.device))
    rows = label_rows(label[:, None], AutomatonTables(*tables).codes).numpy()
    results = (
        np.empty(logits.shape, np.float32),
        np.empty(size.batch, np.float32),
        np.empty(size.batch, np.uint8),
    )
    g = graph(tables, FLOAT32)
    assert run(logits.numpy(), rows, results, g, 0.0, 1.0) == 0, "a row was left to wider arithmetic"
    return {
        "kernel": lambda: run(logits.numpy(), rows, results, g, 0.0, 1.0),
        "call": lambda: em.posterior(problem, logits, label),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, nargs="*", help="only these numbers of states")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| states | values | symbols | batch | kernel ms | ns an edge | ns a logit | call ms |")
    print("|---|---|---|---|---|---|---|---|")
    for size in SIZES:
        if options.states and size.states not in options.states:
            continue
        times = medians_in_turns(calls(size), budget=0.3)
        kernel, call = times["kernel"], times["call"]
        sizes = " | ".join(map(str, size))
        print(f"| {sizes} | {kernel * 1e3:.3f} | {kernel / size.edges * 1e9:.3f} ", end="")
        print(f"| {kernel / size.logits * 1e9:.2f} | {call * 1e3:.3f} |", flush=True)


if __name__ == "__main__":
    main()
