"""Belief propagation on factor graphs against other packages: CPU time, in turns in one process, medians.

    python -m profiling.factor_graph_rivals [--cell grid-10-of-2/256 ...] [--methods fused PGMax] [--turns 9]
    python -m profiling.factor_graph_rivals --sweeps
    python -m profiling.factor_graph_rivals --code

CPU time is that of all threads of the process, so a method does not gain from threads. The packages take part where
they are installed (pip install "emnesy_gpu[rivals]"). Prints a Markdown table: 20 flooding sweeps, and how many times
as long the others take; with --sweeps ours alone, without the call around them; or with --code decoders of a
(504, 252) code, up to 50 sweeps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch

import emnesy_gpu as em
from emnesy_gpu.baselines import factor_graph_peers as peers
from emnesy_gpu.benchmarks import factor_graph as benchmark
from emnesy_gpu.benchmarks.factor_graph import CODE_BITS, SWEEPS, Model
from emnesy_gpu.benchmarks.measure import TURNS, medians_in_turns

SCHEDULES = "flooding", "serial"
METHODS = "fused", "fused serial", "torch", "PGMax", "pyAgrum"
RATES, FRAMES, MOST_SWEEPS = (1.5, 2.0, 2.5), 512, 50


class Cell(NamedTuple):
    """A graph and a batch."""

    make: Callable[[], Model]
    batch: int


def _cells() -> dict[str, Cell]:
    grids = [(10, 2, 1), (50, 2, 1), (100, 2, 1), (10, 2, 256), (50, 2, 32), (100, 2, 32)]
    grids += [(8, 8, 1), (30, 8, 1), (8, 32, 1), (8, 8, 32), (30, 8, 8), (8, 32, 8)]
    found = {f"grid-{n}-of-{k}/{batch}": Cell(partial(benchmark.grid, n, k), batch) for n, k, batch in grids}
    found |= {f"cycle-100-of-4/{batch}": Cell(partial(benchmark.cycle, 100, 4), batch) for batch in (1, 32, 1024)}
    found |= {f"bipartite-{n}/32": Cell(partial(benchmark.bipartite, n), 32) for n in (50, 250)}
    found |= {f"tree-63-of-3/{batch}": Cell(partial(benchmark.tree, 63, 3), batch) for batch in (1, 32)}
    return found | {f"roster-14/{batch}": Cell(partial(benchmark.roster, 14, 4), batch) for batch in (1, 32, 1024)}


CELLS = _cells()
"""Name -> cell. With more values or rows PGMax takes seconds a call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", nargs="*", choices=CELLS, default=list(CELLS), metavar="CELL")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS, metavar="METHOD", help="with fused")
    parser.add_argument("--turns", type=int, default=TURNS, help="calls of each method, at least")
    parser.add_argument("--sweeps", action="store_true", help="our sweeps alone")
    parser.add_argument("--code", action="store_true", help="decode frames, in place of the cells")
    parser.add_argument("--rate", nargs="*", type=float, default=RATES, metavar="DB", help="noise of frames, Eb/N0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.code:
        compare_decoders(options.rate, options.turns)
    elif options.sweeps:
        compare_sweeps(options.cell, options.turns)
    else:
        compare_beliefs(options.cell, options.methods, options.turns)


def compare_sweeps(names: Sequence[str], turns: int) -> None:
    """Print a row for each cell: ns of a message, value, sweep and row, by a call of many sweeps less one of none."""
    print(f"| graph / rows | {' | '.join(SCHEDULES)} |")
    print("|---" * (len(SCHEDULES) + 1) + "|")
    for name in names:
        found, batch = CELLS[name].make(), CELLS[name].batch
        logits, label = inputs_of(found, batch)
        calls = {
            f"{schedule} {sweeps}": partial(
                em.posterior, found.graph, logits, label, em.BeliefPropagation(sweeps, schedule=schedule)
            )
            for schedule in SCHEDULES
            for sweeps in (SWEEPS, 0)
        }
        times = medians_in_turns(calls, n_turns=turns)
        entries = batch * SWEEPS * found.n_edges * found.graph.cardinality
        each = [1e9 * (times[f"{name} {SWEEPS}"] - times[f"{name} 0"]) / entries for name in SCHEDULES]
        print(f"| {name} | {' | '.join(f'{ns:.2f}' for ns in each)} |", flush=True)


def inputs_of(found: Model, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a net that has learned nothing, and labels: all factors hold."""
    shape = batch, found.graph.n_variables, found.graph.cardinality
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.ones(batch, dtype=torch.int64)


def compare_beliefs(names: Sequence[str], methods: Sequence[str], turns: int) -> None:
    """Print a row for each cell; the others are measured against "fused"."""
    others = [method for method in methods if method != "fused"]
    print(f"| graph / rows | fused ms | ns | {' | '.join(f'x {name}' for name in others)} | error |")
    print("|---" * (len(others) + 4) + "|")
    for name in names:
        found, batch = CELLS[name].make(), CELLS[name].batch
        graph = found.graph
        arguments = graph, *inputs_of(found, batch), found.factors
        error = max(benchmark.errors(*arguments).values())
        calls = benchmark.calls(*arguments)
        times = medians_in_turns(
            {method: calls[method] for method in ("fused", *others) if method in calls}, n_turns=turns
        )
        fused = times["fused"]
        ns = 1e9 * fused / (batch * SWEEPS * found.n_edges * graph.cardinality)
        ratios = " | ".join(f"{times[method] / fused:.1f}" if method in times else "-" for method in others)
        print(f"| {name} | {1e3 * fused:.3f} | {ns:.2f} | {ratios} | {error:.0e} |", flush=True)


def compare_decoders(rates: Sequence[float], turns: int) -> None:
    """Print a row for each rate: microseconds a frame, sweeps, and words that are wrong."""
    found = benchmark.code()
    label = torch.ones(FRAMES, dtype=torch.int64)
    print(
        "| Eb/N0 dB | decoder | us a frame | sweeps | us a frame and sweep | wrong words |\n|---|---|---|---|---|---|"
    )
    for decibels in rates:
        logits = benchmark.received(FRAMES, decibels, torch.Generator().manual_seed(1))
        for name, engine in decoders().items():
            call = partial(em.posterior, found.graph, logits, label, engine)
            post = call()
            sweeps, wrong = post.info["iterations"].double().mean(), post.marginals.argmax(-1).any(1)
            _print_decoder(decibels, name, medians_in_turns({name: call}, n_turns=turns)[name], float(sweeps), wrong)
        if find_spec("ldpc"):
            decode = peers.ldpc(found.factors.scopes, CODE_BITS, MOST_SWEEPS)
            bits, done = decode(logits)
            time = medians_in_turns({"ldpc": partial(decode, logits)}, n_turns=turns)["ldpc"]
            _print_decoder(decibels, "ldpc", time, float(done.double().mean()), bits.any(1))


def decoders() -> dict[str, em.BeliefPropagation]:
    """Name -> engine: all sweeps, and with rows that stop once they have converged."""
    return {
        f"{schedule}, {words}": em.BeliefPropagation(MOST_SWEEPS, schedule=schedule, tolerance=tolerance)
        for schedule in SCHEDULES
        for words, tolerance in (("all sweeps", 0.0), ("tolerance 0.01", 1e-2))
    }


def _print_decoder(decibels: float, name: str, seconds: float, sweeps: float, wrong: torch.Tensor) -> None:
    frame = 1e6 * seconds / FRAMES
    print(
        f"| {decibels} | {name} | {frame:.1f} | {sweeps:.1f} | {frame / sweeps:.2f} | {wrong.double().mean():.4f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
