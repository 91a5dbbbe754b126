"""Records of finished cells, grouped into what makes one row of a table or one line of a figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.protocol import TASKS

Record = dict[str, Any]


class Variant(NamedTuple):
    """What the seeds of one row share; batch None is that of the recipe."""

    task: str
    size: int
    method: str
    augment: bool
    batch: int | None

    @property
    def label(self) -> str:
        words = [METHODS[self.method].name]
        if self.batch is not None:
            words.append(f"batch {self.batch}")
        if not self.augment:
            words.append("no augmentation")
        return ", ".join(words)

    @property
    def is_recipe(self) -> bool:
        return self.augment and self.batch is None

    @property
    def order(self) -> tuple[int, ...]:
        """Task, size, method; the recipe itself before its variations."""
        method = list(METHODS).index(self.method)
        return TASKS.index(self.task), self.size, method, self.batch or 0, int(not self.augment)


class EStep(NamedTuple):
    """What the methods of one row of E-step measurements share."""

    task: str
    size: int
    batch: int


def title(task: str, size: int) -> str:
    if task == "addition":
        return f"{size}-digit addition"
    return f"{task.capitalize()} {size}x{size}"


def trainings(records: Iterable[Record]) -> dict[Variant, list[Record]]:
    """The trainings of every variant by seed, in the order of tables; of a cell that was run again, the last record."""
    groups: dict[Variant, dict[int, Record]] = {}
    for record in records:
        if record["kind"] == "training":
            names = ("task", "size", "method", "augment", "batch")
            variant = Variant(*(record[name] for name in names))
            groups.setdefault(variant, {})[record["seed"]] = record
    ordered = sorted(groups, key=lambda variant: variant.order)
    return {variant: [seeds for _, seeds in sorted(groups[variant].items())] for variant in ordered}


def sizes(variants: Iterable[Variant]) -> list[tuple[str, int]]:
    """The tasks and sizes there are, each once, in the order given."""
    return list(dict.fromkeys((variant.task, variant.size) for variant in variants))


def e_steps(records: Iterable[Record]) -> dict[EStep, dict[str, Record]]:
    """The E-step measurements of every size and batch by method, the last record of each.

    A process that broke down leaves one record without a method, which stands for those that it did not come to.
    """
    groups: dict[EStep, dict[str, Record]] = {}
    for record in records:
        if record["kind"] == "e_step":
            cell = EStep(record["task"], record["size"], record["batch"])
            groups.setdefault(cell, {})[record.get("method") or ""] = record
    return {cell: groups[cell] for cell in sorted(groups, key=lambda cell: (TASKS.index(cell.task), *cell[1:]))}


def fused_method(methods: Iterable[str]) -> str | None:
    """The fused method that computes what BP-std differentiates: loopy messages where both kinds were measured."""
    present = set(methods)
    return next((method for method in ("bp", "exact") if method in present), None)


def done(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["status"] == "done"]


def numbers(records: Iterable[Record], name: str) -> list[float]:
    """The values of a field where there are any."""
    return [record[name] for record in records if record.get(name) is not None]


def mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None
