"""The ``train`` commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from emnesy_gpu.tasks.core.runner import Runner

DIRECTORY = click.Path(file_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)
FOLDERS = ("data_dir", "visudo_dir")


def _known_device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d+)?", value) is None:
        raise click.BadParameter(f"{value!r} is none of cpu, cuda and cuda:N", ctx, parameter)
    return value


@click.group(no_args_is_help=False)
def train() -> None:
    """Train a net on a benchmark by EM."""


DATA = (
    click.option(
        "--data",
        type=click.Choice(["auto", "mnist", "digits"]),
        default="auto",
        show_default=True,
        help="mnist: IDX files from --data-dir, $EMNESY_DATA or the cache, else fetched from OpenML. "
        "digits: scikit-learn's bundled 8x8 images. auto: mnist where its files are at hand, else digits.",
    ),
    click.option("--data-dir", type=DIRECTORY, help="Folder of the MNIST files, also as MNIST/raw below it."),
)
SPLIT = (
    click.option(
        "--size",
        type=click.Choice(["4", "9"]),
        callback=lambda ctx, parameter, value: int(value),
        default="4",
        show_default=True,
        help="Rows of a board.",
    ),
    click.option(
        "--split", type=POSITIVE, default=1, show_default=True, help="Number of the split: 1 to 11 as published."
    ),
)
MAP_SIZE = click.option(
    "--size",
    type=click.Choice(["12", "18", "24", "30"]),
    callback=lambda ctx, parameter, value: int(value),
    default="12",
    show_default=True,
    help="Cells along a side of a map.",
)
LEARNING = (
    click.option(
        "--lr",
        type=click.FloatRange(min=0, min_open=True),
        help="Peak learning rate of AdamW.  [default: by the recipe]",
    ),
    click.option("--m-steps", type=POSITIVE, default=1, show_default=True, help="Gradient steps per posterior."),
    click.option("--augment/--no-augment", default=True, show_default=True, help="Warp the training images."),
)
VIEWS = click.option(
    "--views",
    type=click.IntRange(min=0),
    help="At the end, test also on the mean belief over this many warped copies of every image.  [default: by recipe]",
)
MACHINE = (
    click.option("--device", callback=_known_device, default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
    click.option("--threads", type=POSITIVE, help="CPU threads.  [default: PyTorch's]"),
    click.option("--out", type=DIRECTORY, help="New folder for settings, metrics, checkpoint, curves and summary."),
    click.option("--resume", type=DIRECTORY, help="Continue the run in this folder; takes no other settings."),
)


def _with(options: Iterable[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Options that commands share, in this order."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(list(options)), command)


@train.command()
@click.option("--digits", type=POSITIVE, default=4, show_default=True, help="Digits per number.")
@_with(DATA)
@click.option("--epochs", type=POSITIVE, help="Passes over the training sums.  [default: by digits]")
@click.option("--batch", type=POSITIVE, help="Sums per batch.  [default: by digits]")
@click.option(
    "--engine",
    type=click.Choice(["exact", "map", "abc", "gibbs", "rejection", "torch", "bp-std"]),
    help="E-step; the samplers suit 1 or 2 digits; torch and bp-std are messages in plain torch, without and with "
    "autograd, for comparison.  [default: exact]",
)
@click.option("--hard", is_flag=True, help="Hard EM: the most probable digits as targets, like --engine map.")
@_with(LEARNING)
@VIEWS
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
@_with(MACHINE)
@click.pass_context
def addition(ctx: click.Context, **options: Any) -> None:
    """MNIST addition: learn digits from nothing but the sums of two numbers.

    Every training image is used in one sum, and the same sums come in every epoch. Reports the share of whole test
    sums that come out right when every test image is read as its most probable digit.
    """
    _run(ctx, options)


@train.command()
@_with(SPLIT)
@_with(DATA)
@click.option("--visudo-dir", type=DIRECTORY, help="Folder of the original files of ViSudo-PC, in place of --data.")
@click.option("--epochs", type=POSITIVE, help="Passes over the training boards.  [default: by size]")
@click.option("--batch", type=POSITIVE, help="Boards per batch.  [default: by size]")
@click.option(
    "--engine",
    type=click.Choice(["exact", "bp", "map", "abc", "gibbs", "rejection", "torch", "bp-std"]),
    help="E-step; torch and bp-std are belief propagation in plain torch, without and with autograd, for comparison.  "
    "[default: exact for 4x4, else bp]",
)
@click.option(
    "--factors",
    type=click.Choice(["all_different", "pairwise"]),
    default="all_different",
    show_default=True,
    help="Of belief propagation: rows, columns and boxes, or pairs of cells.",
)
@click.option("--hard", is_flag=True, help="Hard EM: the most probable grid as target, like --engine map.")
@click.option("--with-invalid", is_flag=True, help="Train on the invalid boards too.")
@_with(LEARNING)
@click.option("--restarts", type=POSITIVE, help="Short trials to choose the start from.  [default: by size]")
@VIEWS
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=0,
    show_default=True,
    help="Fixes the first weights, the order of the boards and the warps.",
)
@_with(MACHINE)
@click.pass_context
def sudoku(ctx: click.Context, **options: Any) -> None:
    """Visual Sudoku: learn digits from nothing but boards that are known to be valid.

    ViSudo-PC regenerated by its published rules, or its original files. Reports the share of test boards judged
    rightly as valid or not: by the most probable digit of every image alone, and by the evidence of the board above a
    threshold that is chosen on the labelled validation boards.
    """
    _run(ctx, options)


@train.command()
@MAP_SIZE
@click.option(
    "--data",
    type=click.Choice(["auto", "files", "synthetic"]),
    default="auto",
    show_default=True,
    help="files: the published maps, from --data-dir, $EMNESY_DATA or the cache. synthetic: maps made for the purpose. "
    "auto: files where they are at hand, else synthetic maps.",
)
@click.option("--data-dir", type=DIRECTORY, help="Folder of the maps, also as warcraft_shortest_path_oneskin below it.")
@click.option("--maps", type=POSITIVE, help="Training maps.  [default: all files; synthetic maps by size]")
@click.option(
    "--net",
    type=click.Choice(["tile", "context", "resnet18"]),
    default="tile",
    show_default=True,
    help="tile: cell by cell. context: sees beyond the borders of cells. resnet18: the first two blocks of it.",
)
@click.option("--epochs", type=POSITIVE, help="Passes over the training maps.  [default: by size]")
@click.option("--batch", type=POSITIVE, help="Maps or windows per batch.  [default: by size]")
@click.option(
    "--window",
    type=click.IntRange(min=0, max=40),
    help="Cells along a side of windows to train on, 0 for whole maps.  [default: by size]",
)
@click.option(
    "--engine",
    type=click.Choice(["abc", "gibbs", "rejection"]),
    default="abc",
    show_default=True,
    help="E-step. gibbs takes two to three times as long as abc; rejection uses the samples that have the very path.",
)
@click.option(
    "--hard", is_flag=True, help="Hard EM: the sampled map that explains the path best as target, or all of them."
)
@click.option("--samples", type=POSITIVE, help="Sampled maps per map and E-step, but for gibbs.  [default: by size]")
@click.option(
    "--rao-blackwell-epochs", type=click.IntRange(min=0), help="First epochs with such samples.  [default: by size]"
)
@click.option("--supervised", is_flag=True, help="Train on the true classes, without an E-step, for comparison.")
@_with(LEARNING[:2])
@click.option("--restarts", type=POSITIVE, help="Seeds to try while classes merge.  [default: by size]")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**62),
    default=0,
    show_default=True,
    help="Fixes the first weights, the order of the maps, the windows and the samples.",
)
@_with(MACHINE)
@click.pass_context
def warcraft(ctx: click.Context, **options: Any) -> None:
    """Warcraft maps: learn the terrain of cells from nothing but cheapest paths.

    Reports the share of test maps whose predicted path costs, on the true map and in exact tenths, no more than the
    label. Classes are never used in training, but for --supervised. Synthetic maps are easier or harder than the
    published ones: their figures do not compare.
    """
    _run(ctx, options)


@click.group(no_args_is_help=False)
def data() -> None:
    """Write the data of a benchmark to files."""


@data.command()
@_with(SPLIT)
@_with(DATA)
@click.option("--to", "root", type=DIRECTORY, required=True, help="Folder to write to.")
def visudo(size: int, split: int, data: str, data_dir: Path | None, root: Path) -> None:
    """Write regenerated boards of visual Sudoku in the text files of ViSudo-PC."""
    from emnesy_gpu.tasks.sudoku import files as visudo_data

    boards = visudo_data.load(size, split, data, data_dir)
    click.echo(f"{boards.source}: written to {visudo_data.write(boards, root)}")


@data.command("warcraft")
@MAP_SIZE
@click.option("--maps", type=POSITIVE, help="Training maps.  [default: by size]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes the maps.")
@click.option("--to", "root", type=DIRECTORY, required=True, help="Folder to write to.")
def warcraft_data(size: int, maps: int | None, seed: int, root: Path) -> None:
    """Write synthetic maps of terrain in the files of the Warcraft maps."""
    from emnesy_gpu.tasks.warcraft import files, synthetic

    found = synthetic.generate(size, maps, seed)
    click.echo(f"{found.source}: written to {files.write(found, root)}")


def run_of(task: str, options: dict[str, Any]) -> Runner:
    """The run that the options of a train command ask for, ready to go: a new one, or one to continue."""
    run_module = import_module(f"emnesy_gpu.tasks.{task}.run")
    others = {name: value for name, value in options.items() if name not in ("out", "resume", *FOLDERS)}
    folders = {name: options[name] for name in FOLDERS if name in options}
    if options["resume"] is not None:
        return run_module.continued(options["resume"], **folders)  # type: ignore[no-any-return]
    return run_module.begun(options["out"], **folders, **others)  # type: ignore[no-any-return]


def _run(ctx: click.Context, options: dict[str, Any]) -> None:
    if options["resume"] is not None:
        _check_alone(ctx)
    assert ctx.command.name is not None
    ctx.exit(run_of(ctx.command.name, options).run())


def _check_alone(ctx: click.Context) -> None:
    given = [
        "--" + name.replace("_", "-")
        for name in ctx.params
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT and name not in ("resume", *FOLDERS)
    ]
    if given:
        raise click.UsageError(f"--resume takes its settings from the run: leave out {', '.join(given)}")
