"""Records of finished experiments as rows of tables, ready to print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from emnesy_gpu.reproduce import summaries
from emnesy_gpu.reproduce.summaries import OURS, PUBLISHED, Record, Variant, deviation, done, mean, numbers
from emnesy_gpu.tasks.registry import TASKS

MIB = 2.0**20
LONGEST_REASON = 90
"""Letters of an error message that a table shows at most."""


@dataclass(frozen=True)
class Row:
    """One line of the table of a task and size; the source is empty for our own methods."""

    task: str
    size: int
    method: str
    seeds: str
    accuracy: str
    readings: str
    epochs: str
    minutes: str
    e_seconds: str
    m_seconds: str
    peak_e_step: str
    peak_process: str
    source: str = ""
    block: str = OURS

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in the order of HEADINGS, with published methods in italics."""
        name = f"*{self.method}*" if self.source else self.method
        return name, *astuple(self)[3:-1]


HEADINGS = (
    "method",
    "seeds",
    "accuracy %",
    "also, %",
    "epochs",
    "CPU minutes",
    "E-step s per epoch",
    "M-step s per epoch",
    "peak MiB, E-step",
    "peak MiB, process",
    "source",
)


@dataclass(frozen=True)
class EStepRow:
    """Single E-steps of a size and batch by BP-std, unfused torch and fused kernels; ratios are to fused."""

    task: str
    size: str
    batch: str
    bp_std_ms: str
    torch_ms: str
    fused_ms: str
    bp_std_ratio: str
    torch_ratio: str
    bp_std_mib: str
    torch_mib: str
    fused_mib: str
    memory_ratio: str
    deviation: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in the order of E_STEP_HEADINGS."""
        return astuple(self)[1:]


E_STEP_HEADINGS = (
    "size",
    "batch",
    "BP-std ms",
    "torch ms",
    "fused ms",
    "BP-std / fused",
    "torch / fused",
    "BP-std MiB",
    "torch MiB",
    "fused MiB",
    "BP-std / fused, memory",
    "largest error",
)

RERUN_HEADINGS = ("task", "system", "as published", "here, its recipe", "here, our recipe", "here, EM, our recipe")
"""Accuracies in %, with the number of seeds."""


def rows(records: list[Record]) -> list[Row]:
    """Return, for every task and size that was trained, our methods in order and then the published rows."""
    trained, known = summaries.trainings(records), published()
    lines = []
    for task, size in summaries.sizes(trained):
        lines += [_our_row(variant, seeds) for variant, seeds in trained.items() if variant[:2] == (task, size)]
        lines += [_published_row(row) for row in known if (row["task"], row["size"]) == (task, size)]
    return lines


def e_step_rows(records: list[Record]) -> list[EStepRow]:
    """Return a row for every task, size and batch whose E-steps were measured."""
    return [_e_step_row(e_step, methods) for e_step, methods in summaries.e_steps(records).items()]


def published() -> list[dict[str, Any]]:
    """Return the figures that others report.

    accuracy and sd are in %, minutes are those of the whole run, memory is in bytes; null where not known.

    outcome: why there is no accuracy. source: the publication; "secondary" is a page that reports on another's paper.
    rerun: key of the method that computes the same here; missing where there is none.
    """
    rows: list[dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return rows


def rerun_rows(records: list[Record]) -> list[tuple[str, ...]]:
    """Return, for every published system that runs here too, the words of RERUN_HEADINGS."""
    trained = summaries.trainings(records)
    lines = []
    for row in published():
        task, size = row["task"], row["size"]
        ours = Variant(task, size, TASKS[task].default_method(size), augment=True, batch=None, published=False)
        here = [ours._replace(method=row.get("rerun", ""), published=by_theirs) for by_theirs in (True, False)]
        if any(variant in trained and variant != ours for variant in here):
            words = [_with_count(trained.get(variant, [])) for variant in (*here, ours)]
            lines.append((TASKS[task].title(size), row["method"], _published_accuracy(row), *words))
    return lines


def _with_count(seeds: list[Record]) -> str:
    """Return accuracies and the number of seeds; "-" where nothing was run."""
    if not seeds:
        return "-"
    accuracies = [100 * record["figures"]["accuracy"] for record in done(seeds)]
    return f"{_spread(accuracies) or outcome(seeds[0])} ({len(seeds)})"


def outcome(record: Record) -> str:
    """Return why an experiment has no result; empty where it has one."""
    if record["status"] == "done":
        return ""
    if record["status"] == "timeout":
        return f"T/O (limit {record['limit_minutes']:g} min)"
    if record["status"] == "out_of_memory":
        return "out of memory"
    if record["status"] == "diverged":
        return "diverged"
    lines = (record.get("error") or "no reason given").strip().splitlines()
    reason = lines[-1] if len(lines[-1]) <= LONGEST_REASON else lines[-1][: LONGEST_REASON - 1] + "…"
    return f"failed: {reason}"


def _our_row(variant: Variant, seeds: list[Record]) -> Row:
    finished = done(seeds)
    outcomes = [text for text in map(outcome, seeds) if text]
    counted = [f"{outcomes.count(text)} {text}" for text in dict.fromkeys(outcomes)]
    count = f"{len(finished)} of {len(seeds)}" if outcomes else str(len(seeds))
    timed = finished or [record for record in seeds if record.get("epochs")]
    return Row(
        variant.task,
        variant.size,
        variant.label,
        f"{count}: {', '.join(counted)}" if finished and outcomes else count,
        _spread([100 * record["figures"]["accuracy"] for record in finished]) or ", ".join(dict.fromkeys(outcomes)),
        ", ".join(_readings(variant.task, finished)),
        _range([record["epochs"] for record in finished]),
        _spread(numbers(finished, "cpu_minutes")) or "-",
        _number(mean(numbers(timed, "seconds_e_per_epoch"))),
        _number(mean(numbers(timed, "seconds_m_per_epoch"))),
        _mib(max(numbers(timed, "peak_e_step_bytes"), default=None)),
        _mib(max(numbers(timed, "peak_process_bytes"), default=None)),
        block=variant.block,
    )


def _published_row(row: dict[str, Any]) -> Row:
    return Row(
        row["task"],
        row["size"],
        row["method"],
        "-" if row["runs"] is None else str(row["runs"]),
        _published_accuracy(row),
        readings="",
        epochs="-",
        minutes="-" if row["minutes"] is None else f"{row['minutes']:g} †",
        e_seconds="-",
        m_seconds="-",
        peak_e_step="-",
        peak_process=_mib(row["memory"]),
        source=row["source"],
        block=PUBLISHED,
    )


def _published_accuracy(row: dict[str, Any]) -> str:
    spread = "" if row["sd"] is None else f" ± {plain(row['sd'])}"
    return row["outcome"] if row["accuracy"] is None else plain(row["accuracy"]) + spread


def _e_step_row(e_step: summaries.EStep, methods: dict[str, Record]) -> EStepRow:
    benchmark = TASKS[e_step.task].protocol.e_step
    assert benchmark is not None, f"task {e_step.task} has no measurement of E-steps"
    found = [methods.get(name, methods.get("")) for name in ("bp-std", "torch", benchmark.fused)]
    finished = [record if record and record["status"] == "done" else None for record in found]
    times = ["-" if record is None else outcome(record) or _number(1e3 * record["seconds"]) for record in found]
    bp_std, torch, fused = (record["seconds"] if record else None for record in finished)
    peaks = [record["peak_bytes"] if record else None for record in finished]
    errors = [record["deviation"] for record in finished if record and record.get("deviation") is not None]
    return EStepRow(
        task=e_step.task,
        size=str(e_step.size),
        batch=str(e_step.batch),
        bp_std_ms=times[0],
        torch_ms=times[1],
        fused_ms=times[2],
        bp_std_ratio=_ratio(bp_std, fused),
        torch_ratio=_ratio(torch, fused),
        bp_std_mib=_mib(peaks[0]),
        torch_mib=_mib(peaks[1]),
        fused_mib=_mib(peaks[2]),
        memory_ratio=_ratio(peaks[0], peaks[2]),
        deviation=f"{max(errors):.0e}" if errors else "-",
    )


def _readings(task: str, finished: list[Record]) -> list[str]:
    figures = [record["figures"] for record in finished]
    values = {words: numbers(figures, name) for name, words in TASKS[task].readings.items()}
    return [f"{words} {100 * sum(found) / len(found):.2f}" for words, found in values.items() if found]


def _spread(values: Sequence[float]) -> str:
    centre, spread = mean(values), deviation(values)
    if centre is None:
        return ""
    return f"{centre:.2f}" if spread is None else f"{centre:.2f} ± {spread:.2f}"


def _range(values: Sequence[int]) -> str:
    if not values:
        return "-"
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def _number(value: float | None) -> str:
    """Return three figures, never with an exponent above one."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def plain(value: float) -> str:
    """Return a percentage with one or two decimals."""
    text = f"{value:.2f}"
    return text.removesuffix("0")


def _mib(size: float | None) -> str:
    return "-" if size is None else _number(size / MIB)


def _ratio(value: float | None, unit: float | None) -> str:
    return "-" if value is None or not unit else f"{value / unit:.1f}"
