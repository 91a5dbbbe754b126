"""The ``train`` commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

DIRECTORY = click.Path(file_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)
KEPT_ON_RESUME = {"resume", "data_dir"}


def _known_device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d+)?", value) is None:
        raise click.BadParameter(f"{value!r} is none of cpu, cuda and cuda:N", ctx, parameter)
    return value


@click.group(no_args_is_help=False)
def train() -> None:
    """Train a net on a benchmark by EM."""


@train.command()
@click.option("--digits", type=POSITIVE, default=4, show_default=True, help="Digits per number.")
@click.option(
    "--data",
    type=click.Choice(["auto", "mnist", "digits"]),
    default="auto",
    show_default=True,
    help="mnist: IDX files from --data-dir, $EMNESY_DATA or the cache, else fetched from OpenML. "
    "digits: scikit-learn's bundled 8x8 images. auto: mnist where its files are at hand, else digits.",
)
@click.option("--data-dir", type=DIRECTORY, help="Folder of the MNIST files, also as MNIST/raw below it.")
@click.option("--epochs", type=POSITIVE, help="Passes over the training sums.  [default: by digits]")
@click.option("--batch", type=POSITIVE, help="Sums per batch.  [default: by digits]")
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    help="Peak learning rate of AdamW.  [default: by digits]",
)
@click.option("--engine", type=click.Choice(["exact", "map"]), help="E-step.  [default: exact]")
@click.option("--hard", is_flag=True, help="Hard EM: the most probable digits as targets, like --engine map.")
@click.option("--m-steps", type=POSITIVE, default=1, show_default=True, help="Gradient steps per posterior.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Warp the training images.")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=0,
    show_default=True,
    help="Fixes the first weights, the pairing into sums, their order and the warps.",
)
@click.option(
    "--holdout",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Leave the test images alone: test on this many of the last training images, not trained on.",
)
@click.option("--device", callback=_known_device, default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", type=POSITIVE, help="CPU threads.  [default: PyTorch's]")
@click.option("--out", type=DIRECTORY, help="New folder for settings, metrics, checkpoint, curve and summary.")
@click.option("--resume", type=DIRECTORY, help="Continue the run in this folder; takes no other settings.")
@click.pass_context
def addition(ctx: click.Context, **options: Any) -> None:
    """MNIST addition: learn digits from nothing but the sums of two numbers.

    Every training image is used in one sum, and the same sums come in every epoch. Reports the share of whole test
    sums that come out right when every test image is read as its most probable digit.
    """
    from emnesy_gpu.tasks import addition_run

    if options["resume"] is not None:
        _check_alone(ctx)
        code = addition_run.resume(options["resume"], options["data_dir"])
    else:
        options.pop("resume")
        code = addition_run.start(options.pop("out"), options.pop("data_dir"), **options)
    ctx.exit(code)


def _check_alone(ctx: click.Context) -> None:
    given = [
        "--" + name.replace("_", "-")
        for name in ctx.params
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT and name not in KEPT_ON_RESUME
    ]
    if given:
        raise click.UsageError(f"--resume takes its settings from the run: leave out {', '.join(given)}")
