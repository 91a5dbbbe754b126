"""The record of the task: MNIST addition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emnesy_gpu.tasks.addition.command import addition, runs
from emnesy_gpu.tasks.addition.settings import AdditionSettings, recipe
from emnesy_gpu.tasks.task import EStepBenchmark, Origin, PublishedRecipe, QuickProtocol, Task, TaskProtocol

if TYPE_CHECKING:
    from emnesy_gpu.benchmarks.suite import Suite

SAMPLING_EPOCHS = 6
"""Epochs in which sampling engines learn one and two digits, and four digits too, except rejection."""

COMPARED = ("exact", "bp-std", "hard", "multi-m-2", "multi-m-5", "multi-m-10")
SAMPLED = ("abc", "gibbs", "rejection")
BY_REWARDS = ("rloo", "indecater")
"""Systems that are run on one and two digits, where rewards are not always 0."""

DEEPSTOCHLOG = PublishedRecipe("DeepStochLog", epochs=5, batch=32, lr=1e-3, minutes=0.25)
SCALLOP = PublishedRecipe("Scallop", epochs=10, batch=64, lr=1e-3, minutes=0.4)
EXAL = PublishedRecipe("EXAL", epochs=20, batch=10, lr=1e-3, minutes=3.5)
A_NESI = PublishedRecipe("A-NeSI, a fifth of its epochs", epochs=20, batch=16, lr=1e-3, minutes=3.4)


def _suite() -> Suite:
    from emnesy_gpu.benchmarks.addition import SUITE

    return SUITE


def _recipe(size: int, augment: bool) -> dict[str, Any]:
    return recipe(size, augment, "mnist")


PROTOCOL = TaskProtocol(
    methods={
        4: (*COMPARED, "torch", *SAMPLED, "exal", "top-3-proofs", "a-nesi"),
        15: (*COMPARED, "top-3-proofs"),
        100: COMPARED,
        1: ("exact", *SAMPLED, *BY_REWARDS),
        2: ("exact", *SAMPLED, *BY_REWARDS),
        200: ("exact",),
        500: ("exact",),
    },
    data="mnist",
    batches=(4, "exact", {4: 3.3, 240: 1.3}),
    minutes={
        (1, True): 1.6,
        (2, True): 1.6,
        (4, True): 1.5,
        (15, True): 1.3,
        (100, True): 2.3,
        (200, True): 2.3,
        (500, True): 2.3,
        (4, False): 0.5,
        (15, False): 0.5,
        (100, False): 0.5,
    },
    quick=QuickProtocol(15, 2, ("bp-std", "torch", "exact", "hard", "multi-m-2"), e_step_batch=64),
    unaugmented=(4, 15, 100),
    epochs=dict.fromkeys(SAMPLED, SAMPLING_EPOCHS),
    published={
        **{("exact", size): DEEPSTOCHLOG for size in (1, 2, 4, 15)},
        **{("exal", size): EXAL for size in (4, 15)},
        ("exal-by-posterior", 15): EXAL,
        **{("top-3-proofs", size): SCALLOP for size in (4, 15)},
        **{("a-nesi", size): A_NESI.taking(minutes) for size, minutes in ((1, 3.4), (2, 3.5), (4, 3.4), (15, 3.0))},
    },
    measured={
        "bp-std": {4: 1.6, 15: 1.4, 100: 4.0},
        "torch": {4: 1.6, 15: 1.3, 100: 3.0},
        "abc": {1: 0.5, 2: 0.5, 4: 0.5},
        "gibbs": {1: 0.9, 2: 1.2, 4: 2.2},
        "rejection": {1: 0.7, 2: 0.7, 4: 0.7},
        "exal": {4: 5.8},
        "a-nesi": {4: 3.8},
        "rloo": {1: 1.3, 2: 1.2},
        "indecater": {1: 1.6, 2: 1.8},
    },
    e_step=EStepBenchmark(
        suite=_suite,
        title="addition",
        size_meaning="digits per number",
        sizes=(4, 15, 100, 200, 500, 1000),
        fused="exact",
        figure_title="Addition",
    ),
)

ADDITION = Task(
    name="addition",
    title=lambda size: f"{size}-digit addition",
    headline="sum_accuracy",
    metric="Accuracy: test sums that are right as a whole, every digit read by argmax and then added; exact "
    "equality, no tolerance. DeepProofLog trains without augmentation.",
    readings={
        "digit_accuracy": "digits",
        "sum_accuracy_20": "20 groupings",
        "sum_accuracy_views": "views",
        "sum_accuracy_own": "its own sums",
    },
    origin=Origin("data", usual="mnist", names={"mnist": "MNIST"}),
    settings=AdditionSettings,
    recipe=_recipe,
    runs=runs,
    command=addition,
    size_option="digits",
    options=lambda size, seed, maps: {"digits": size, "seed": seed},
    default_method=lambda size: "exact",
    protocol=PROTOCOL,
    test_count="test_sums",
    recorded=("data",),
)
