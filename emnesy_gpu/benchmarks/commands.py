"""The commands ``emnesy bench`` and ``emnesy doctor``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emnesy_gpu.doctor import SUMMARY

if TYPE_CHECKING:
    from emnesy_gpu.benchmarks.suite import Suite

POSITIVE = click.IntRange(min=1)
POSITIVE_SECONDS = click.FloatRange(min=0, min_open=True)


@click.group(short_help="Measure time and memory against baselines.")
def bench() -> None:
    """Measure time and memory of E-steps against baselines, in one process; times are medians."""


def available(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the name of a device that PyTorch finds, or refuse it."""
    import torch

    if value == "cpu":
        return value
    if not re.fullmatch(r"cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is none of cpu, cuda and cuda:N", ctx, parameter)
    found = torch.cuda.device_count()
    if int(value.partition(":")[2] or 0) >= found:
        raise click.BadParameter(f"PyTorch finds {found} CUDA devices, see emnesy doctor", ctx, parameter)
    return value


def check_names(option: str, names: Collection[str], known: Collection[str]) -> None:
    """Refuse a name that is not known."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint=option)


def measured(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every benchmark has."""
    options = [
        click.option(
            "--batch", type=POSITIVE, multiple=True, help="Rows per batch; may be repeated.  [default: several]"
        ),
        click.option(
            "--device", callback=available, default="cpu", show_default=True, help="Device: cpu, cuda or cuda:N."
        ),
        click.option("--threads", type=POSITIVE, default=1, show_default=True, help="CPU threads of every method."),
        click.option(
            "--seconds",
            type=POSITIVE_SECONDS,
            default=0.5,
            show_default=True,
            help="Seconds to spend on each figure.",
        ),
        click.option(
            "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for a JSON file and a picture."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@bench.command(short_help="Measure the E-step of addition.")
@click.option(
    "--digits", type=POSITIVE, multiple=True, help="Digits per number; may be repeated.  [default: 1 4 15 100 1000]"
)
@measured
def addition(digits: tuple[int, ...], **options: Any) -> None:
    """Measure the E-step of addition: fused kernels, unfused torch, BP-std by autograd, softmax, and a plain copy.

    Every result is checked against the float64 reference before it is timed. Peak memory is counted above the inputs
    and above what was in use before. The scratch that a CPU thread keeps between calls counts.
    """
    from emnesy_gpu.benchmarks.addition import SUITE

    _run(SUITE, digits, **options)


@bench.command(short_help="Measure the E-step of automata.")
@click.option("--states", type=POSITIVE, multiple=True, help="States; may be repeated.  [default: 2 4 16 64 256]")
@measured
def automaton(states: tuple[int, ...], **options: Any) -> None:
    """Measure the E-step of automata: fused kernels, messages in torch, BP-std by autograd, softmax, and a plain copy.

    The label is the sum of 100 symbols modulo the number of states. Every result is checked against the float64
    reference before it is timed. Peak memory is counted as for addition.
    """
    from emnesy_gpu.benchmarks.automaton import SUITE

    _run(SUITE, states, **options)


@bench.command(short_help="Measure the E-step of Sudoku.")
@click.option(
    "--size", type=click.Choice(["4", "9"]), multiple=True, help="Rows of a board; may be repeated.  [default: 4 9]"
)
@measured
def sudoku(size: tuple[str, ...], **options: Any) -> None:
    """Measure the E-step of Sudoku: fused belief propagation, pairwise factors, unfused torch, BP-std, and a copy.

    BP-std is differentiated by autograd. Size 4 also has the exact engine. Every result is checked against the float64
    reference before it is timed.
    """
    from emnesy_gpu.benchmarks.sudoku import SUITE

    _run(SUITE, tuple(map(int, size)), **options)


@bench.command(short_help="Measure the E-step of shortest paths.")
@click.option(
    "--size", type=click.IntRange(2, 40), multiple=True, help="Side of the maps; may be repeated.  [default: 12 30]"
)
@measured
def paths(size: tuple[int, ...], **options: Any) -> None:
    """Measure the E-step of shortest paths: fused samples of maps, batched torch, SciPy's Dijkstra, and a copy.

    Samples are checked against the reference, and costs against each other, before anything is timed.
    """
    from emnesy_gpu.benchmarks.shortest_path import SUITE

    _run(SUITE, size, **options)


@bench.command(short_help="Measure the E-step of Sudoku by samples.")
@click.option(
    "--samples", type=POSITIVE, multiple=True, help="Samples per board; may be repeated.  [default: 256 1024]"
)
@measured
def sampling(samples: tuple[int, ...], **options: Any) -> None:
    """Measure the E-step of 9x9 Sudoku by samples: fused kernels, torch in two ways, Gibbs chains, and a copy.

    The fused kernels weigh samples by groups, by pairs, and cell by cell. Results are checked against the reference,
    on the same few samples, before anything is timed.
    """
    from emnesy_gpu.benchmarks.sampling import SUITE

    _run(SUITE, samples, **options)


@bench.command(name="factor-graph", short_help="Measure belief propagation on factor graphs.")
@click.option("--graph", "names", multiple=True, help="Name of a graph; may be repeated.  [default: all]")
@measured
def factor_graph(names: tuple[str, ...], **options: Any) -> None:
    """Measure belief propagation on factor graphs: fused kernels, plain torch, PGMax, pgmpy, pyAgrum, ldpc, and a copy.

    The graphs are grid-10-of-2, grid-50-of-2, grid-8-of-8, cycle-100-of-4, bipartite-50, tree-63-of-3, roster-14 and
    code-504. Every method takes 20 sweeps. The other packages take part where they are installed. Beliefs are checked
    against float64 before they are timed.
    """
    from emnesy_gpu.benchmarks.factor_graph import SUITE

    check_names("--graph", names, SUITE.sizes)
    _run(SUITE, names, **options)


@bench.command(short_help="Measure the E-step of circuits.")
@click.option("--circuit", "names", multiple=True, help="Name of a circuit; may be repeated.  [default: all]")
@measured
def circuit(names: tuple[str, ...], **options: Any) -> None:
    """Measure the E-step of circuits: fused kernels, torch level by level, KLay, PySDD, softmax, and a copy.

    The circuits are permutation-of-8, permutation-of-12, sudoku-4x4, 10-of-100, and the .sdd files in the folder that
    EMNESY_CIRCUITS names, without their ending. KLay and PySDD take part where they are installed. Every result is
    checked against the float64 reference before it is timed.
    """
    from emnesy_gpu.benchmarks.circuit import SUITE

    check_names("--circuit", names, SUITE.sizes)
    _run(SUITE, names, **options)


@bench.command(short_help="Measure one call with few rows.")
@click.option("--op", "names", multiple=True, help="Name of a case; may be repeated.  [default: all]")
@click.option("--batch", type=POSITIVE, multiple=True, help="Rows; may be repeated.  [default: 1 4 16 64 256]")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="CPU threads of every method.")
@click.option("--seconds", type=POSITIVE_SECONDS, default=0.05, show_default=True, help="Seconds for each figure.")
@click.option(
    "--before",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="latency.json of an earlier run, to show beside this one.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for a JSON file and a picture.")
def latency(
    names: tuple[str, ...], batch: tuple[int, ...], threads: int, seconds: float, before: Path | None, out: Path | None
) -> None:
    """Measure the CPU time of one call of every op with few rows, with and without checks, against plain C++ and JAX.

    The methods take turns in one process. C++ takes part where there is a compiler, JAX where it is installed, and
    every result is compared before it is timed. Losses stand beside the posterior of the same rows.
    """
    import torch

    from emnesy_gpu.benchmarks import measure
    from emnesy_gpu.benchmarks.latency import run
    from emnesy_gpu.benchmarks.latency.cases import CASES

    check_names("--op", names, CASES)
    torch.set_num_threads(threads)
    earlier = {} if before is None else run.read_before(before)
    facts = measure.machine(torch.device("cpu"))
    found = list(run.run(names or CASES, batch or run.BATCHES, seconds))
    run.show(found, facts, earlier)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        run.write_json(out / "latency.json", found, facts)
        run.write_picture(out / "latency.png", found, facts, earlier)
        click.echo(f"written to {out}")


def _run(chosen: Suite, sizes: tuple[Any, ...], *, threads: int, out: Path | None, **options: Any) -> None:
    """Run a suite and show its figures; options are batch, device and seconds."""
    import torch

    from emnesy_gpu.benchmarks import measure, report, startup, suite

    torch.set_num_threads(threads)
    n_figures = len(sizes or chosen.sizes) * len(options["batch"] or chosen.batches) * len(chosen.methods)
    click.echo(f"{chosen.title}: memory first, then time, at most {n_figures} figures", err=True)
    measured = suite.run(chosen, sizes, options["batch"], options["device"], options["seconds"])
    with click.progressbar(measured, n_figures, "timed", file=sys.stderr) as bar:
        measurements = list(bar)
    facts = measure.machine(torch.device(options["device"]))
    first = startup.measure(chosen.name, measurements[0].size)
    report.show(chosen, measurements, facts, first)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report.write_json(out / f"{chosen.name}.json", measurements, facts, first)
        report.write_plot(out / f"{chosen.name}.png", chosen, measurements, facts)
        click.echo(f"written to {out}")


@click.command(short_help=SUMMARY)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show versions, devices and the back end of every op, and test every back end that can run here."""
    from emnesy_gpu import doctor

    ctx.exit(doctor.run(as_json))
