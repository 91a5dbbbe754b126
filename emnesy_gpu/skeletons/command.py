"""The commands ``emnesy new rule`` and ``emnesy new problem``."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any

import click

from emnesy_gpu.skeletons.templates import PROBLEM, RULE, TEST
from emnesy_gpu.tasks.files.errors import DataError

FOLDER = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    show_default=True,
    help="Folder of the two files.",
)


def check_name(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the name of a module, or refuse it."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value) or keyword.iskeyword(value):
        raise click.BadParameter(f"{value!r} is no name of a module, such as traffic_light", ctx, parameter)
    return value


NAME = click.argument("name", callback=check_name)


@click.group(no_args_is_help=False, short_help="Write a first version of a rule or problem, with its test.")
def new() -> None:
    """Write a first version of a rule or a problem of your own, with a test that passes."""


@new.command(short_help="A rule that reads the symbols one by one.")
@NAME
@FOLDER
def rule(name: str, out: Path) -> None:
    """Write NAME.py with an em.Automaton, and test_NAME.py, which compares it with all assignments.

    It is the better start where the rule can be told symbol by symbol, with little to remember: inference is exact and
    fast, and nothing has to be derived.
    """
    _write(name, out, RULE.substitute(name=name), kind=name, made=f"{name}(4)")


@new.command(short_help="A problem with inference of its own.")
@NAME
@FOLDER
def problem(name: str, out: Path) -> None:
    """Write NAME.py with an em.Problem, and test_NAME.py, which compares it with all assignments.

    It is the start for rules with a structure that no automaton has. docs/extend.md says what each method receives and
    returns. See emnesy new rule first.
    """
    kind = "".join(word.capitalize() for word in name.split("_"))
    _write(name, out, PROBLEM.substitute(kind=kind), kind=kind, made=f"{kind}(4, cardinality=3)")


def _write(name: str, out: Path, text: str, **words: Any) -> None:
    paths = (out / f"{name}.py", out / f"test_{name}.py")
    for path in paths:
        if path.exists():
            raise DataError(f"{path} exists: choose another name, or another --out")
    out.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, (text, TEST.substitute(name=name, **words)), strict=True):
        path.write_text(content)
        click.echo(f"written: {path}")
    click.echo(f"test it (pip install pytest): python -m pytest {paths[1]}; then change the rule in {paths[0]}")
