"""The ``reproduce`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.reproduce.protocol import SEEDS, Experiment, estimate, protocol
from emnesy_gpu.tasks.core.options import check_device
from emnesy_gpu.tasks.core.stop_signals import StopSignals
from emnesy_gpu.tasks.files.folder_lock import locked
from emnesy_gpu.tasks.registry import TASKS

if TYPE_CHECKING:
    from emnesy_gpu.reproduce.campaign import Campaign

LIMIT_MINUTES = 30.0


@click.command(short_help="Reproduce the published tables, with accuracy, time, memory.")
@click.argument("task", type=click.Choice([*TASKS, "all"]), metavar="TASK")
@click.option(
    "--quick", "level", flag_value="quick", help="A few minutes: few epochs, one seed. Do not quote the figures."
)
@click.option("--full", "level", flag_value="full", default="full", help="The protocol.  [default]")
@click.option("--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Runs of every method.")
@click.option(
    "--method",
    "methods",
    type=click.Choice(list(METHODS)),
    metavar="METHOD",
    multiple=True,
    help=f"Only this method, one of {', '.join(METHODS)}; may be repeated.  [default: all]",
)
@click.option("--size", "sizes", type=int, multiple=True, help="Only this size; may be repeated.  [default: all]")
@click.option(
    "--shard",
    callback=lambda ctx, parameter, value: _shard(value),
    metavar="I/N",
    help="Only every N-th experiment from the I-th on, for N processes or machines that share --out. Call the command "
    "without it in the end, for tables and figures.",
)
@click.option("--dry-run", is_flag=True, help="List the experiments that are left, with an estimate of their minutes.")
@click.option(
    "--limit-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=LIMIT_MINUTES,
    show_default=True,
    help="Wall time of one experiment in minutes; one that takes longer counts as T/O.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Experiments at a time.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of an experiment."
)
@click.option("--device", callback=check_device, default="cpu", show_default=True, help="Device: cpu, cuda or cuda:N.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Folder of the MNIST files, as for train.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder of results, tables and figures; a second call continues there.",
)
@click.pass_context
def reproduce(
    ctx: click.Context, task: str, level: str, shard: tuple[int, int] | None, dry_run: bool, out: Path, **options: Any
) -> None:
    """Reproduce the tables of EM-NeSy: methods x sizes x seeds, with accuracy, time and memory.

    TASK is addition, sudoku, warcraft, rules, formula, puzzle or all.

    Every experiment runs in a process of its own. Finished ones stay in results.jsonl and are not run again; one that
    was interrupted goes on after its last epoch. The command writes tables.md and figures beside that file. Several
    processes with --shard may share a folder; none runs what another one is running.
    """
    from emnesy_gpu.reproduce.campaign import Campaign

    whole = _protocol(task, level == "quick", options.pop("seeds"))
    experiments = _choose(whole, options.pop("methods"), options.pop("sizes"))
    first, step = shard or (1, 1)
    campaign = Campaign(experiments[first - 1 :: step], out, sharded=shard is not None, **options)
    if dry_run:
        _list(campaign)
        return
    with nullcontext() if campaign.sharded else locked(out):
        campaign.records(complete=True)
        if not campaign.sharded:
            campaign.collect()
        failed = _run(campaign)
        if not campaign.sharded:
            campaign.collect()
            _write(campaign)
    for experiment in campaign.remaining():
        if not failed:
            click.echo(f"{experiment.key} is left: another process runs it")
    ctx.exit(1 if failed else 0)


def _shard(value: str | None) -> tuple[int, int] | None:
    """Return (I, N) of the text I/N."""
    if value is None:
        return None
    first, slash, count = value.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise click.BadParameter(f"must be I/N with 1 <= I <= N, such as 1/4, got {value!r}")
    return int(first), int(count)


def _protocol(task: str, quick: bool, seeds: int) -> list[Experiment]:
    names = list(TASKS) if task == "all" else [task]
    return [experiment for name in names for experiment in protocol(name, quick, seeds)]


def _choose(experiments: list[Experiment], methods: Sequence[str], sizes: Sequence[int]) -> list[Experiment]:
    """Return the experiments with some methods and sizes; none given means all."""
    chosen = [
        experiment
        for experiment in experiments
        if (not sizes or experiment.size in sizes) and (not methods or experiment.method in methods)
    ]
    if not chosen:
        known = ", ".join(map(str, sorted({experiment.size for experiment in experiments})))
        raise click.UsageError(f"no experiment of the protocol has these methods and sizes; its sizes are {known}.")
    return chosen


def _list(campaign: Campaign) -> None:
    """Print the experiments that are left."""
    remaining = campaign.remaining()
    for experiment in remaining:
        command = " ".join(campaign.arguments(experiment))
        click.echo(f"{experiment.key:48s} {estimate(experiment):5.1f} min  {command}")
    minutes = sum(map(estimate, remaining))
    done = len(campaign.experiments) - len(remaining)
    click.echo(f"{len(remaining)} experiments left, {done} done; about {minutes:.0f} minutes of one core")


def _run(campaign: Campaign) -> int:
    """Run what is left; returns how many experiments failed."""
    from emnesy_gpu.reproduce.live import Progress

    failed = 0
    with StopSignals(), Progress(campaign, sys.stdout) as progress:
        for experiment, records in campaign.run():
            if any(record["status"] == "failed" for record in records):
                failed += 1
            progress.finished(experiment, records)
    return failed


def _write(campaign: Campaign) -> None:
    """Write tables and figures of all records."""
    from emnesy_gpu.reproduce import figures, tables

    records = campaign.records(complete=True)
    (campaign.out / "tables.md").write_text(tables.markdown(records), encoding="utf-8")
    names = ", ".join(path.name for path in figures.write(records, campaign.out))
    click.echo(f"written to {campaign.out}: results.jsonl, tables.md, {names or 'no figures'}")
