"""The command ``train formula``."""

from __future__ import annotations

from typing import Any

import click

from emnesy_gpu.tasks.core.options import (
    LEARNING,
    MACHINE,
    SUPERVISED,
    Runs,
    add_options,
    batch_options,
    hard_option,
    run_command,
    seed_option,
)
from emnesy_gpu.tasks.formula.settings import SYMBOLS
from emnesy_gpu.tasks.mnist.options import AUGMENT, AUTOMATON_ENGINE, DATA, HOLDOUT, NET


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.formula import run

    return run


@click.command(short_help="Learn digits and operators from nothing but values of formulas.")
@click.option(
    "--symbols",
    type=click.Choice([str(n) for n in SYMBOLS]),
    callback=lambda ctx, parameter, value: int(value),
    default="5",
    show_default=True,
    help="Digits and operators in a formula. 7 take a table of 0.5 GiB.",
)
@click.option(
    "--mixed",
    is_flag=True,
    help="As many formulas of 1, 3, ... symbols, up to --symbols. Shorter ones end in black images. Note that the "
    "label of one digit is its class.",
)
@add_options(DATA)
@add_options(batch_options("formulas", "by the recipe"))
@AUTOMATON_ENGINE
@hard_option("symbols")
@SUPERVISED
@NET
@add_options(LEARNING)
@AUGMENT
@seed_option("Seed of the first weights, the images and operators of the formulas, their order and the warps.")
@HOLDOUT
@add_options(MACHINE)
@click.pass_context
def formula(ctx: click.Context, **options: Any) -> None:
    """Learn digits and operators from nothing but the values of formulas such as 3 + 4 * 2.

    Digits are MNIST images. Operators are generated: this program draws them by random strokes, others for training
    than for testing. Every training digit is used in one formula, and every epoch has the same formulas; * and / come
    before + and -, and values are exact fractions. The net reads each image as one of 14 symbols. The command reports
    the share of test formulas whose symbols have the right value, and of test images that are read right. Training
    never uses the classes of images, unless --supervised is given.
    """
    run_command(ctx, runs())
