"""Measurements of the cases, and their table and picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emnesy_gpu.benchmarks.latency.cases import CASES, METHODS, SWEEPS
from emnesy_gpu.benchmarks.measure import medians_in_turns
from emnesy_gpu.benchmarks.suite import LARGEST_ERROR, Calls
from emnesy_gpu.palette import add_legend, new_figure, series

BATCHES = (1, 4, 16, 64, 256)
Before = dict[tuple[str, int], float]
"""Seconds of ``call`` by name and batch, of an earlier run."""


@dataclass(frozen=True)
class Latency:
    """Seconds of one call of each method."""

    case: str
    batch: int
    seconds: dict[str, float]


def run(names: Iterable[str], batches: Iterable[int], budget: float) -> Iterator[Latency]:
    """Yield the figures of every case and batch.

    Raises ArithmeticError, before anything is timed, where a method differs from ``call`` by LARGEST_ERROR or more.
    """
    for name in names:
        for batch in batches:
            calls = CASES[name](batch)
            if not name.endswith("-loss"):
                _compare(name, calls)
            yield Latency(name, batch, medians_in_turns(calls, budget))


def _compare(name: str, calls: Calls) -> None:
    expected = calls["call"]().double()
    for method, call in calls.items():
        error = float((call().double() - expected).abs().max())
        if not error < LARGEST_ERROR:
            raise ArithmeticError(f"{method} differs from ours by {error} in {name}: not timed")


def table(found: Sequence[Latency], facts: dict[str, object], before: Before) -> Table:
    """Microseconds of every method, and how many times as long as the fastest rival the call takes."""
    view = Table(title=f"One call, us of CPU time, {facts['threads']} thread(s), medians")
    columns = ["call", *(["before"] if before else []), *(name for name in METHODS if name != "call")]
    for column in ("op", "batch", *columns, "call / C++", "call / JAX", "call / posterior"):
        view.add_column(column, justify="left" if column == "op" else "right")
    for latency in found:
        seconds = dict(latency.seconds)
        if (latency.case, latency.batch) in before:
            seconds["before"] = before[latency.case, latency.batch]
        ratios = [_ratio(seconds["call"], seconds.get(name)) for name in ("C++", "JAX", "posterior")]
        cells = [f"{seconds[name] * 1e6:.1f}" if name in seconds else "-" for name in columns]
        view.add_row(latency.case, str(latency.batch), *cells, *ratios, end_section=latency.batch == found[-1].batch)
    return view


def _ratio(seconds: float, other: float | None) -> str:
    return "-" if other is None else f"{seconds / other:.2f}"


def write_json(path: Path, found: Sequence[Latency], facts: dict[str, object]) -> None:
    path.write_text(json.dumps({"machine": facts, "latencies": [asdict(each) for each in found]}, indent=1) + "\n")


def read_before(path: Path) -> Before:
    """The calls of a file that ``write_json`` wrote."""
    latencies = json.loads(path.read_text())["latencies"]
    return {(each["case"], each["batch"]): each["seconds"]["call"] for each in latencies}


def write_picture(path: Path, found: Sequence[Latency], facts: dict[str, object], before: Before) -> None:
    """Time of a call over the batch, a panel for each case; a method looks the same in all panels."""
    names = list(dict.fromkeys(each.case for each in found))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.4 * columns, 3.0 * rows + 0.8)
    axes = figure.subplots(rows, columns, squeeze=False)
    for name, axis in zip(names, axes.flat, strict=False):
        for number, (method, points) in enumerate(_lines(found, before, name).items()):
            if points:
                times = [1e6 * seconds for seconds in points.values()]
                axis.plot(list(points), times, markersize=4, label=method, **series(number))
        axis.set(xscale="log", yscale="log", title=name, xlabel="rows", ylabel="CPU time, us")
        batches = sorted({each.batch for each in found if each.case == name})
        axis.set_xticks(batches, labels=map(str, batches))
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    add_legend(figure, columns=5)
    figure.suptitle(f"One call, {facts['cpu']}, {facts['threads']} thread(s), torch {facts['torch']}", wrap=True)
    figure.savefig(path, dpi=130)


def _lines(found: Sequence[Latency], before: Before, case: str) -> dict[str, dict[int, float]]:
    """Method -> batch -> seconds of a case; empty for methods that were not measured."""
    own = [each for each in found if each.case == case]
    lines = {method: {each.batch: each.seconds[method] for each in own if method in each.seconds} for method in METHODS}
    return lines | {"before": {batch: seconds for (name, batch), seconds in before.items() if name == case}}


def show(found: Sequence[Latency], facts: dict[str, object], before: Before) -> None:
    """Print the table and the meaning of each method."""
    console = Console(width=150)
    console.print(table(found, facts, before))
    for name, meaning in METHODS.items():
        console.print(f"{name:>10}  {meaning}")
    console.print(f"sudoku-9-bp: {SWEEPS} sweeps; sudoku-9-gibbs: 8 chains of 20 sweeps")
