"""What is run: cells of method, size and seed, as the train commands that they stand for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from emnesy_gpu.tasks.addition import settings as addition_settings
from emnesy_gpu.tasks.sudoku import settings as sudoku_settings
from emnesy_gpu.tasks.warcraft import settings as warcraft_settings

TASKS = ("addition", "sudoku", "warcraft")
SEEDS = 5

SAMPLING_EPOCHS = 6
"""Of addition by sampling engines, which learn one and two digits in so many; four digits, but for rejection."""

ENGINES = ("torch", "bp-std", "bp", "abc", "gibbs", "rejection")
"""Methods that are engines of the train commands, other than the default."""

EPOCHS_OF_QUICK = {"addition": 2, "sudoku": 20, "warcraft": 4}


@dataclass(frozen=True)
class Cell:
    """One run: ``kind`` is "training", or "e_step" for time and memory of single E-steps, all methods side by side.

    method, seed, augment and epochs are those of a training; batch None is that of the recipe, as are epochs None.
    maps: training maps, for Warcraft. data: as for the train command.
    """

    kind: str
    task: str
    size: int
    method: str = ""
    seed: int = 0
    augment: bool = True
    batch: int | None = None
    epochs: int | None = None
    maps: int | None = None
    data: str = "auto"

    @property
    def key(self) -> str:
        """A name for files, and for finding the cell among the records of finished ones."""
        parts = [self.kind, self.task, str(self.size), self.method, f"batch{self.batch}" * bool(self.batch)]
        if self.kind == "training":
            parts += [f"epochs{self.epochs}" * bool(self.epochs), "" if self.augment else "plain", f"seed{self.seed}"]
        return "-".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def arguments(self) -> list[str]:
        """Of ``python -m emnesy_gpu train``: ``[task, --option, value, ...]``."""
        options: dict[str, Any] = {"epochs": self.planned_epochs, "batch": self.batch, "data": self.data}
        options |= _SIZES[self.task](self)
        flags = []
        if self.method.startswith("multi-m-"):
            options["m-steps"] = m_steps(self.method)
            if self.task == "warcraft":
                options["rao-blackwell-epochs"] = self._shortened("rao_blackwell_epochs")
        elif self.method == "hard":
            flags.append("--hard")
        elif self.method == "supervised":
            flags.append("--supervised")
        elif self.method in ENGINES:
            options["engine"] = self.method
        if not self.augment:
            flags.append("--no-augment")
        given = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
        return [self.task, *(word for option in given for word in option), *flags]

    @property
    def planned_epochs(self) -> int | None:
        """With several M-steps as many gradient steps as with one; None where the recipe says it."""
        if self.epochs is not None:
            return self.epochs
        if self.task == "addition" and self.method in ("abc", "gibbs", "rejection"):
            return SAMPLING_EPOCHS
        if self.method.startswith("multi-m-"):
            return self._shortened("epochs")
        return None

    def _shortened(self, name: str) -> int:
        return math.ceil(recipe_of(self)[name] / m_steps(self.method))


_SIZES = {
    "addition": lambda cell: {"digits": cell.size, "seed": cell.seed},
    "sudoku": lambda cell: {"size": cell.size, "split": cell.seed + 1},
    "warcraft": lambda cell: {"size": cell.size, "seed": cell.seed, "maps": cell.maps},
}


def m_steps(method: str) -> int:
    """The k of multi-m-k, else 1."""
    return int(method.removeprefix("multi-m-")) if method.startswith("multi-m-") else 1


def recipe_of(cell: Cell) -> dict[str, Any]:
    """The recipe on the full data."""
    if cell.task == "addition":
        return addition_settings.recipe(cell.size, cell.augment, "mnist")
    if cell.task == "sudoku":
        return sudoku_settings.recipe(cell.size, "mnist")
    return warcraft_settings.recipe(cell.size)


def protocol(task: str, quick: bool = False, seeds: int = SEEDS) -> list[Cell]:
    """The cells of a task: time and memory of single E-steps first, then trainings, seed after seed."""
    if quick:
        return list(_quick(task))
    return [*_e_steps(task), *(cell for seed in range(seeds) for cell in _trainings(task, seed))]


def _quick(task: str) -> Iterator[Cell]:
    epochs = EPOCHS_OF_QUICK[task]
    if task == "warcraft":
        for method in ("abc", "supervised"):
            yield Cell("training", task, 12, method, epochs=epochs, maps=500)
        return
    size = 15 if task == "addition" else 4
    yield Cell("e_step", task, size, batch=64)
    for method in ("bp-std", "torch", "exact", "hard", "multi-m-2"):
        yield Cell("training", task, size, method, epochs=epochs)


def _e_steps(task: str) -> Iterator[Cell]:
    sizes = {"addition": (4, 15, 100, 200, 500, 1000), "sudoku": (4, 9), "warcraft": ()}[task]
    for batch in (64, 256):
        for size in sizes:
            yield Cell("e_step", task, size, batch=batch)


def _trainings(task: str, seed: int) -> Iterator[Cell]:
    data = "auto" if task == "warcraft" else "mnist"
    for size, methods in _METHODS[task].items():
        for method in methods:
            yield Cell("training", task, size, method, seed, data=data)
    if task == "addition":
        for size in (4, 15, 100):
            yield Cell("training", task, size, "exact", seed, augment=False, data=data)
    size, method, batches = _BATCHES[task]
    for batch in batches:
        yield Cell("training", task, size, method, seed, batch=batch, data=data)


_BATCHES = {"addition": (4, "exact", (4, 240)), "sudoku": (9, "bp", (1, 25)), "warcraft": (12, "abc", (5, 80))}
"""Smaller and larger ones than that of the recipe."""

_MULTI_M = ("multi-m-2", "multi-m-5", "multi-m-10")
_METHODS: dict[str, dict[int, tuple[str, ...]]] = {
    "addition": {
        4: ("exact", "bp-std", "torch", "hard", *_MULTI_M, "abc", "gibbs", "rejection"),
        15: ("exact", "bp-std", "torch", "hard", *_MULTI_M),
        100: ("exact", "bp-std", "torch", "hard", *_MULTI_M),
        1: ("exact", "abc", "gibbs", "rejection"),
        2: ("exact", "abc", "gibbs", "rejection"),
        200: ("exact",),
        500: ("exact",),
    },
    "sudoku": {
        4: ("exact", "bp", "bp-std", "torch", "hard", *_MULTI_M, "abc", "gibbs", "rejection"),
        9: ("bp", "bp-std", "torch", "hard", *_MULTI_M, "abc", "gibbs", "rejection"),
    },
    "warcraft": dict.fromkeys((12, 30), ("abc", "supervised", "hard", *_MULTI_M, "gibbs", "rejection")),
}

_MINUTES = {
    "addition": {
        True: {1: 1.6, 2: 1.6, 4: 1.5, 15: 1.3, 100: 2.3, 200: 2.3, 500: 2.3},
        False: {4: 0.5, 15: 0.5, 100: 0.5},
    },
    "sudoku": {True: {4: 0.3, 9: 0.7}},
    "warcraft": {True: {12: 0.8, 30: 2.4}},
}

_IMAGES = {"bp-std": 1.8, "torch": 1.2, "rejection": 3.0, "abc": 1.6, "gibbs": 1.8}
_SLOWER = {"addition": _IMAGES, "sudoku": _IMAGES, "warcraft": {"gibbs": 1.5}}


def estimate(cell: Cell) -> float:
    """Minutes of one core, roughly: what the recipe takes on a server CPU, by the share of its epochs."""
    if cell.kind == "e_step":
        return 0.2 + cell.size * (cell.batch or 1) / 1e5 * 0.5
    whole = _MINUTES[cell.task][cell.augment][cell.size]
    planned = cell.planned_epochs
    share = 1.0 if planned is None else planned * m_steps(cell.method) / recipe_of(cell)["epochs"]
    return whole * share * _SLOWER[cell.task].get(cell.method, 1.0)
