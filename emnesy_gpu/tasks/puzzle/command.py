"""The command ``train puzzle``."""

from __future__ import annotations

from typing import Any

import click

from emnesy_gpu.tasks.core.options import (
    LEARNING,
    MACHINE,
    POSITIVE,
    SUPERVISED,
    Runs,
    add_options,
    batch_options,
    hard_option,
    run_command,
    seed_option,
)
from emnesy_gpu.tasks.mnist.options import AUGMENT, DATA, HOLDOUT, NET
from emnesy_gpu.tasks.puzzle.kinds import KINDS
from emnesy_gpu.tasks.puzzle.settings import SWEEPS


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.puzzle import run

    return run


@click.command(short_help="Learn digits from nothing but the clues of puzzles.")
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default=next(iter(KINDS)),
    show_default=True,
    help="nonogram: lengths of runs. kakuro: sums of different digits. futoshiki: signs < and > in a Latin square.",
)
@click.option("--size", type=POSITIVE, help="Rows of a board: nonogram 5 or 10, kakuro 4, futoshiki 4 or 5.")
@add_options(DATA)
@add_options(batch_options("boards", "by the recipe"))
@click.option("--engine", type=click.Choice(["bp", "map"]), help="Engine of the E-step.  [default: bp]")
@click.option(
    "--sweeps", type=POSITIVE, default=SWEEPS, show_default=True, help="Sweeps of belief propagation in the E-step."
)
@hard_option("digits")
@SUPERVISED
@NET
@add_options(LEARNING)
@AUGMENT
@seed_option("Seed of the first weights, the boards, their images and order, and the warps.")
@HOLDOUT
@add_options(MACHINE)
@click.pass_context
def puzzle(ctx: click.Context, **options: Any) -> None:
    """Learn digits from nothing but the clues of generated puzzles, by loopy belief propagation.

    Boards are solved puzzles with an MNIST image in every cell. The puzzles are generated: this program draws them,
    others for training than for testing. Every image is used once at most. The label of a board is its clues: the
    lengths of runs, the sums, or the signs. The command reports the share of test boards that are solved, given the
    net and the clues, and of test boards and images that the net alone reads right. Training never uses the classes of
    images, unless --supervised is given.
    """
    run_command(ctx, runs())
