"""The experiments that reproduce the tables, each of them a train command or a measurement of E-steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.tasks.registry import TASKS
from emnesy_gpu.tasks.task import PublishedRecipe

SEEDS = 5
LONG_MINUTES, LONG_MINUTES_OF_OTHERS, LONG_SEEDS = 20.0, 1.0, 2
"""An experiment that is estimated to take longer has fewer seeds; one of another system sooner than one of ours."""

E_STEP_BATCHES = (64, 256)


@dataclass(frozen=True)
class Experiment:
    """One run of a campaign.

    kind: "training", or "e_step" for time and memory of single E-steps by all methods side by side. method, seed,
    augment and epochs are those of a training. batch, epochs: None takes those of the recipe. maps: training maps, for
    tasks with such a number. data: the value of ``--data``. published: whether to train by the recipe of a publication.
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
    published: bool = False

    @property
    def key(self) -> str:
        """A name for files, and for finding the experiment among the records of finished ones."""
        parts = [self.kind, self.task, str(self.size)]
        if self.method:
            parts.append(self.method)
        if self.batch:
            parts.append(f"batch{self.batch}")
        if self.kind != "training":
            return "-".join(parts)
        if self.epochs:
            parts.append(f"epochs{self.epochs}")
        if not self.augment:
            parts.append("plain")
        if self.published:
            parts.append("published")
        return "-".join([*parts, f"seed{self.seed}"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as they stand in records."""
        return asdict(self)

    def arguments(self) -> list[str]:
        """Return the arguments of ``python -m emnesy_gpu train``: ``[task, --option, value, ...]``."""
        task, method = TASKS[self.task], METHODS[self.method]
        options: dict[str, Any] = {"epochs": self.planned_epochs, "batch": self.batch, "data": self.data}
        options |= task.options(self.size, self.seed, self.maps)
        if method.m_steps > 1:
            options["m-steps"] = method.m_steps
            for name in task.protocol.counted_in_epochs:
                options[name.replace("_", "-")] = method.shorten(self.recipe[name])
        flags = (*method.flags, *task.protocol.flags.get(self.method, ()))
        recipe = self.published_recipe
        if recipe is not None:
            options |= {"epochs": recipe.epochs, "batch": recipe.batch, "lr": recipe.lr}
            flags = (*flags, "--plain", *recipe.flags)
        elif not self.augment:
            flags = (*flags, "--no-augment")
        options["engine"] = method.engine
        given = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
        return [self.task, *(word for option in given for word in option), *flags]

    @property
    def planned_epochs(self) -> int | None:
        """The value of ``--epochs``, or None where the recipe decides.

        With several M-steps it gives as many gradient steps as with one.
        """
        method, by_method = METHODS[self.method], TASKS[self.task].protocol.epochs
        if self.epochs is not None:
            return self.epochs
        if self.published_recipe is not None:
            return self.published_recipe.epochs
        if self.method in by_method:
            return by_method[self.method]
        return method.shorten(self.recipe["epochs"]) if method.m_steps > 1 else None

    @property
    def published_recipe(self) -> PublishedRecipe | None:
        """The recipe of the publication to train by; None for our own."""
        return TASKS[self.task].protocol.published[self.method, self.size] if self.published else None

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the task on the full data."""
        return TASKS[self.task].recipe(self.size, self.augment)


def protocol(task: str, quick: bool = False, seeds: int = SEEDS) -> list[Experiment]:
    """Return the experiments of a task: single E-steps first, then trainings, seed after seed."""
    if quick:
        return list(_quick(task))
    trainings = [experiment for seed in range(seeds) for experiment in _trainings(task, seed)]
    return [*_e_steps(task), *(one for one in trainings if one.seed < LONG_SEEDS or not _is_long(one))]


def _is_long(experiment: Experiment) -> bool:
    of_others = experiment.published or METHODS[experiment.method].rival
    return estimate(experiment) > (LONG_MINUTES_OF_OTHERS if of_others else LONG_MINUTES)


def _quick(task: str) -> Iterator[Experiment]:
    quick = TASKS[task].protocol.quick
    if quick.e_step_batch is not None:
        yield Experiment("e_step", task, quick.size, batch=quick.e_step_batch)
    for method in quick.methods:
        yield Experiment("training", task, quick.size, method, epochs=quick.epochs, maps=quick.maps)


def _e_steps(task: str) -> Iterator[Experiment]:
    benchmark = TASKS[task].protocol.e_step
    for batch in E_STEP_BATCHES:
        for size in benchmark.sizes if benchmark else ():
            yield Experiment("e_step", task, size, batch=batch)


def _trainings(task: str, seed: int) -> Iterator[Experiment]:
    plan = TASKS[task].protocol
    for size, methods in plan.methods.items():
        for method in methods:
            yield Experiment("training", task, size, method, seed, data=plan.data)
    for method, size in plan.published:
        yield Experiment("training", task, size, method, seed, data=plan.data, published=True)
    for size in plan.unaugmented:
        method = TASKS[task].default_method(size)
        yield Experiment("training", task, size, method, seed, augment=False, data=plan.data)
    size, method, batches = plan.batches
    for batch in batches:
        yield Experiment("training", task, size, method, seed, batch=batch, data=plan.data)


def estimate(experiment: Experiment) -> float:
    """Return the minutes on one core of a server CPU that does nothing else, roughly."""
    if experiment.kind == "e_step":
        return 0.2 + experiment.size * (experiment.batch or 1) / 1e5 * 0.5
    usual = replace(experiment, epochs=None)
    usual_epochs = usual.planned_epochs or usual.recipe["epochs"]
    return _usual_minutes(usual) * (experiment.epochs or usual_epochs) / usual_epochs


def _usual_minutes(experiment: Experiment) -> float:
    """Return the minutes of an experiment with the epochs of its recipe."""
    plan = TASKS[experiment.task].protocol
    if experiment.published_recipe is not None:
        return experiment.published_recipe.minutes
    if experiment.batch is not None:
        return plan.batches[2][experiment.batch]
    measured = plan.measured.get(experiment.method, {})
    if experiment.augment and experiment.size in measured:
        return measured[experiment.size]
    return plan.minutes[experiment.size, experiment.augment] * METHODS[experiment.method].slowdown
