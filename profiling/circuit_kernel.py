"""The CPU kernel of circuits alone, in float32: CPU time of one thread, medians.

    python -m profiling.circuit_kernel

An edge is one term of a node; the kernel plays about three products for it, up and down. Leaves are included; their
share is the time without instructions. Paths of 9x9 underflow in float32: their time counts, their results would be
computed again.

The last two columns leave out the leaves: the tape, and the same instructions with rows that stay in the first cache,
nanoseconds an edge and row. Prints a Markdown table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.circuit import exactly
from emnesy_gpu.benchmarks.measure import medians_in_turns
from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.kernels.cpu.circuit import linear
from emnesy_gpu.kernels.cpu.circuit.program import Program, tape
from emnesy_gpu.kernels.cpu.common.row_driver import Combination, Results
from emnesy_gpu.reference.label_rows import label_rows

BATCH = 64
LANE_ROW_BYTES = 128
FEW_ROWS = 64
"""Of the table: they take 8 KiB."""

HEADER = """| circuit | edges | table MiB | ns a row | ns an edge | leaves % | tape | tape, first cache |
|---|---|---|---|---|---|---|---|"""


def permutation(n: int) -> em.Circuit:
    def step(used: Any, value: Any, position: int) -> Any:
        return np.where(used >> value & 1, -1, used | 1 << value)

    return em.Circuit.from_program(step, n, n, arrays=True)


CIRCUITS: dict[str, Callable[[], Any]] = {
    **{f"permutation of {n}": partial(permutation, n) for n in (8, 12, 14, 15, 16)},
    **{f"{k} of 500": partial(exactly, k, 500) for k in (1, 3, 10)},
    **{f"paths {h}x{w}, edges": partial(em.SimplePaths, h, w) for h, w in ((8, 8), (9, 8), (9, 9))},
}


def without_instructions(program: Program) -> Program:
    """What is left are leaves, and results that mean nothing."""
    return program._replace(n_runs=0)


def with_few_rows(program: Program) -> Program:
    """As many products, of the first rows of the table alone; the results mean nothing."""
    numbers = np.arange(2 * len(program.terms)) % FEW_ROWS
    return program._replace(terms=numbers[::2] | numbers[1::2] << 32)


def kernel(
    problem: Any,
    logits: torch.Tensor,
    label: torch.Tensor,
    lanes: type[np.floating],
    change: Callable[[Program], Program] = lambda program: program,
) -> tuple[Callable[[], object], float]:
    """A call of the kernel on float32 logits, in float32 or float64 lanes, and the MiB of its table."""
    batch, (tables, tape_rows) = len(logits), problem.compiled(logits.device)
    rows = label_rows(label.reshape(batch, -1), CircuitTables(*tables).codes).numpy()
    program, symbols = change(tape(list(tables), tape_rows)), logits.numpy()
    out = Results(np.empty(symbols.shape, np.float32), np.empty(batch, np.float32), np.empty(batch, np.uint8))
    marginals = Combination(prior_share=0.0, factor=1.0)

    def run() -> object:
        return linear.run(program, lanes, marginals, symbols, rows, out)

    return run, program.rows * LANE_ROW_BYTES / 2**20


CHANGES: dict[str, Callable[[Program], Program]] = {
    "all": lambda program: program,
    "leaves": without_instructions,
    "few rows": with_few_rows,
}


def measure(name: str) -> str:
    """One row of the table."""
    problem = CIRCUITS[name]()
    logits = 0.1 * torch.randn(BATCH, problem.graph.n_symbols, problem.cardinality)
    inputs = problem, logits, torch.ones(BATCH, 1, dtype=torch.int64), np.float32
    _, size = kernel(*inputs)
    took = medians_in_turns({way: kernel(*inputs, change)[0] for way, change in CHANGES.items()})
    each, share = took["all"] / BATCH * 1e9, took["leaves"] / took["all"]
    edges = problem.n_edges
    tapes = [f"{(took[way] - took['leaves']) / BATCH / edges * 1e9:.3f}" for way in ("all", "few rows")]
    return f"| {name} | {edges} | {size:.2f} | {each:.0f} | {each / edges:.3f} | {share:.0%} | {' | '.join(tapes)} |"


def main() -> None:
    torch.set_num_threads(1)
    print(HEADER)
    for name in CIRCUITS:
        print(measure(name), flush=True)


if __name__ == "__main__":
    main()
