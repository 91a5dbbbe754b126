"""The record of the task: Warcraft maps."""

from __future__ import annotations

from typing import Any

from emnesy_gpu.tasks.task import Origin, PublishedRecipe, QuickProtocol, Task, TaskProtocol
from emnesy_gpu.tasks.warcraft.command import runs, warcraft, write_maps
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings, recipe

RIVALS = ("blackbox", "imle")
"""The systems that are run on whole maps and on windows of them; the layer of paths has no room for windows."""

COMPARED = ("abc", "supervised", "hard", "multi-m-2", "multi-m-5", "multi-m-10", "gibbs", "rejection")

BLACKBOX = PublishedRecipe("blackbox backpropagation", epochs=50, batch=70, lr=5e-4, minutes=1.2)
IMLE = PublishedRecipe("I-MLE", epochs=50, batch=70, lr=5e-4, minutes=1.2)
RLOO = PublishedRecipe("A-NeSI", epochs=10, batch=70, lr=5e-4, minutes=0.3)


def _recipe(size: int, augment: bool) -> dict[str, Any]:
    return recipe(size)


PROTOCOL = TaskProtocol(
    methods={12: (*COMPARED, *RIVALS, "imle-true-costs", "spl", "exal", "rloo"), 30: (*COMPARED, *RIVALS)},
    data="auto",
    batches=(12, "abc", {5: 1.4, 80: 0.9}),
    minutes={(12, True): 0.8, (30, True): 2.4},
    quick=QuickProtocol(12, 4, ("abc", "supervised"), maps=500),
    counted_in_epochs=("rao_blackwell_epochs",),
    measured={
        "abc": {12: 0.8, 30: 2.4},
        "supervised": {12: 0.5, 30: 1.5},
        "hard": {12: 0.9, 30: 3.8},
        "gibbs": {12: 1.0, 30: 3.3},
        "rejection": {12: 0.9, 30: 3.0},
        "blackbox": {12: 0.7, 30: 1.3},
        "imle": {12: 0.7, 30: 1.4},
        "imle-true-costs": {12: 0.7},
        "spl": {12: 3.5},
        "exal": {12: 4.4},
        "rloo": {12: 0.5},
    },
    published={("blackbox", 12): BLACKBOX, ("imle", 12): IMLE, ("imle-true-costs", 12): IMLE, ("rloo", 12): RLOO},
)

WARCRAFT = Task(
    name="warcraft",
    title=lambda size: f"Warcraft {size}x{size}",
    headline="cost_accuracy",
    metric="Accuracy: test maps where the path that is cheapest by the predicted costs, priced at the true costs "
    "in integer tenths, costs no more than the label's; tolerance 0. Published rows differ in tolerance: A-NeSI "
    "accepts 0.1 more, I-MLE a relative 1e-6 of costs in half precision unless said.",
    readings={"path_accuracy": "exact path", "cell_accuracy": "cells", "cost_within_0.001": "within 0.1 %"},
    origin=Origin("maps", usual="synthetic", published="original", noun="maps"),
    settings=WarcraftSettings,
    recipe=_recipe,
    runs=runs,
    command=warcraft,
    size_option="size",
    options=lambda size, seed, maps: {"size": size, "seed": seed, "maps": maps},
    default_method=lambda size: "abc",
    protocol=PROTOCOL,
    recorded=("within", "maps", "merged", "starts"),
    data_commands=(write_maps,),
    reads_mnist=False,
)
