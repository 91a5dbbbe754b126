"""The times of the E-steps of all problems: in kernels, in a call, and of the host.

    python -m profiling.timings --json timings.json --markdown timings.md
    python -m profiling.timings sudoku sampling --seconds 0.2

Methods of the benchmarks at the sizes and batches of POINTS, each against the copy of its inputs; on a GPU inputs take
turns (Suite.calls_in_turn). *GB/s* are the bytes of logits and marginals over the time in kernels. The tests compare
results with the reference, so that nothing is checked here. Files are written after every line; a line that fails says
why, and the others follow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from emnesy_gpu.benchmarks import clocks
from emnesy_gpu.benchmarks.measure import machine
from profiling.exports import Row, markdown
from profiling.trace import SUITES


class Point(NamedTuple):
    """Methods of a benchmark at some sizes and batches."""

    suite: str
    sizes: tuple[Any, ...]
    batches: tuple[int, ...]
    methods: tuple[str, ...]


EXACT = ("fused", "fused gradient", "fused loss", "softmax", "copy")
POINTS = (
    Point("addition", (4, 15, 100), (64, 1024, 65536), EXACT),
    Point("addition", (15,), (1024,), ("torch EM", "BP-std")),
    Point("addition", (1000,), (1024,), ("fused", "copy")),
    Point("sudoku", (9,), (64, 1024, 4096), ("fused", "pairwise", "copy")),
    Point("sudoku", (4,), (64, 4096), ("exact", "fused loss", "fused")),
    Point("sampling", (1024,), (32, 256), ("fused", "fused local", "fused ESS", "Gibbs 8x20")),
    Point("automaton", (2, 16, 256), (1024,), EXACT),
    Point("circuit", ("permutation-of-8", "sudoku-4x4"), (1024,), EXACT),
    Point("shortest_path", (12, 30), (16,), ("fused", "fused ESS 8", "paths")),
)


NOTHING: Row = {"kernel us": None, "operator us": None, "host us": None, "GB/s": None, "error": None}


def measured(point: Point, size: Any, batch: int, seconds: float, device: torch.device) -> Iterator[Row]:
    """One row for each method; those that an error stops have it in the column *error*."""
    suite = SUITES[point.suite]
    inputs = suite.inputs(size, batch, device)
    calls = suite.calls_in_turn(inputs, device)
    n_bytes = 2 * next(value for value in inputs if isinstance(value, torch.Tensor)).nbytes
    for method in point.methods:
        row: Row = {"benchmark": f"{suite.name}, {suite.size_name} {size}", "batch": float(batch), "method": method}
        try:
            yield row | NOTHING | times(clocks.read_clocks(calls[method], device, seconds), n_bytes)
        except Exception as error:
            # Whatever stops one method is a result, and no reason to lose the others.
            yield row | NOTHING | {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def times(found: clocks.Clocks, n_bytes: int) -> Row:
    kernel = found.kernel
    return {
        "kernel us": None if kernel is None else kernel * 1e6,
        "operator us": found.operator * 1e6,
        "host us": found.host * 1e6,
        "GB/s": n_bytes / (kernel or found.operator) * 1e-9,
    }


def save(options: argparse.Namespace, rows: Sequence[Row], facts: dict[str, object]) -> None:
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(f"Measured on {facts.get('gpu', facts['cpu'])}\n\n{markdown(rows)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="timings", description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each clock of each method")
    parser.add_argument("--most-rows", type=int, default=2**31, help="leave out larger batches")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("json", "markdown"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    facts, rows = machine(device), []
    for point in [point for point in POINTS if point.suite in (options.suites or SUITES)]:
        for size, batch in product(point.sizes, [batch for batch in point.batches if batch <= options.most_rows]):
            for row in measured(point, size, batch, options.seconds, device):
                rows.append(row)
                print(json.dumps(row), flush=True)
                save(options, rows, facts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
