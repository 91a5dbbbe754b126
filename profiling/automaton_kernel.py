"""The CPU kernel of automata alone, beside the whole call: CPU time of one thread, medians.

    python -m profiling.automaton_kernel [--states 16 64]

The kernel is given its tables, the rows of the label and memory for the results. Everything else that a call does is in
the call's time. The softmax alone brings the logits into lanes of rows and back, with exponentials in between: the
least that the kernel does. An edge is one (state, state, values that lead from one to the other) of a position and row;
a logit is one value of a position and row. Prints a Markdown table.
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
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32
from emnesy_gpu.kernels.cpu.automaton.probabilities import plan_of, run
from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate
from emnesy_gpu.kernels.cpu.common.transpose import TILE, read_columns, write_columns
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


@kernel
def softmax(logits, out, work, n, k):
    """Exponentials of logits [batch, n K], by way of lanes of rows."""
    for first in range(0, len(logits), FLOAT32_LANES):
        last = min(first + FLOAT32_LANES, len(logits)) - 1
        read_columns(logits, first, last, 0, n * k, work, 0)
        for symbol in range(n):
            exponentiate(work, symbol * k, k)
        write_columns(out, first, last, 0, n * k, work, 0)


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
    plan = plan_of(tables, FLOAT32)
    flat, out = logits.numpy().reshape(size.batch, -1), results[0].reshape(size.batch, -1)
    work = scratch(size.symbols * size.values + TILE, np.float32)
    assert run(logits.numpy(), rows, results, plan, 0.0, 1.0) == 0, "a row was left to wider arithmetic"
    return {
        "kernel": lambda: run(logits.numpy(), rows, results, plan, 0.0, 1.0),
        "softmax": lambda: softmax(flat, out, work, size.symbols, size.values),
        "call": lambda: em.posterior(problem, logits, label),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, nargs="*", help="only these numbers of states")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| states | values | symbols | batch | kernel ms | ns an edge | ns a logit | softmax alone | call ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in SIZES:
        if options.states and size.states not in options.states:
            continue
        times = medians_in_turns(calls(size), budget=0.3)
        whole, alone, call = times["kernel"], times["softmax"], times["call"]
        sizes = " | ".join(map(str, size))
        print(f"| {sizes} | {whole * 1e3:.3f} | {whole / size.edges * 1e9:.3f} ", end="")
        print(f"| {whole / size.logits * 1e9:.2f} | {alone / size.logits * 1e9:.2f} | {call * 1e3:.3f} |", flush=True)


if __name__ == "__main__":
    main()
