"""The command ``train addition``."""

from __future__ import annotations

from typing import Any

import click

from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.loss_engines import OF_SUMS
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
from emnesy_gpu.tasks.mnist.options import AUGMENT, DATA, HOLDOUT, NET, VIEWS

ENGINES = [name for name in ENGINE_NAMES if name != "bp"] + list(OF_SUMS)
"""All engines and losses but loopy belief propagation: the carry chain has no loops."""


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.addition import run

    return run


@click.command(short_help="Learn digits from nothing but the sums of two numbers.")
@click.option("--digits", type=POSITIVE, default=4, show_default=True, help="Digits per number.")
@add_options(DATA)
@add_options(batch_options("sums", "by digits"))
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="Engine of the E-step. The samplers suit 1 or 2 digits. For comparison, torch and bp-std pass messages in "
    "plain torch, without and with autograd, and the last ones are losses of other systems.  [default: exact]",
)
@hard_option("digits")
@SUPERVISED
@NET
@add_options(LEARNING)
@AUGMENT
@VIEWS
@seed_option("Seed of the first weights, the pairing into sums, their order and the warps.")
@HOLDOUT
@add_options(MACHINE)
@click.pass_context
def addition(ctx: click.Context, **options: Any) -> None:
    """Learn digits from nothing but the sums of two numbers (MNIST addition).

    Every training image is used in one sum, and every epoch has the same sums. The command reports the share of test
    sums that are right as a whole, where every test image is read as its most probable digit.
    """
    run_command(ctx, runs())
