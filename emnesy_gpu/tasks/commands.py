"""The groups ``emnesy train`` and ``emnesy data``, which have the commands of all tasks."""

from __future__ import annotations

import click

from emnesy_gpu.tasks.registry import TASKS


@click.group(no_args_is_help=False, short_help="Train a net on a benchmark by EM.")
def train() -> None:
    """Train a net on a benchmark by EM."""


@click.group(no_args_is_help=False, short_help="Write the data of a benchmark to files.")
def data() -> None:
    """Write the data of a benchmark to files."""


for task in TASKS.values():
    train.add_command(task.command, task.name)
    for command in task.data_commands:
        data.add_command(command)
