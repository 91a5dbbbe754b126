"""The commands ``train warcraft`` and ``data warcraft``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from emnesy_gpu.tasks.core.options import (
    DIRECTORY,
    LEARNING,
    MACHINE,
    POSITIVE,
    SUPERVISED,
    Runs,
    add_options,
    run_command,
    seed_option,
    size_option,
)
from emnesy_gpu.tasks.core.sampling_engines import SAMPLERS
from emnesy_gpu.tasks.warcraft.path_losses import PATH_LOSSES
from emnesy_gpu.tasks.warcraft.settings import CHOICES, LARGEST_WINDOW, NETS, SIZES

MAP_SIZE = size_option(SIZES, "Cells along a side of a map.")
LARGEST_SEED = 2**62
"""Leaves room for the seeds of further starts."""


def runs() -> Runs:
    """Import the runs of this task."""
    from emnesy_gpu.tasks.warcraft import run

    return run


DATA = (
    click.option(
        "--data",
        type=click.Choice(CHOICES),
        default="auto",
        show_default=True,
        help="files: the published maps, from --data-dir, $EMNESY_DATA or the cache. synthetic: maps that this package "
        "makes. auto: files where they are found, else synthetic maps.",
    ),
    click.option(
        "--data-dir", type=DIRECTORY, help="Folder of the maps, also as warcraft_shortest_path_oneskin below it."
    ),
    click.option("--maps", type=POSITIVE, help="Training maps.  [default: all files; synthetic maps by size]"),
)
"""The options that choose the maps."""

E_STEP = (
    click.option(
        "--engine",
        type=click.Choice([*SAMPLERS, *PATH_LOSSES]),
        default="abc",
        show_default=True,
        help="Engine of the E-step. gibbs takes two to three times as long as abc; rejection keeps only the samples "
        "whose path is the label. For comparison, the last ones are losses of other systems.",
    ),
    click.option(
        "--hard",
        is_flag=True,
        help="Hard EM: the target is the sampled map that explains the path best, or the mean of all such maps.",
    ),
    click.option("--samples", type=POSITIVE, help="Sampled maps per map; gibbs ignores it.  [default: by size]"),
    click.option(
        "--rao-blackwell-epochs",
        type=click.IntRange(min=0),
        help="First epochs, in which samples are Rao-Blackwellised.  [default: by size]",
    ),
    SUPERVISED,
)
"""The options of the E-step."""


@click.command(short_help="Learn the terrain of maps from nothing but cheapest paths.")
@MAP_SIZE
@add_options(DATA)
@click.option(
    "--net",
    type=click.Choice(NETS),
    default="tile",
    show_default=True,
    help="tile: reads every cell alone. context: sees beyond the borders of a cell. resnet18: its first two blocks.",
)
@click.option("--epochs", type=POSITIVE, help="Passes over the training maps.  [default: by size]")
@click.option("--batch", type=POSITIVE, help="Maps or windows per batch.  [default: by size]")
@click.option(
    "--window",
    type=click.IntRange(min=0, max=LARGEST_WINDOW),
    help="Cells along a side of windows to train on, 0 for whole maps.  [default: by size]",
)
@add_options(E_STEP)
@add_options(LEARNING)
@click.option("--restarts", type=POSITIVE, help="Seeds to try while classes merge.  [default: by size]")
@seed_option("Seed of the first weights, the order of the maps, the windows and the samples.", LARGEST_SEED)
@add_options(MACHINE)
@click.pass_context
def warcraft(ctx: click.Context, **options: Any) -> None:
    """Learn the terrain of cells from nothing but cheapest paths (Warcraft maps).

    The command reports the share of test maps whose predicted path costs no more than the label, on the true map and
    in exact tenths. Training never uses the classes of cells, unless --supervised is given. Synthetic maps may be
    easier or harder than the published ones, so their figures do not compare.
    """
    run_command(ctx, runs())


@click.command("warcraft", short_help="Write synthetic maps in the files of the Warcraft maps.")
@MAP_SIZE
@click.option("--maps", type=POSITIVE, help="Training maps.  [default: by size]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the maps.")
@click.option("--to", "root", type=DIRECTORY, required=True, help="Folder to write to.")
def write_maps(size: int, maps: int | None, seed: int, root: Path) -> None:
    """Write synthetic maps of terrain in the files of the Warcraft maps."""
    from emnesy_gpu.tasks.warcraft import files, synthetic

    found = synthetic.generate(size, maps, seed)
    click.echo(f"{found.source}: written to {files.write(found, root)}")
