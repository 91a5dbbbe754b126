"""The commands ``train sudoku`` and ``data visudo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.loss_engines import OF_BOARDS
from emnesy_gpu.tasks.core.options import (
    DIRECTORY,
    LEARNING,
    MACHINE,
    POSITIVE,
    Runs,
    add_options,
    batch_options,
    run_command,
    seed_option,
    size_option,
)
from emnesy_gpu.tasks.mnist.options import AUGMENT, DATA, NET, VIEWS
from emnesy_gpu.tasks.sudoku.settings import FACTORS, SIZES

SPLIT = (
    size_option(SIZES, "Rows of a board."),
    click.option(
        "--split", type=POSITIVE, default=1, show_default=True, help="Number of the split: 1 to 11 as published."
    ),
)
"""The options that choose the boards."""


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.sudoku import run

    return run


@click.command(short_help="Learn digits from nothing but valid Sudoku boards.")
@add_options(SPLIT)
@add_options(DATA)
@click.option("--visudo-dir", type=DIRECTORY, help="Folder of the original files of ViSudo-PC, in place of --data.")
@add_options(batch_options("boards", "by size"))
@click.option(
    "--engine",
    type=click.Choice([*ENGINE_NAMES, *OF_BOARDS]),
    help="Engine of the E-step. For comparison, torch and bp-std are belief propagation in plain torch, without and "
    "with autograd, and the last ones are losses of other systems.  [default: exact for 4x4, else bp]",
)
@click.option(
    "--factors",
    type=click.Choice(FACTORS),
    default="all_different",
    show_default=True,
    help="Factors of belief propagation: rows, columns and boxes, or pairs of cells.",
)
@click.option("--hard", is_flag=True, help="Hard EM: the most probable grid is the target, like --engine map.")
@click.option("--with-invalid", is_flag=True, help="Train on the invalid boards too.")
@NET
@add_options(LEARNING)
@AUGMENT
@click.option("--restarts", type=POSITIVE, help="Short trials to choose the start from.  [default: by size]")
@VIEWS
@seed_option("Seed of the first weights, the order of the boards and the warps.")
@add_options(MACHINE)
@click.pass_context
def sudoku(ctx: click.Context, **options: Any) -> None:
    """Learn digits from nothing but boards that are known to be valid (visual Sudoku).

    The boards are those of ViSudo-PC: made anew by its published rules, or its original files. The command reports
    the share of test boards that are judged rightly as valid or not, in two ways: by the most probable digit of every
    image alone, and by the evidence of the board, above a threshold that is chosen on labelled validation boards.
    """
    run_command(ctx, runs())


@click.command(short_help="Write boards of visual Sudoku in the files of ViSudo-PC.")
@add_options(SPLIT)
@add_options(DATA)
@click.option("--to", "root", type=DIRECTORY, required=True, help="Folder to write to.")
def visudo(size: int, split: int, data: str, data_dir: Path | None, root: Path) -> None:
    """Write regenerated boards of visual Sudoku in the text files of ViSudo-PC."""
    from emnesy_gpu.tasks.sudoku import choose, files

    boards = choose.load(size, split, data, data_dir)
    click.echo(f"{boards.source}: written to {files.write(boards, root)}")
