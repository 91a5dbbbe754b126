"""The options that train commands share, and how a command becomes a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.core import ParameterSource

from emnesy_gpu.checks import LARGEST_SEED
from emnesy_gpu.tasks.core import distributed
from emnesy_gpu.tasks.files.run_directory import holds_run
from emnesy_gpu.tasks.files.settings import DEVICE

if TYPE_CHECKING:
    from emnesy_gpu.tasks.core.runner import Runner

DIRECTORY = click.Path(file_okay=False, path_type=Path)
POSITIVE = click.IntRange(min=1)


class Runs(Protocol):
    """What the module with the runs of a task offers."""

    @property
    def start(self) -> Callable[..., Runner]:
        """``start(out, **options)`` returns a new run, ready to go.

        out: a new folder for the files of the run, or None. options: all options of the train command but ``out`` and
        ``resume``; None where the recipe of the task decides. Raises DataError for data that are missing.
        """

    @property
    def resume(self) -> Callable[..., Runner]:
        """``resume(path, **folders)`` returns the run in a folder, ready to go on after its last finished epoch.

        folders: the options of the train command that name folders of data. Raises DataError where there is no run.
        """


def check_device(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the name of a device as it is, or refuse it."""
    if not DEVICE.holds(value):
        raise click.BadParameter(f"{value!r} is none of cpu, cuda and cuda:N", ctx, parameter)
    return value


LEARNING = (
    click.option(
        "--lr",
        type=click.FloatRange(min=0, min_open=True),
        help="Peak learning rate of AdamW.  [default: by the recipe]",
    ),
    click.option("--m-steps", type=POSITIVE, default=1, show_default=True, help="Gradient steps per posterior."),
    click.option(
        "--plain",
        is_flag=True,
        help="Train as most published systems do: Adam at the constant rate --lr, without weight decay, averaged "
        "weights, warps, views and trials.",
    ),
)
"""The options of the optimizer."""


def batch_options(rows: str, default: str) -> tuple[Callable[[Any], Any], ...]:
    """Return ``--epochs`` and ``--batch``; rows: what the training data are. default: what decides without them."""
    return (
        click.option("--epochs", type=POSITIVE, help=f"Passes over the training {rows}.  [default: {default}]"),
        click.option("--batch", type=POSITIVE, help=f"{rows.capitalize()} per batch.  [default: {default}]"),
    )


def hard_option(symbols: str) -> Callable[[Any], Any]:
    """Return the option ``--hard``; symbols: what the net reads."""
    return click.option(
        "--hard", is_flag=True, help=f"Hard EM: the most probable {symbols} are the targets, like --engine map."
    )


SUPERVISED = click.option(
    "--supervised", is_flag=True, help="Train on the true classes, without an E-step, for comparison."
)

MACHINE = (
    click.option(
        "--device", callback=check_device, default="cpu", show_default=True, help="Device: cpu, cuda or cuda:N."
    ),
    click.option("--threads", type=POSITIVE, help="CPU threads.  [default: PyTorch's]"),
    click.option("--out", type=DIRECTORY, help="New folder for settings, metrics, checkpoint, curves and summary."),
    click.option("--resume", type=DIRECTORY, help="Resume the run in this folder; takes no other settings."),
    click.option("--tensorboard", is_flag=True, help="Write the figures of epochs for TensorBoard too, below --out."),
)
"""The options that say where a run takes place."""


def size_option(sizes: Sequence[int], help: str) -> Callable[[Any], Any]:
    """Return the option ``--size`` with a choice of sizes, the first of them by default."""
    return click.option(
        "--size",
        type=click.Choice([str(size) for size in sizes]),
        callback=lambda ctx, parameter, value: int(value),
        default=str(sizes[0]),
        show_default=True,
        help=help,
    )


def seed_option(help: str, largest: int = LARGEST_SEED) -> Callable[[Any], Any]:
    """Return the option ``--seed``; ``help`` says what the seed fixes."""
    return click.option("--seed", type=click.IntRange(min=0, max=largest), default=0, show_default=True, help=help)


def add_options(options: Iterable[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return a decorator that adds options to a command, in this order."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(list(options)), command)


def is_folder(option: str) -> bool:
    """Whether an option names a folder of data: such folders may have moved since a run began."""
    return option.endswith("_dir")


NO_SETTINGS = ("out", "resume", "tensorboard")
"""Options that a run does not depend on."""


def open_run(options: Mapping[str, Any], runs: Runs) -> Runner:
    """Return the run that the options of a train command ask for, ready to go: a new one, or one to resume.

    After a restart by ``torchrun`` the run that is in ``out`` by then is resumed. Only the first rank has files.
    """
    ranks, out, resumed = distributed.current(), options["out"], options["resume"]
    if out is not None and distributed.restarted():
        resumed = ranks.from_first(lambda: out if holds_run(out) else None)
    if resumed is not None:
        return runs.resume(resumed, **{name: options[name] for name in options if is_folder(name)})
    others = {name: options[name] for name in options if name not in NO_SETTINGS}
    return runs.start(out if ranks.is_first else None, **others)


def run_command(ctx: click.Context, runs: Runs) -> None:
    """Open the run of a train command, run it, and exit with its code."""
    if ctx.params["resume"] is not None:
        _check_alone(ctx)
    if ctx.params["tensorboard"] and ctx.params["out"] is None and ctx.params["resume"] is None:
        raise click.UsageError("--tensorboard writes into the folder of a run: give --out")
    with distributed.joined():
        runner = open_run(ctx.params, runs)
        if ctx.params["tensorboard"]:
            runner.write_events()
        code = runner.run()
    ctx.exit(code)


def _check_alone(ctx: click.Context) -> None:
    """Refuse settings beside ``--resume``."""
    given = [
        "--" + name.replace("_", "-")
        for name in ctx.params
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        and name not in ("resume", "tensorboard")
        and not is_folder(name)
    ]
    if given:
        raise click.UsageError(f"--resume takes its settings from the run: leave out {', '.join(given)}")
