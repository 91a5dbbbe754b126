"""The ``reproduce`` command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from emnesy_gpu.reproduce.campaign import Campaign

LIMIT_MINUTES = 30.0


@click.command()
@click.argument("task", type=click.Choice(["addition", "sudoku", "warcraft", "all"]))
@click.option("--quick", "level", flag_value="quick", help="A few minutes: few epochs, one seed, no figure to quote.")
@click.option("--full", "level", flag_value="full", default="full", help="The protocol.  [default]")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of every method.")
@click.option("--method", "methods", multiple=True, help="Only this method; repeat it.  [default: all]")
@click.option("--size", "sizes", type=int, multiple=True, help="Only this size; repeat it.  [default: all]")
@click.option("--dry-run", is_flag=True, help="List the cells that are left, with an estimate of their minutes.")
@click.option(
    "--limit-minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=LIMIT_MINUTES,
    show_default=True,
    help="Of wall time for one cell; then it counts as T/O.",
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Cells at a time.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of a cell.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
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
    ctx: click.Context,
    task: str,
    level: str,
    seeds: int,
    methods: tuple[str, ...],
    sizes: tuple[int, ...],
    dry_run: bool,
    data_dir: str | None,
    out: Path,
    **shared: Any,
) -> None:
    """Reproduce the tables of EM-NeSy: methods x sizes x seeds, with accuracy, time and memory.

    Every cell is a run of its own, in a process of its own. What is finished stays in results.jsonl, and is not run
    again; a run that was interrupted continues from its last epoch. Writes tables.md and figures beside it.
    """
    from emnesy_gpu.reproduce.campaign import Campaign
    from emnesy_gpu.reproduce.protocol import TASKS, protocol

    cells = [cell for name in (TASKS if task == "all" else (task,)) for cell in protocol(name, level == "quick", seeds)]
    cells = [cell for cell in cells if not sizes or cell.size in sizes]
    cells = [cell for cell in cells if not methods or cell.method in methods]
    if not cells:
        raise click.UsageError("no cell of the protocol has these methods and sizes")
    campaign = Campaign(cells, out, data_dir=data_dir, **shared)
    if dry_run:
        _list(campaign)
        return
    failed = _run(campaign)
    _write(campaign)
    ctx.exit(1 if failed else 0)


def _list(campaign: Campaign) -> None:
    from emnesy_gpu.reproduce.protocol import estimate

    remaining = campaign.remaining()
    for cell in remaining:
        command = " ".join(campaign.arguments(cell))
        click.echo(f"{cell.key:48s} {estimate(cell):5.1f} min  {command}")
    minutes = sum(map(estimate, remaining))
    done = len(campaign.cells) - len(remaining)
    click.echo(f"{len(remaining)} cells left, {done} done; about {minutes:.0f} minutes of one core")


def _run(campaign: Campaign) -> int:
    """Returns how many cells failed."""
    from emnesy_gpu.reproduce.live import Progress

    failed = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the children too
    with Progress(campaign, sys.stdout) as progress:
        for cell, records in campaign.run():
            failed += any(record["status"] == "failed" for record in records)
            progress.finished(cell, records)
    return failed


def _write(campaign: Campaign) -> None:
    from emnesy_gpu.reproduce import figures, tables

    records = campaign.records()
    (campaign.out / "tables.md").write_text(tables.markdown(records), encoding="utf-8")
    names = ", ".join(path.name for path in figures.write(records, campaign.out))
    click.echo(f"written to {campaign.out}: results.jsonl, tables.md, {names or 'no figures'}")
