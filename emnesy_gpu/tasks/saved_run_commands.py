"""The commands ``emnesy evaluate``, ``emnesy explain`` and ``emnesy predict``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

import emnesy_gpu as em
from emnesy_gpu.tasks import saved_runs
from emnesy_gpu.tasks.core.options import DIRECTORY, add_options
from emnesy_gpu.tasks.core.training import EMTraining, Reading
from emnesy_gpu.tasks.files.arrays import read_array
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import replace_file

RUN = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
FOLDERS = (
    click.option("--data-dir", type=DIRECTORY, help="Folder of the data, as for train."),
    click.option("--visudo-dir", type=DIRECTORY, help="Folder of the ViSudo-PC files, as for train sudoku."),
)
IMAGES = (".png", ".jpg", ".jpeg")
PICTURE_DPI = 110


def _with_folders(command: Callable[..., Any]) -> Callable[..., Any]:
    return add_options(FOLDERS)(command)


@click.command(short_help="Judge a saved run on its test data again.")
@RUN
@_with_folders
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(run: Path, as_json: bool, **folders: Path | None) -> None:
    """Judge the net in the folder RUN on the test data of its task, and print the figures of its summary.

    The checkpoint is verified by its checksum and read without running code. Nothing is written.
    """
    figures = saved_runs.figures(saved_runs.open_run(run, **folders))
    if as_json:
        click.echo(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        click.echo(f"{name:{width}}  {f'{value:.6g}' if isinstance(value, float) else value}")


@click.command(short_help="Explain one posterior of a saved run.")
@RUN
@_with_folders
@click.option("--row", type=click.IntRange(min=0), default=0, show_default=True, help="Test row to explain.")
@click.option("--top", type=click.IntRange(min=0), default=5, show_default=True, help="Most probable assignments.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Draw a picture into this .png file too.")
def explain(run: Path, row: int, top: int, out: Path | None, **folders: Path | None) -> None:
    """Explain what the net in the folder RUN believes of one test row, and what its label says.

    The table has the most probable values of every symbol before and after the label is known, and the assignments that
    remain, best first, with their probabilities: exact for problems with exact inference. Names of Sudoku's symbols are
    those of the net.
    """
    if out is not None and out.suffix.lower() != ".png":
        raise DataError(f"--out must be a .png file, got {out}")
    training = saved_runs.open_run(run, **folders).training
    pixels, label, problem = training.test_rows(slice(row, row + 1))
    if not len(label):
        raise DataError(f"--row {row} is beyond the test rows of {run}: they count from 0 to {_last_row(training)}")
    told = em.explain(problem, training.beliefs(pixels), label, k=top)
    click.echo(told)
    if out is not None:
        figure = told.plot()
        replace_file(out, lambda path: figure.savefig(path, format="png", dpi=PICTURE_DPI))
        click.echo(f"written: {out}")


def _last_row(training: EMTraining) -> int:
    return len(training.test_rows(slice(None)).label) - 1


@click.command(short_help="Read images with the net of a saved run.")
@RUN
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_with_folders
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="An .npz file in place of lines.")
def predict(run: Path, images: tuple[Path, ...], out: Path | None, **folders: Path | None) -> None:
    """Read IMAGES with the net in the folder RUN: .npy files of uint8, or grey .png and .jpg files of 28x28 pixels.

    An array [n, 28, 28] has an image a symbol. An array [n, *latent_shape, 28, 28] has rows of images, such as [n, 2,
    4, 28, 28] for addition of 4 digits: their labels are predicted too. Warcraft takes maps [n, 8 H, 8 W, 3]. Each row
    becomes a line of JSON: classes, probability of each, and label. The .npz file has the arrays classes, probabilities
    (of every class) and label. Symbols of Sudoku are known up to their names.
    """
    runner = saved_runs.open_run(run, **folders)
    readings = [runner.training.look_at(torch.from_numpy(pixels)) for pixels in _load(images)]
    if out is not None:
        _write(out, readings)
        click.echo(f"written: {out}")
        return
    for reading in readings:
        best = reading.probabilities.amax(-1)
        for row, (classes, share) in enumerate(zip(reading.classes.tolist(), best.tolist(), strict=True)):
            label = {} if reading.label is None else {"label": reading.label[row].tolist()}
            click.echo(json.dumps({"classes": classes, "probability": _rounded(share), **label}))


def _load(paths: tuple[Path, ...]) -> list[NDArray[np.uint8]]:
    """Return the arrays of .npy files, and the image files as one array [n, height, width]."""
    arrays = [_array(path) for path in paths if path.suffix == ".npy"]
    pictures = [_picture(path) for path in paths if path.suffix.lower() in IMAGES]
    unknown = [path for path in paths if path.suffix != ".npy" and path.suffix.lower() not in IMAGES]
    if unknown:
        raise DataError(f"{unknown[0]} is none of .npy, {', '.join(IMAGES)}")
    if pictures and len({picture.shape for picture in pictures}) > 1:
        raise DataError("image files must have one size, got several: read them one by one")
    return arrays + ([np.stack(pictures)] if pictures else [])


def _array(path: Path) -> NDArray[np.uint8]:
    """Return the array in a file, which must hold bytes."""
    pixels = read_array(path)
    if pixels.dtype != np.uint8:
        raise DataError(f"{path} must hold uint8 pixels, 0..255, got {pixels.dtype}")
    return np.array(pixels)


def _picture(path: Path) -> NDArray[np.uint8]:
    image = require("PIL.Image")
    try:
        return np.asarray(image.open(path).convert("L"))
    except Exception as error:  # PIL raises errors of many kinds, one of its own for pictures that are too large
        raise DataError(f"{path} is no image: {error}") from error


def _rounded(values: Any) -> Any:
    return [_rounded(value) for value in values] if isinstance(values, list) else round(values, 4)


def _write(out: Path, readings: list[Reading]) -> None:
    if len(readings) != 1:
        raise DataError(f"--out takes one array, or images of one size, got {len(readings)} arrays")
    (reading,) = readings
    arrays: dict[str, Any] = {name: value.numpy() for name, value in reading._asdict().items() if value is not None}
    with out.open("wb") as file:
        np.savez(file, **arrays)
