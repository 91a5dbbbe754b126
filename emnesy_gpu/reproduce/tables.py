"""Records of finished cells as tables: our methods beside what is published, and single E-steps side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from emnesy_gpu.reproduce import summaries
from emnesy_gpu.reproduce.summaries import Record, Variant, deviation, done, mean, numbers

MIB = 2.0**20
LONGEST_REASON = 90

METRICS = {
    "addition": "Accuracy: test sums that are right as a whole, every digit read by argmax and then added; exact "
    "equality, no tolerance. DeepProofLog trains without augmentation.",
    "sudoku": "Accuracy: test boards rightly called valid or invalid, the argmax symbols checked against the rules; "
    "no tolerance, 50 % is chance. Published rows follow the decision rules of their own systems.",
    "warcraft": "Accuracy: test maps where the path that is cheapest by the predicted costs, priced at the true costs "
    "in integer tenths, costs no more than the label's; tolerance 0. Published rows differ in tolerance: A-NeSI "
    "accepts 0.1 more, I-MLE a relative 1e-6 of costs in half precision unless said.",
}

READINGS = {
    "addition": {"digit_accuracy": "digits", "sum_accuracy_20": "20 groupings", "sum_accuracy_views": "views"},
    "sudoku": {"cell_accuracy": "cells", "calibrated_accuracy": "calibrated", "board_accuracy_views": "views"},
    "warcraft": {"path_accuracy": "exact path", "cell_accuracy": "cells", "cost_within_0.001": "within 0.1 %"},
}
"""Figures beside the headline -> their names."""

ORIGINS = {"addition": ("data", "mnist"), "sudoku": ("boards", "regenerated"), "warcraft": ("maps", "synthetic")}
"""The figure that says where the data are from, and what it says unless told."""


@dataclass(frozen=True)
class Row:
    """One line of the table of a task and size, ready to print; source is empty for our own."""

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

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of HEADINGS, published methods in italics."""
        name = f"*{self.method}*" if self.source else self.method
        return name, *astuple(self)[3:]


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
    """Single E-steps of a size and batch: BP-std, unfused torch, fused; ratios are to fused."""

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
    def cells(self) -> tuple[str, ...]:
        """In the order of E_STEP_HEADINGS."""
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


def markdown(records: list[Record]) -> str:
    """Everything that the records hold, as GitHub tables with what was measured and how under each."""
    trained, parts = summaries.trainings(records), []
    lines = rows(records)
    for task, size in summaries.sizes(trained):
        table = [row for row in lines if (row.task, row.size) == (task, size)]
        ours = [record for variant, seeds in trained.items() if variant[:2] == (task, size) for record in seeds]
        heading = f"## {summaries.title(task, size)} ({_origin(task, ours)})"
        parts += [heading, _grid(HEADINGS, [row.cells for row in table]), _training_note(task, table, ours)]
    single = e_step_rows(records)
    for task in dict.fromkeys(row.task for row in single):
        cells = [row.cells for row in single if row.task == task]
        ours = [record for record in records if (record["kind"], record["task"]) == ("e_step", task)]
        parts += [
            f"## One E-step of {'addition' if task == 'addition' else task.capitalize()}",
            _grid(E_STEP_HEADINGS, cells),
            _e_step_note(task, ours),
        ]
    return "\n\n".join(parts or ["No finished cells."]) + "\n"


def rows(records: list[Record]) -> list[Row]:
    """Of every task and size that was trained: our methods in order, then the published rows."""
    trained, known = summaries.trainings(records), published()
    lines = []
    for task, size in summaries.sizes(trained):
        lines += [_our_row(variant, seeds) for variant, seeds in trained.items() if variant[:2] == (task, size)]
        lines += [_published_row(row) for row in known if (row["task"], row["size"]) == (task, size)]
    return lines


def e_step_rows(records: list[Record]) -> list[EStepRow]:
    return [_e_step_row(cell, methods) for cell, methods in summaries.e_steps(records).items()]


def published() -> list[dict[str, Any]]:
    """Figures that others report: accuracy and sd in %, minutes in all, memory in bytes, null where not known.

    outcome: why there is no accuracy. source: the publication; "secondary" is a page that reports on another's paper.
    """
    rows: list[dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return rows


def outcome(record: Record) -> str:
    """Why a cell has no result; empty where it has one."""
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
    )


