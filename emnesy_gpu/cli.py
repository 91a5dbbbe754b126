"""The command line: ``python -m emnesy_gpu``, or the console script ``emnesy``."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

import emnesy_gpu
from emnesy_gpu.engines import UnsupportedEngineError
from emnesy_gpu.tasks.core.stop_signals import Stopped, StopSignals, exit_code
from emnesy_gpu.tasks.files.errors import DataError, DivergedError, MissingExtraError

COMMANDS = {
    "bench": "emnesy_gpu.benchmarks.commands:bench",
    "data": "emnesy_gpu.tasks.commands:data",
    "evaluate": "emnesy_gpu.tasks.saved_run_commands:evaluate",
    "explain": "emnesy_gpu.tasks.saved_run_commands:explain",
    "gallery": "emnesy_gpu.gallery.command:gallery",
    "doctor": "emnesy_gpu.benchmarks.commands:doctor",
    "new": "emnesy_gpu.skeletons.command:new",
    "predict": "emnesy_gpu.tasks.saved_run_commands:predict",
    "reproduce": "emnesy_gpu.reproduce.commands:reproduce",
    "train": "emnesy_gpu.tasks.commands:train",
}
"""Name -> "module:attribute" of a click command, imported when it is run or listed."""

USER_ERRORS: tuple[type[Exception], ...] = (
    DataError,
    DivergedError,
    MissingExtraError,
    UnsupportedEngineError,
    ValueError,
    OSError,
)
"""Exceptions whose message is meant for the user, as one line."""


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; the error for another name suggests those that are like it."""
        close = get_close_matches(args[0], COMMANDS)
        if args[0] not in COMMANDS and close:
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {close[0]!r}?", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(emnesy_gpu.__version__, prog_name="emnesy_gpu")
def emnesy() -> None:
    """Train neurosymbolic models by EM, with fused posteriors of their hidden symbols."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's mistake, or a signal, is one line on standard error."""
    try:
        with StopSignals():
            code = emnesy.main(arguments, prog_name="emnesy", standalone_mode=False)
    except click.UsageError as error:
        return _fail(_usage(error), error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort as abort:
        return _interrupted(abort.__cause__)  # click makes it of KeyboardInterrupt
    except KeyboardInterrupt as interruption:
        return _interrupted(interruption)
    except USER_ERRORS as error:
        return _fail(str(error), 1)
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> str:
    """Return what is wrong with the words of a command, and where its help is."""
    command = error.ctx.command_path if error.ctx else "emnesy"
    message = error.format_message()
    if message == "Missing command." and error.ctx and isinstance(error.cmd, click.Group):
        message = f"Missing command: one of {', '.join(error.cmd.list_commands(error.ctx))}"
    end = "" if message.endswith((".", "?", "?)")) else "."
    return f"{message}{end} See {command} --help."


def _interrupted(cause: BaseException | None) -> int:
    number = cause.number if isinstance(cause, Stopped) else signal.SIGINT
    return _fail(f"interrupted by {signal.Signals(number).name}", exit_code(Stopped(number)))


def _fail(message: str, code: int) -> int:
    print(f"emnesy: error: {' '.join(message.split())}", file=sys.stderr)
    return code
