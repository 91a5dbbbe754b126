"""The options of train commands on images of digits."""

from __future__ import annotations

import click

from emnesy_gpu.tasks.core.engines import ENGINE_NAMES
from emnesy_gpu.tasks.core.options import DIRECTORY
from emnesy_gpu.tasks.core.plain_torch_engines import PLAIN_TORCH
from emnesy_gpu.tasks.mnist.choose import CHOICES
from emnesy_gpu.tasks.mnist.settings import NETS

AUTOMATON_ENGINE = click.option(
    "--engine",
    type=click.Choice([name for name in ENGINE_NAMES if name != "bp" and name not in PLAIN_TORCH]),
    help="Engine of the E-step.  [default: exact]",
)
"""The option of tasks whose problem is an automaton."""

DATA = (
    click.option(
        "--data",
        type=click.Choice(CHOICES),
        default="auto",
        show_default=True,
        help="mnist: IDX files from --data-dir, $EMNESY_DATA or the cache; where there are none, OpenML is asked. "
        "digits: the 8x8 images that scikit-learn brings. fashion: clothes in place of digits (Fashion-MNIST). "
        "auto: mnist where its files are found, else digits.",
    ),
    click.option("--data-dir", type=DIRECTORY, help="Folder of the MNIST files, also as MNIST/raw below it."),
)
"""The options that choose the images."""

NET = click.option(
    "--net",
    type=click.Choice(NETS),
    default=NETS[0],
    show_default=True,
    help="lenet: 44,426 weights, the net of published systems. deep: four convolutions, 150,858 weights, more accurate "
    "and slower.",
)

AUGMENT = click.option("--augment/--no-augment", default=True, show_default=True, help="Warp the training images.")

VIEWS = click.option(
    "--views",
    type=click.IntRange(min=0),
    help="At the end, test a second time: on the mean belief over this many warped copies of every image.  "
    "[default: by recipe]",
)

HOLDOUT = click.option(
    "--holdout",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Test on this many of the last training images, which are not trained on, in place of the test images.",
)
