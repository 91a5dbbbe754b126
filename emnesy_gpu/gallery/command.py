"""The command ``emnesy gallery``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from emnesy_gpu.gallery import compiled, digits, graphs, paths, samples
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file

DPI = 100
FRAME_MILLISECONDS = 700

PICTURES: dict[str, Callable[[], Any]] = {
    "addition": digits.addition,
    "sudoku": digits.sudoku,
    "formula": digits.formula,
    "path": paths.path,
    "nonogram": graphs.nonogram,
    "decoder": graphs.decoder,
    "automaton": compiled.automaton,
    "circuit": compiled.circuit,
    "samples": samples.samples,
}
"""Name -> function that returns a figure; the nonogram is an animation."""


@click.command(short_help="Draw small examples as pictures.")
@click.argument("names", nargs=-1, type=click.Choice(list(PICTURES)), metavar="[NAME]...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/gallery"),
    show_default=True,
    help="Folder of the pictures.",
)
def gallery(names: tuple[str, ...], out: Path) -> None:
    """Run small examples and draw them.

    Names: addition, sudoku, formula, path, nonogram, decoder, automaton, circuit, samples. Without names all are drawn,
    in about a minute, without network and files. The pictures are those of docs/gallery.md.
    """
    require("matplotlib.figure")
    out.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        made = PICTURES[name]()
        moves = isinstance(made, tuple)
        path = out / (f"{name}.gif" if moves else f"{name}.png")
        replace_file(path, partial(_write_animation if moves else _write_picture, made))
        click.echo(f"written: {path}")


def _write_picture(figure: Any, path: Path) -> None:
    figure.savefig(path, format="png", dpi=DPI)


def _write_animation(made: tuple[Any, Callable[[int], None]], path: Path) -> None:
    """Write a GIF file with a frame for each sweep; it stays on the last for a while."""
    figure, draw = made
    agg, image = require("matplotlib.backends.backend_agg"), require("PIL.Image")
    canvas, frames = agg.FigureCanvasAgg(figure), []
    figure.set_dpi(DPI)
    for sweep in range(graphs.SWEEPS + 1):
        draw(sweep)
        canvas.draw()
        frames.append(image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L"))
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [4 * FRAME_MILLISECONDS]
    frames[0].save(path, format="gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