def _published_row(row: dict[str, Any]) -> Row:
    spread = "" if row["sd"] is None else f" ± {_plain(row['sd'])}"
    return Row(
        row["task"],
        row["size"],
        row["method"],
        "-" if row["runs"] is None else str(row["runs"]),
        row["outcome"] if row["accuracy"] is None else _plain(row["accuracy"]) + spread,
        readings="",
        epochs="-",
        minutes="-" if row["minutes"] is None else f"{row['minutes']:g} †",
        e_seconds="-",
        m_seconds="-",
        peak_e_step="-",
        peak_process=_mib(row["memory"]),
        source=row["source"],
    )


def _e_step_row(cell: summaries.EStep, methods: dict[str, Record]) -> EStepRow:
    names = ("bp-std", "torch", summaries.fused_method(methods) or "")
    found = [methods.get(name, methods.get("")) for name in names]
    finished = [record if record and record["status"] == "done" else None for record in found]
    times = ["-" if record is None else outcome(record) or _number(1e3 * record["seconds"]) for record in found]
    bp_std, torch, fused = (record["seconds"] if record else None for record in finished)
    peaks = [record["peak_bytes"] if record else None for record in finished]
    errors = [record["deviation"] for record in finished if record and record.get("deviation") is not None]
    return EStepRow(
        task=cell.task,
        size=str(cell.size),
        batch=str(cell.batch),
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


def _training_note(task: str, table: Sequence[Row], ours: list[Record]) -> str:
    parts = [
        METRICS[task],
        "Ours: mean ± sample s.d. over seeds, means of the seconds, the largest peak (of the process: above what it "
        "held before the first step); augmentation and batch of the recipe unless said.",
    ]
    sums = numbers([record["figures"] for record in done(ours)], "test_sums")
    if sums:
        parts.append(f"{min(sums)} test sums: one is {_plain(100 / min(sums))} points.")
    if any(row.source for row in table):
        parts.append("*Italics*: as published, on other machines; † total minutes, not of CPU.")
    else:
        parts.append("Nothing published is known for this size.")
    if task != "addition" and _origins(task, ours) != ["original"]:
        parts.append("Our data are not the published files: published rows are for orientation only.")
    return " ".join([*parts, _machines(ours)]).rstrip()


def _e_step_note(task: str, ours: list[Record]) -> str:
    size = "digits per number" if task == "addition" else "symbols"
    return (
        f"Size: {size}. Median wall time of one E-step of a batch; peak memory above the inputs, without the scratch "
        "that a CPU thread keeps between calls (at most 512 KiB). BP-std: forward and backward by autograd; torch: the "
        "same messages without autograd, unfused; fused: our kernels. Ratios above 1 favour fused. Largest error: of "
        "the probabilities, against the reference. " + _machines(ours)
    ).rstrip()


def _machines(records: Iterable[Record]) -> str:
    found = []
    for record in records:
        facts = record.get("machine") or {}
        words = [facts.get("gpu") or facts.get("cpu"), facts.get("threads") and f"{facts['threads']} thread(s)"]
        found.append(", ".join(word for word in words if word))
    names = [name for name in dict.fromkeys(found) if name]
    return f"Measured on {'; '.join(names)}." if names else ""


def _origins(task: str, ours: list[Record]) -> list[str]:
    name, usual = ORIGINS[task]
    return list(dict.fromkeys(record["figures"].get(name, usual) for record in done(ours))) or [usual]


def _origin(task: str, ours: list[Record]) -> str:
    words = " and ".join("MNIST" if origin == "mnist" else origin for origin in _origins(task, ours))
    return words if task == "addition" else f"{words} {ORIGINS[task][0]}"


def _readings(task: str, finished: list[Record]) -> list[str]:
    figures = [record["figures"] for record in finished]
    values = {words: numbers(figures, name) for name, words in READINGS[task].items()}
    return [f"{words} {100 * sum(found) / len(found):.2f}" for words, found in values.items() if found]


def _grid(headings: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Columns without any content are left out."""
    cells = list(cells)
    kept = [column for column in range(len(headings)) if any(row[column] for row in cells)]
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join("| " + " | ".join(_escaped(line[column]) for column in kept) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


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
    """Three figures, never with an exponent above one."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _plain(value: float) -> str:
    text = f"{value:.2f}"
    return text.removesuffix("0")


def _mib(size: float | None) -> str:
    return "-" if size is None else _number(size / MIB)


def _ratio(value: float | None, unit: float | None) -> str:
    return "-" if value is None or not unit else f"{value / unit:.1f}"
