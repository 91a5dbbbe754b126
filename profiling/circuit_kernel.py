"""The CPU kernel of circuits alone, in float32: CPU time of one thread, medians.

    python -m profiling.circuit_kernel

An edge is one term of a node; the kernel plays about three products for it, up and down. Leaves are included; their
share is the time without instructions. Paths of 9x9 underflow in float32: their time counts, their results would be
computed again. Prints a Markdown table.
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
from emnesy_gpu.kernels.cpu.circuit.program import tape
from emnesy_gpu.kernels.cpu.common.row_driver import Combination, Results
from emnesy_gpu.reference.label_rows import label_rows

BATCH = 64
LANE_ROW_BYTES = 128


def permutation(n: int) -> em.Circuit:
    def step(used: Any, value: Any, position: int) -> Any:
        return np.where(used >> value & 1, -1, used | 1 << value)

    return em.Circuit.from_program(step, n, n, arrays=True)


CIRCUITS: dict[str, Callable[[], Any]] = {
    **{f"permutation of {n}": partial(permutation, n) for n in (8, 12, 14, 15, 16)},
    **{f"{k} of 500": partial(exactly, k, 500) for k in (1, 3, 10)},
    **{f"paths {h}x{w}, edges": partial(em.SimplePaths, h, w) for h, w in ((8, 8), (9, 8), (9, 9))},
}


def kernel(
    problem: Any, logits: torch.Tensor, label: torch.Tensor, lanes: type[np.floating], *, leaves_alone: bool = False
) -> tuple[Callable[[], object], float]:
    """A call of the kernel on float32 logits, in float32 or float64 lanes, and the MiB of its table.

    leaves_alone: it plays no instruction, and what it returns means nothing.
    """
    batch, (tables, tape_rows) = len(logits), problem.compiled(logits.device)
    rows = label_rows(label.reshape(batch, -1), CircuitTables(*tables).codes).numpy()
    program, symbols = tape(list(tables), tape_rows), logits.numpy()
    program = program._replace(n_runs=0) if leaves_alone else program
    out = Results(np.empty(symbols.shape, np.float32), np.empty(batch, np.float32), np.empty(batch, np.uint8))
    marginals = Combination(prior_share=0.0, factor=1.0)

    def run() -> object:
        return linear.run(program, lanes, marginals, symbols, rows, out)

    return run, program.rows * LANE_ROW_BYTES / 2**20


def main() -> None:
    torch.set_num_threads(1)
    print("| circuit | edges | table MiB | ns a row | ns an edge | leaves % |\n|---|---|---|---|---|---|")
    for name, make in CIRCUITS.items():
        problem = make()
        logits = 0.1 * torch.randn(BATCH, problem.graph.n_symbols, problem.cardinality)
        inputs = problem, logits, torch.ones(BATCH, 1, dtype=torch.int64), np.float32
        (run, size), (leaves, _) = kernel(*inputs), kernel(*inputs, leaves_alone=True)
        took = medians_in_turns({"all": run, "leaves": leaves})
        each, share = took["all"] / BATCH * 1e9, took["leaves"] / took["all"]
        print(
            f"| {name} | {problem.n_edges} | {size:.2f} | {each:.0f} | {each / problem.n_edges:.3f} | {share:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
