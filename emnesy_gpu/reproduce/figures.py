"""Records of finished experiments as figures; a figure without records is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from emnesy_gpu.palette import add_legend
from emnesy_gpu.reproduce import summaries
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.rows import outcome
from emnesy_gpu.reproduce.summaries import Record, Variant, done, mean, numbers
from emnesy_gpu.reproduce.systems import systems
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.task import EStepBenchmark

MIB = 2.0**20
WIDTH = 8.0
DPI = 200
"""Twice the pixels of a README column of 800."""

STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
}
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
FAINT, BAND = 0.25, 0.1
"""Opacity of what stands behind the main thing, and of bands, of which many overlap."""

BANDS = "mean of the seeds in a band from the worst to the best; the marker is the last evaluation"

Groups = dict[Variant, list[Record]]


def write(records: list[Record], folder: Path) -> list[Path]:
    """Write PNG files of what the records hold; returns their paths.

    time_and_memory: one E-step over the number of digits. accuracy_against_minutes: learning curves over CPU time.
    e_step_share: seconds of the two steps per epoch. multi_m: learning curves by the number of M-steps.
    systems: our default, re-implementations of other systems and published figures; these stand in no other figure.
    """
    own = [record for record in records if not summaries.is_of_others(record)]
    drawings: dict[str, tuple[Callable[[list[Record]], Any], list[Record]]] = {
        "time_and_memory": (time_and_memory, own),
        "accuracy_against_minutes": (accuracy_against_minutes, own),
        "e_step_share": (e_step_share, own),
        "multi_m": (multi_m, own),
        "systems": (systems, records),
    }
    paths = []
    with require("matplotlib").rc_context(STYLE):
        for name, (draw, shown) in drawings.items():
            figure = draw(shown)
            if figure is not None:
                paths.append(folder / f"{name}.png")
                _save(figure, paths[-1])
    return paths


def _save(figure: Any, path: Path) -> None:
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=DPI))


def time_and_memory(records: list[Record]) -> Any | None:
    """Draw single E-steps at the largest batch with a fused measurement, with the ratio of BP-std to fused.

    The first task with a figure title and with measurements is drawn.
    """
    measured = summaries.e_steps(records)
    for task in TASKS.values():
        benchmark = task.protocol.e_step
        if benchmark is not None and benchmark.figure_title is not None:
            ours = {e_step: found for e_step, found in measured.items() if e_step.task == task.name}
            fused = [one.batch for one, found in ours.items() if done(filter(None, [found.get(benchmark.fused)]))]
            if fused:
                by_size = {e_step.size: found for e_step, found in ours.items() if e_step.batch == max(fused)}
                return _draw_e_steps(benchmark, max(fused), by_size)
    return None


def _draw_e_steps(benchmark: EStepBenchmark, batch: int, by_size: dict[int, dict[str, Record]]) -> Any:
    figure = _figure(3.9)
    panels = (("seconds", 1e3, "time of one E-step, ms"), ("peak_bytes", 1 / MIB, "peak memory of one E-step, MiB"))
    for axes, (field, scale, name) in zip(figure.subplots(1, 2), panels, strict=True):
        curves = {method: _points(by_size, method, field, scale) for method in ("bp-std", "torch", benchmark.fused)}
        for method, points in curves.items():
            if points:
                style = METHODS[method]
                axes.plot(*zip(*points.items(), strict=True), color=style.colour, marker=style.marker, label=style.name)
                _explain_end(axes, method, points, by_size)
        axes.set(xscale="log", yscale="log", xlabel=benchmark.size_meaning, title=name)
        _label_sizes(axes, sorted(by_size))
        _label_ratios(axes, curves["bp-std"], curves[benchmark.fused], METHODS[benchmark.fused].colour)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    facts = next(found[benchmark.fused] for found in by_size.values() if benchmark.fused in found).get("machine") or {}
    where = facts.get("gpu") or facts.get("cpu")
    machine = f", {where}" if where else ""
    title = f"{benchmark.figure_title}, batch {batch}{machine}; figures in blue: BP-std / fused"
    figure.suptitle(title, fontsize=10)
    return figure


def _points(by_size: dict[int, dict[str, Record]], method: str, field: str, scale: float) -> dict[int, float]:
    """Return size -> value, without zeros, which have no place on a logarithmic axis."""
    found = {size: done([methods[method]]) for size, methods in sorted(by_size.items()) if method in methods}
    return {size: scale * record[field] for size, records in found.items() for record in records if record.get(field)}


def _explain_end(axes: Any, method: str, points: dict[int, float], by_size: dict[int, dict[str, Record]]) -> None:
    """Say why a curve ends before the last size."""
    last = max(points)
    later = [(size, methods.get(method, methods.get(""))) for size, methods in sorted(by_size.items()) if size > last]
    reasons = [f"{size}: {outcome(record)}" for size, record in later if record and outcome(record)]
    if reasons:
        text = reasons[0].partition(" (")[0]
        style = {"color": METHODS[method].colour, "fontsize": 8, "ha": "right"}
        axes.annotate(text, (last, points[last]), (-6, 6), textcoords="offset points", **style)


def _label_ratios(axes: Any, slow: dict[int, float], fast: dict[int, float], colour: str) -> None:
    """Write under the points of ``fast`` how many times less they are than those of ``slow``."""
    for size in slow.keys() & fast.keys():
        text = f"{slow[size] / fast[size]:.0f}x" if slow[size] > 10 * fast[size] else f"{slow[size] / fast[size]:.1f}x"
        style = {"color": colour, "fontsize": 8.5, "ha": "center", "va": "top"}
        axes.annotate(text, (size, fast[size]), (0, -6), textcoords="offset points", **style)
    axes.margins(y=0.12)


def _label_sizes(axes: Any, sizes: Sequence[int]) -> None:
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def accuracy_against_minutes(records: list[Record]) -> Any | None:
    """Draw the learning curves of every task and size over CPU time."""
    curves = {variant: _histories(seeds) for variant, seeds in summaries.trainings(records).items()}
    curves = {variant: histories for variant, histories in curves.items() if histories}
    panels = summaries.sizes(curves)
    if not panels:
        return None
    columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    rows, styles = math.ceil(len(panels) / columns), dashes(curves)
    labels = list(dict.fromkeys(variant.label for variant in sorted(curves, key=lambda variant: variant.order[2:])))
    figure = _figure((2.4 if columns == 3 else 3.2) * rows + 0.2 * math.ceil(len(labels) / 3) + 0.3)
    for axes, panel in zip(_grid(figure, rows, columns, len(panels)), panels, strict=True):
        for variant, histories in curves.items():
            if variant[:2] == panel:
                _draw_curve(axes, histories, "cpu_minutes", variant, variant.label, styles[variant])
        _logarithmic(axes)
        axes.set_title(_title(*panel), loc="left")
    for axes in figure.axes[::columns]:
        axes.set_ylabel("test accuracy, %")
    for axes in figure.axes[-columns:]:
        axes.set_xlabel("CPU minutes")
    add_legend(figure, labels)
    figure.suptitle(BANDS, fontsize=9)
    return figure


def _grid(figure: Any, rows: int, columns: int, count: int, **options: Any) -> list[Any]:
    """Return the first axes of a grid, and take the others away."""
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).flatten())
    for axes in grid[count:]:
        axes.remove()
    return grid[:count]


def dashes(variants: Iterable[Variant]) -> dict[Variant, Any]:
    """Return the line style of every variant: recipes are solid, their variations dashed, alike in all panels."""
    kinds: dict[str, list[str]] = {}
    for variant in sorted(variants, key=lambda variant: variant.order[2:]):
        names = kinds.setdefault(variant.method, [METHODS[variant.method].name])
        if variant.label not in names:
            names.append(variant.label)
    return {v: DASHES[kinds[v.method].index(v.label) % len(DASHES)] for v in variants}


def _histories(seeds: list[Record]) -> list[list[Record]]:
    """Return the evaluated epochs of every seed that was finished."""
    return [record["history"] for record in done(seeds) if record.get("history")]


def _draw_curve(
    axes: Any, histories: list[list[Record]], field: str, variant: Variant, label: str, dash: Any = "-"
) -> None:
    """Draw the mean over seeds at the evaluations that all seeds have, in a band from the worst to the best."""
    colour = METHODS[variant.method].colour
    lines = [[(point[field], 100 * point["accuracy"]) for point in history] for history in histories]
    columns = [list(zip(*points, strict=True)) for points in zip(*lines, strict=False)]
    x, y = ([sum(column[part]) / len(column[part]) for column in columns] for part in (0, 1))
    if len(lines) > 1:
        least, most = ([limit(column[1]) for column in columns] for limit in (min, max))
        axes.fill_between(x, least, most, color=colour, alpha=BAND, linewidth=0)
    style = {"color": colour, "linestyle": dash, "linewidth": 1.6, "marker": METHODS[variant.method].marker}
    axes.plot(x, y, markevery=[-1], markersize=5, label=label, **style)


def _logarithmic(axes: Any) -> None:
    """Make the axis of minutes logarithmic, with ticks such as 0.3."""
    ticker = require("matplotlib.ticker")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def e_step_share(records: list[Record]) -> Any | None:
    """Draw seconds of E-step and M-step per epoch, of the recipes alone; their variations are in the tables."""
    trained = {variant: done(seeds) for variant, seeds in summaries.trainings(records).items() if variant.is_recipe}
    trained = {variant: seeds for variant, seeds in trained.items() if numbers(seeds, "seconds_e_per_epoch")}
    names = summaries.sizes(trained)
    if not names:
        return None
    columns = min(2, len(names))
    bars = [sum(variant[:2] == name for variant in trained) for name in names]
    most = [max(bars[row : row + columns]) for row in range(0, len(bars), columns)]
    figure = _figure(0.4 + sum(0.2 * count + 0.4 for count in most))
    panels = _grid(figure, len(most), columns, len(names), height_ratios=[count + 1 for count in most])
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        part = {variant: seeds for variant, seeds in trained.items() if variant[:2] == name}
        _draw_shares(axes, part, most[place // columns])
        axes.set_title(_title(*name), loc="left")
    figure.supxlabel("seconds per epoch: E-step in full colour, M-step light; share of the E-step in %", fontsize=9.5)
    return figure


def _draw_shares(axes: Any, part: Groups, room: int) -> None:
    """Draw horizontal bars with their numbers in a panel that has room for so many."""
    longest = 0.0
    for place, (variant, seeds) in enumerate(part.items()):
        e_step, m_step = (mean(numbers(seeds, f"seconds_{step}_per_epoch")) or 0.0 for step in "em")
        whole, colour = e_step + m_step, METHODS[variant.method].colour
        longest = max(longest, whole)
        axes.barh(place, e_step, color=colour, height=0.75)
        axes.barh(place, m_step, left=e_step, color=colour, alpha=FAINT, height=0.75)
        share = f", {100 * e_step / whole:.0f} %" if whole else ""
        axes.annotate(f"{whole:.3g} s{share}", (whole, place), (3, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(range(len(part)), [variant.label for variant in part], size=8.5)
    axes.set(ylim=(room - 0.5, -0.5), xlim=(0, 1.5 * longest or 1.0), xticks=[])
    axes.tick_params(left=False)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(False)


def multi_m(records: list[Record]) -> Any | None:
    """Draw the learning curves of recipes by the number of M-steps, where there is more than one."""
    curves = {v: _histories(seeds) for v, seeds in summaries.trainings(records).items() if v.is_recipe}
    curves = {v: found for v, found in curves.items() if found and (_takes_several(v) or _is_default(v))}
    several = {v[:2] for v in curves if _takes_several(v)}
    curves = {v: found for v, found in curves.items() if v[:2] in several}
    panels = summaries.sizes(curves)
    if not panels:
        return None
    figure = _figure(2.0 * len(panels) + 0.9)
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    names = {v: v.label if _takes_several(v) else f"{v.label}: 1 step" for v in curves}
    for (by_epoch, by_minutes), panel in zip(grid, panels, strict=True):
        for variant in (variant for variant in curves if variant[:2] == panel):
            _draw_curve(by_epoch, curves[variant], "epoch", variant, names[variant])
            _draw_curve(by_minutes, curves[variant], "cpu_minutes", variant, names[variant])
        by_epoch.set_title(_title(*panel), loc="left")
        by_epoch.set_ylabel("test accuracy, %")
    for axes, name in zip(grid[-1], ("epochs", "CPU minutes"), strict=True):
        axes.set_xlabel(name)
    for axes in grid[:, 0]:
        axes.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True, min_n_ticks=1))
    figure.suptitle(BANDS, fontsize=9)
    add_legend(figure, list(dict.fromkeys(names[v] for v in sorted(curves, key=lambda v: v.order[2:]))))
    return figure


def _takes_several(variant: Variant) -> bool:
    return METHODS[variant.method].m_steps > 1


def _is_default(variant: Variant) -> bool:
    return variant.method == TASKS[variant.task].default_method(variant.size)


def _title(task: str, size: int) -> str:
    return TASKS[task].title(size)


def _figure(height: float) -> Any:
    return require("matplotlib.figure").Figure(figsize=(WIDTH, height), layout="constrained")
