"""The ``bench`` and ``doctor`` commands."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

POSITIVE = click.IntRange(min=1)


@click.group()
def bench() -> None:
    """Measure time and memory against baselines, in one process, as medians."""


def measured(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every benchmark has."""
    options = [
        click.option("--batch", type=POSITIVE, multiple=True, help="Rows per batch; repeat it. [default: several]"),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--threads", type=POSITIVE, default=1, show_default=True, help="CPU threads, for every method."),
        click.option("--seconds", type=float, default=0.5, show_default=True, help="Time to spend on each figure."),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON and a picture."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@bench.command()
@click.option(
    "--digits", type=POSITIVE, multiple=True, help="Digits per number; repeat it.  [default: 1 4 15 100 1000]"
)
@measured
def addition(digits: tuple[int, ...], **options: Any) -> None:
    """The E-step of addition: fused kernels, unfused torch, BP-std by autograd, softmax, and a plain copy.

    Every result is checked against the float64 reference before it is timed. Peak memory is counted above the inputs
    and above what was in use before: up to 512 KiB of scratch that a CPU thread keeps between calls do not count.
    """
    _run("addition", digits, **options)


@bench.command()
@click.option("--size", type=click.Choice(["4", "9"]), multiple=True, help="Board size; repeat it.  [default: 4 9]")
@measured
def sudoku(size: tuple[str, ...], **options: Any) -> None:
    """The E-step of Sudoku: fused belief propagation, pairwise factors, unfused torch, BP-std by autograd, a copy.

    Size 4 also has the exact engine. Every result is checked against the float64 reference before it is timed.
    """
    _run("sudoku", tuple(map(int, size)), **options)


@bench.command()
@click.option(
    "--size", type=click.IntRange(2, 40), multiple=True, help="Side of the maps; repeat it.  [default: 12 30]"
)
@measured
def paths(size: tuple[int, ...], **options: Any) -> None:
    """The E-step of shortest paths: fused samples of maps, batched torch, SciPy's Dijkstra, a copy.

    Samples are checked against the reference, and costs against each other, before anything is timed.
    """
    _run("shortest_path", size, **options)


@bench.command()
@click.option("--samples", type=POSITIVE, multiple=True, help="Samples per board; repeat it.  [default: 256 1024]")
@measured
def sampling(samples: tuple[int, ...], **options: Any) -> None:
    """The E-step of 9x9 Sudoku by samples: fused, by groups, pairs and cell, torch in two ways, Gibbs chains, a copy.

    Results are checked against the reference, on the same few samples, before anything is timed.
    """
    _run("sampling", samples, **options)


def _run(
    name: str,
    sizes: tuple[int, ...],
    batch: tuple[int, ...],
    device: str,
    threads: int,
    seconds: float,
    out: Path | None,
) -> None:
    import torch

    from emnesy_gpu.benchmarks import measure, report, startup, suite

    torch.set_num_threads(threads)
    chosen: suite.Suite = import_module(f"emnesy_gpu.benchmarks.{name}").SUITE
    measurements = list(suite.run(chosen, sizes, batch, device, seconds))
    facts = measure.machine(torch.device(device))
    first = startup.measure(name, measurements[0].size)
    report.show(chosen, measurements, facts, first)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report.write_json(out / f"{name}.json", measurements, facts, first)
        report.write_plot(out / f"{name}.png", chosen, measurements, facts)
        click.echo(f"written to {out}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Versions, devices, the back end of every op, and a self-check of each."""
    from emnesy_gpu import doctor

    ctx.exit(doctor.run(as_json))
