"""The record of the task: visual Sudoku."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emnesy_gpu.tasks.sudoku.command import runs, sudoku, visudo
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings, recipe
from emnesy_gpu.tasks.task import EStepBenchmark, Origin, PublishedRecipe, QuickProtocol, Task, TaskProtocol

if TYPE_CHECKING:
    from emnesy_gpu.benchmarks.suite import Suite

COMPARED = (
    *("bp", "bp-std", "torch", "hard", "multi-m-2", "multi-m-5", "multi-m-10"),
    *("abc", "gibbs", "rejection"),
)
RIVALS = ("semantic-loss", "pairwise-loss", "a-nesi", "top-1-proofs", "top-3-proofs", "rloo", "indecater")

BOTH_LABELS = ("--with-invalid",)
"""Flags of the losses that are published with valid and invalid boards."""

SEMANTIC_LOSS = PublishedRecipe("semantic loss", epochs=300, batch=20, lr=1e-3, minutes=0.5)
A_NESI = PublishedRecipe("A-NeSI, a tenth of its epochs", epochs=500, batch=20, lr=5.54e-4, minutes=0.9)


def _suite() -> Suite:
    from emnesy_gpu.benchmarks.sudoku import SUITE

    return SUITE


def _recipe(size: int, augment: bool) -> dict[str, Any]:
    return recipe(size, "mnist")


PROTOCOL = TaskProtocol(
    methods={4: ("exact", *COMPARED, *RIVALS), 9: (*COMPARED, "pairwise-loss")},
    data="mnist",
    batches=(9, "bp", {1: 1.5, 25: 0.6}),
    minutes={(4, True): 0.3, (9, True): 0.7},
    flags=dict.fromkeys(("semantic-loss", "pairwise-loss", "a-nesi"), BOTH_LABELS),
    published={
        ("exact", 4): replace(SEMANTIC_LOSS, flags=BOTH_LABELS),
        ("semantic-loss", 4): SEMANTIC_LOSS,
        ("pairwise-loss", 4): A_NESI,
        ("a-nesi", 4): A_NESI.taking(5.2),
    },
    measured={
        "bp-std": {4: 0.9, 9: 2.5},
        "torch": {4: 0.5, 9: 1.3},
        "abc": {4: 0.4, 9: 0.8},
        "gibbs": {4: 0.3, 9: 0.7},
        "rejection": {4: 0.4, 9: 0.8},
        "semantic-loss": {4: 0.7},
        "pairwise-loss": {4: 0.6, 9: 1.1},
        "a-nesi": {4: 5.4},
        "indecater": {4: 0.7},
    },
    quick=QuickProtocol(4, 20, ("bp-std", "torch", "exact", "hard", "multi-m-2"), e_step_batch=64),
    e_step=EStepBenchmark(suite=_suite, title="Sudoku", size_meaning="symbols", sizes=(4, 9), fused="bp"),
)

SUDOKU = Task(
    name="sudoku",
    title=lambda size: f"Sudoku {size}x{size}",
    headline="board_accuracy",
    metric="Accuracy: test boards rightly called valid or invalid, the argmax symbols checked against the rules; "
    "no tolerance, 50 % is chance. Published rows follow the decision rules of their own systems.",
    readings={
        "cell_accuracy": "cells",
        "calibrated_accuracy": "calibrated",
        "board_accuracy_views": "views",
        "board_accuracy_own": "its own reading",
    },
    origin=Origin("boards", usual="regenerated", published="original", noun="boards"),
    settings=SudokuSettings,
    recipe=_recipe,
    runs=runs,
    command=sudoku,
    size_option="size",
    options=lambda size, seed, maps: {"size": size, "split": seed + 1},
    default_method=lambda size: "exact" if size == 4 else "bp",
    protocol=PROTOCOL,
    recorded=("auroc", "boards"),
    data_commands=(visudo,),
)
