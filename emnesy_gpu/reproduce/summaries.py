"""Records of finished experiments, grouped into what makes one row of a table or one line of a figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.tasks.registry import TASKS

Record = dict[str, Any]

OURS, THEIRS, PUBLISHED = "By our recipe", "By the recipe of a publication", "As published"
"""The blocks of the table of a task and size: the first two from one harness, with the same data, net and machine."""


class Variant(NamedTuple):
    """What the seeds of one row share; batch None is that of the recipe."""

    task: str
    size: int
    method: str
    augment: bool
    batch: int | None
    published: bool

    @property
    def label(self) -> str:
        """The name in tables and legends."""
        words = [METHODS[self.method].name]
        if self.published:
            words.append(f"recipe of {TASKS[self.task].protocol.published[self.method, self.size].system}")
        if self.batch is not None:
            words.append(f"batch {self.batch}")
        if not self.augment:
            words.append("no augmentation")
        return ", ".join(words)

    @property
    def block(self) -> str:
        """The block of the table that it belongs to."""
        return THEIRS if self.published else OURS

    @property
    def is_recipe(self) -> bool:
        """Whether the recipe of the task decides on augmentation and batch."""
        return self.augment and self.batch is None and not self.published

    @property
    def order(self) -> tuple[int, ...]:
        """A key to sort by: task, size, method, and the recipe before its variations."""
        method = list(METHODS).index(self.method)
        variations = self.batch or 0, int(not self.augment)
        return list(TASKS).index(self.task), self.size, int(self.published), method, *variations


class EStep(NamedTuple):
    """What the methods of one row of E-step measurements share."""

    task: str
    size: int
    batch: int


def trainings(records: Iterable[Record]) -> dict[Variant, list[Record]]:
    """Group trainings by variant and sort them by seed.

    The last record counts of an experiment that was run again. Variants come in the order of tables. Older records do
    not say whether they are by the recipe of a publication, and are not.
    """
    groups: dict[Variant, dict[int, Record]] = {}
    for record in records:
        if record["kind"] == "training":
            task, size, method, augment, batch = (record[name] for name in Variant._fields[:-1])
            variant = Variant(task, size, method, augment, batch, record.get("published", False))
            groups.setdefault(variant, {})[record["seed"]] = record
    ordered = sorted(groups, key=lambda variant: variant.order)
    return {variant: [seeds for _, seeds in sorted(groups[variant].items())] for variant in ordered}


def is_of_others(record: Record) -> bool:
    """Whether a record is of a method, or of a recipe, of another system."""
    method = METHODS.get(record.get("method") or "")
    return bool(record.get("published")) or (method is not None and method.rival)


def sizes(variants: Iterable[Variant]) -> list[tuple[str, int]]:
    """Return the tasks and sizes there are, each once, in the order given."""
    return list(dict.fromkeys((variant.task, variant.size) for variant in variants))


def e_steps(records: Iterable[Record]) -> dict[EStep, dict[str, Record]]:
    """Group E-step measurements by task, size and batch, then by method; the last record of each counts.

    A process that broke down leaves one record without a method, which stands for those that it did not come to.
    """
    groups: dict[EStep, dict[str, Record]] = {}
    for record in records:
        if record["kind"] == "e_step":
            e_step = EStep(record["task"], record["size"], record["batch"])
            groups.setdefault(e_step, {})[record.get("method") or ""] = record
    order = list(TASKS)
    return {e_step: groups[e_step] for e_step in sorted(groups, key=lambda one: (order.index(one.task), *one[1:]))}


def done(records: Iterable[Record]) -> list[Record]:
    """Return the records with a result."""
    return [record for record in records if record["status"] == "done"]


def numbers(records: Iterable[Record], name: str) -> list[float]:
    """Return the values of a field, of the records that have one."""
    return [record[name] for record in records if record.get(name) is not None]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None for no values."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation, or None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None
