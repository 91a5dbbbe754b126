"""Records of finished experiments as tables: our methods beside published ones, and E-steps side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emnesy_gpu.reproduce import summaries
from emnesy_gpu.reproduce.rows import (
    E_STEP_HEADINGS,
    HEADINGS,
    RERUN_HEADINGS,
    Row,
    e_step_rows,
    plain,
    rerun_rows,
    rows,
)
from emnesy_gpu.reproduce.summaries import THEIRS, Record, done, numbers
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.task import EStepBenchmark

RECIPES = (
    "Re-implementations are written from the formulas of the papers, and train the same net on the same data as ours. "
    "The recipe of a publication is its rate, batch and epochs: Adam at a constant rate, without weight decay, "
    "averaging, augmentation or trial starts."
)

RERUN_NOTE = (
    "Accuracy in %: mean ± sample s.d., with the number of seeds in brackets. Nets, data and machines of the "
    "publications differ, and boards and maps are not theirs: the columns on the right compare with each other alone."
)


def markdown(records: list[Record]) -> str:
    """Return everything that the records hold as GitHub tables, with a note on the measurement under each."""
    trained, parts = summaries.trainings(records), []
    lines = rows(records)
    for task, size in summaries.sizes(trained):
        table = [row for row in lines if (row.task, row.size) == (task, size)]
        ours = [record for variant, seeds in trained.items() if variant[:2] == (task, size) for record in seeds]
        parts += [f"## {TASKS[task].title(size)} ({_origin(task, ours)})"]
        for block in dict.fromkeys(row.block for row in table):
            parts += [f"**{block}**", _grid(HEADINGS, [row.columns for row in table if row.block == block])]
        parts += [_training_note(task, table, ours)]
    again = rerun_rows(records)
    if again:
        parts += ["## Published systems, run here", _grid(RERUN_HEADINGS, again), RERUN_NOTE]
    single = e_step_rows(records)
    for task in dict.fromkeys(row.task for row in single):
        columns = [row.columns for row in single if row.task == task]
        benchmark = TASKS[task].protocol.e_step
        assert benchmark is not None, f"task {task} has no measurement of E-steps"
        ours = [record for record in records if (record["kind"], record["task"]) == ("e_step", task)]
        parts += [
            f"## One E-step of {benchmark.title}",
            _grid(E_STEP_HEADINGS, columns),
            _e_step_note(benchmark, ours),
        ]
    return "\n\n".join(["# Tables of the campaign", *(parts or ["No finished experiments."])]) + "\n"


def _training_note(task: str, table: Sequence[Row], ours: list[Record]) -> str:
    parts = [
        TASKS[task].metric,
        RECIPES if any(row.block == THEIRS for row in table) else "",
        "Ours: mean ± sample s.d. over seeds, means of the seconds, the largest peak (of the process: above what it "
        "held before the first step); augmentation and batch of the recipe unless said.",
    ]
    count = TASKS[task].test_count
    if count is not None and (counts := numbers([record["figures"] for record in done(ours)], count)):
        parts.append(f"{min(counts)} {count.replace('_', ' ')}: one is {plain(100 / min(counts))} points.")
    if any(row.source for row in table):
        parts.append("*Italics*: as published, on other machines; † total minutes, not of CPU.")
    else:
        parts.append("Nothing published is known for this size.")
    published = TASKS[task].origin.published
    if published is not None and _origins(task, ours) != [published]:
        parts.append("Our data are not the published files: published rows are for orientation only.")
    return " ".join(filter(None, [*parts, _machines(ours)]))


def _e_step_note(benchmark: EStepBenchmark, ours: list[Record]) -> str:
    return (
        f"Size: {benchmark.size_meaning}. "
        "Median wall time of one E-step of a batch; peak memory above the inputs. BP-std: forward and backward by "
        "autograd; torch: the same messages without autograd, unfused; fused: our kernels. Ratios above 1 favour "
        "fused. Largest error: of the probabilities, against the reference. " + _machines(ours)
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
    origin = TASKS[task].origin
    found = [record["figures"].get(origin.figure, origin.usual) for record in done(ours)]
    return list(dict.fromkeys(found)) or [origin.usual]


def _origin(task: str, ours: list[Record]) -> str:
    origin = TASKS[task].origin
    words = " and ".join(origin.names.get(name, name) for name in _origins(task, ours))
    return f"{words} {origin.noun}" if origin.noun else words


def _grid(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table without its empty columns."""
    lines = list(lines)
    kept = [column for column in range(len(headings)) if any(line[column] for line in lines)]
    lines = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(_escaped(line[column]) for column in kept) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
