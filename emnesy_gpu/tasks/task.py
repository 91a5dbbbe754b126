"""What the commands and the reproduction of the tables must know about a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from emnesy_gpu.tasks.core.options import Runs
from emnesy_gpu.tasks.files.settings import RunSettings

if TYPE_CHECKING:
    import click

    from emnesy_gpu.benchmarks.suite import Suite


@dataclass(frozen=True)
class Origin:
    """How the summary of a run says where its data are from."""

    figure: str
    """The figure of the summary that names the origin."""
    usual: str
    """What it says in records that lack the figure."""
    published: str | None = None
    """What it says of the published files. Tables carry a warning for other data; None: published rows have no one
    set of files, so that there is no warning."""
    noun: str = ""
    """The noun behind the origin in headings, such as "boards" in "regenerated boards"."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Origin -> its name in headings, where they differ."""


@dataclass(frozen=True)
class EStepBenchmark:
    """Time and memory of single E-steps of a task, which ``emnesy bench`` measures."""

    suite: Callable[[], Suite]
    """Imports and returns the suite."""
    title: str
    """What the E-step is of, in headings."""
    size_meaning: str
    """What the size counts, in words."""
    sizes: Sequence[int]
    """The sizes to measure."""
    fused: str
    """The key of the method that the suite calls "fused": the one that computes what BP-std differentiates."""
    figure_title: str | None = None
    """Name in the figure of time and memory over the size; None for tasks with too few sizes for a curve."""


@dataclass(frozen=True)
class QuickProtocol:
    """A few minutes of experiments, to see that everything works."""

    size: int
    epochs: int
    methods: Sequence[str]
    """Keys of methods to train by."""
    maps: int | None = None
    """Training maps, for tasks with such a number."""
    e_step_batch: int | None = None
    """The batch of one measurement of single E-steps; None leaves it out."""


@dataclass(frozen=True)
class PublishedRecipe:
    """How another system trains: Adam at a constant rate, and none of what our recipes add."""

    system: str
    """The system whose publication or code has the recipe."""
    epochs: int
    batch: int
    lr: float
    minutes: float
    """Minutes of a run on one core of a server CPU, for estimates."""
    flags: tuple[str, ...] = ()
    """Further flags of the train command."""

    def taking(self, minutes: float) -> PublishedRecipe:
        """Return the recipe where a run takes so many minutes."""
        return replace(self, minutes=minutes)


@dataclass(frozen=True)
class TaskProtocol:
    """The experiments that reproduce the tables of a task."""

    methods: Mapping[int, Sequence[str]]
    """Size -> keys of the methods to train by, in the order of the experiments."""
    data: str
    """The value of ``--data``."""
    batches: tuple[int, str, Mapping[int, float]]
    """Size, method, and batches smaller and larger than that of the recipe, with the minutes that each takes."""
    minutes: Mapping[tuple[int, bool], float]
    """Size and augmentation -> minutes that the recipe takes on one core of a server CPU, for estimates."""
    quick: QuickProtocol
    """What ``--quick`` runs."""
    unaugmented: Sequence[int] = ()
    """Sizes to train the default method at without augmentation too."""
    epochs: Mapping[str, int] = field(default_factory=dict)
    """Method -> epochs, for methods that need another number than the recipe."""
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Method -> flags of the train command that it needs here."""
    published: Mapping[tuple[str, int], PublishedRecipe] = field(default_factory=dict)
    """Method and size -> the recipe of a publication by which to train too."""
    counted_in_epochs: Sequence[str] = ()
    """Settings of the recipe that are shortened as the epochs are when a method takes several M-steps."""
    measured: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Method -> size -> minutes that it takes, where ``minutes`` and ``Method.slowdown`` do not tell them."""
    e_step: EStepBenchmark | None = None
    """The measurement of single E-steps, where there is one."""

    @classmethod
    def of_one_size(cls, size: int, method: str, minutes: float) -> TaskProtocol:
        """Return the protocol of a task that nobody has published: a method beside training on the true classes."""
        methods = method, "supervised"
        return cls(
            methods={size: methods},
            data="mnist",
            batches=(size, method, {}),
            minutes={(size, True): minutes},
            quick=QuickProtocol(size, 2, methods),
        )


@dataclass(frozen=True)
class Task:
    """One benchmark: a net that is trained on it, and how its results are reported."""

    name: str
    """The name in commands and records."""
    title: Callable[[int], str]
    """Size -> the name in headings."""
    headline: str
    """The figure of a summary, and of the record of an epoch, that counts as the accuracy."""
    metric: str
    """What the accuracy is, in sentences below a table."""
    readings: Mapping[str, str]
    """Further figures of a summary -> their names in tables."""
    origin: Origin
    """Where the data of a run are from."""
    settings: type[RunSettings]
    """The settings of a run."""
    recipe: Callable[[int, bool], dict[str, Any]]
    """Size, and whether to augment -> the recipe on the full data."""
    runs: Callable[[], Runs]
    """Imports and returns the module that starts and resumes runs."""
    command: click.Command
    """The command below ``emnesy train``; its name is that of the task."""
    size_option: str
    """The option of that command, and of the benchmark of E-steps, that takes the size."""
    options: Callable[[int, int, int | None], dict[str, int | None]]
    """Size, seed and training maps -> options of the command with their values, None for an option to leave out."""
    default_method: Callable[[int], str]
    """Size -> the key of fused soft EM with one M-step and the engine that the problem takes by default."""
    protocol: TaskProtocol
    """The experiments that reproduce the tables."""
    data_commands: Sequence[click.Command] = ()
    """Commands below ``emnesy data``."""
    test_count: str | None = None
    """The figure of a summary that counts what is tested, where there are so few that one of them matters."""
    recorded: Sequence[str] = ()
    """Words in the names of further figures that records take from a summary, beside those every task has."""
    reads_mnist: bool = True
    """Whether ``--data-dir`` of the command is the folder of the MNIST files."""
