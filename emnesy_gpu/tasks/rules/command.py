"""The command ``train rules``."""

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
from emnesy_gpu.tasks.mnist.options import AUGMENT, AUTOMATON_ENGINE, DATA, HOLDOUT, NET
from emnesy_gpu.tasks.rules.automata import KNOWN_RULES


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.rules import run

    return run


@click.command(short_help="Learn digits from nothing but the label of a rule.")
@click.option(
    "--rule",
    type=click.Choice(list(KNOWN_RULES)),
    default=next(iter(KNOWN_RULES)),
    show_default=True,
    help="maximum: the largest digit. parity: that of the sum, with images of 0 and 1 alone. sort: the digits in "
    "ascending order. multiply-add: a * b + c.",
)
@click.option("--symbols", type=POSITIVE, help="Digits per row.  [default: by rule]")
@add_options(DATA)
@add_options(batch_options("rows", "by the recipe"))
@AUTOMATON_ENGINE
@hard_option("digits")
@SUPERVISED
@NET
@add_options(LEARNING)
@AUGMENT
@seed_option("Seed of the first weights, the images of the rows, their order and the warps.")
@HOLDOUT
@add_options(MACHINE)
@click.pass_context
def rules(ctx: click.Context, **options: Any) -> None:
    """Learn digits from nothing but the label of a rule (MNIST rules).

    Every training image is used in one row, and every epoch has the same rows. The command reports the share of test
    images that are read right, and of test rows whose digits have the right label. Training never uses the classes of
    images, unless --supervised is given. Parity of an even number of digits cannot tell 0 and 1 apart from their swap.
    """
    run_command(ctx, runs())
