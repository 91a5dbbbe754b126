"""Splits of visual Sudoku in the text files of ViSudo-PC, read and written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch

from emnesy_gpu.tasks.files.data_folders import GENERATOR, read_generator
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.sudoku.boards import PARTS, SIDE, VALID_BOARDS, Boards, Split

VARIANT = ("datasets::mnist", "strategy::simple", "corruptChance::0.50", "overlap::0.00")
VALID_ROW, INVALID_ROW = ["1", "0"], ["0", "1"]
LONGEST_ROW = 40
"""Letters of a wrong row that an error shows at most."""
DECIMALS = 4
"""Decimals of a pixel in the files, as a share of 255."""


def layout(size: int, number: int, n_boards: int) -> Path:
    """Return the folder of a split below the root of the data set."""
    counts = [f"num{part.title()}::{n_boards:05d}" for part in PARTS]
    data_set, strategy, chance, overlap = VARIANT
    return Path(f"dimension::{size}", data_set, strategy, *counts, chance, overlap, f"split::{number:02d}")


def find(root: Path, size: int, number: int) -> Path:
    """Return the folder of a split with 100 valid boards a part: ``root``, or the one below it with a fitting name.

    Folder names may carry a prefix, as they do in the published archive. Raises DataError unless exactly one fits.
    """
    name = "train_puzzle_pixels.txt"
    if (root / name).is_file():
        return root
    wanted = layout(size, number, VALID_BOARDS).parts
    found = [path.parent for path in root.rglob(name) if _fits(path.parent.relative_to(root).parts, wanted)]
    if len(found) != 1:
        raise DataError(f"{root} has {len(found)} folders such as {Path(*wanted)} with {name}, expected 1")
    return found[0]


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return all(any(part.endswith(tag) for part in parts) for tag in wanted)


def read(folder: Path, size: int, number: int) -> Split:
    """Read the files of one split; DataError names the file and what is wrong with it."""
    origin = "regenerated" if read_generator(folder) == GENERATOR else "original"
    parts = {part: _read_part(folder, part, size) for part in PARTS}
    return Split(size, number, "files", origin, f"ViSudo-PC, {origin} files in {folder}", **parts)


def _read_part(folder: Path, part: str, size: int) -> Boards:
    pixels_path, labels_path = folder / f"{part}_puzzle_pixels.txt", folder / f"{part}_puzzle_labels.txt"
    cells_path, notes_path = folder / f"{part}_cell_labels.txt", folder / f"{part}_puzzle_notes.txt"
    rows = _read_table(labels_path)
    for number, row in enumerate(rows, 1):
        if row not in (VALID_ROW, INVALID_ROW):
            found = repr(" ".join(row))[:LONGEST_ROW]
            raise DataError(f"{labels_path}, line {number} must be 1 0 (valid) or 0 1 (invalid), got {found}")
    if not rows:
        raise DataError(f"{labels_path} must hold rows 1 0 (valid) and 0 1 (invalid), got none")
    labels = torch.tensor([int(row == VALID_ROW) for row in rows])
    pixels = _read_pixels(pixels_path, len(rows), size)
    names = _read_table(cells_path)
    try:
        cells = torch.tensor([[int(name.rpartition("_")[2]) for name in line] for line in names]).view(-1, size, size)
    except (ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"{cells_path} must hold {size * size} names such as mnist_3 a row: {error}") from error
    if len(cells) != len(rows) or int(cells.min()) < 0 or int(cells.max()) >= size:
        raise DataError(f"{cells_path} must hold {len(rows)} rows with the classes 0..{size - 1}")
    notes = _read_lines(notes_path) if notes_path.is_file() else [""] * len(rows)
    if len(notes) != len(rows):
        raise DataError(f"{notes_path} must hold {len(rows)} lines, got {len(notes)}")
    return Boards(pixels, labels, cells, notes)


def _read_table(path: Path) -> list[list[str]]:
    return [line.split() for line in _read_lines(path)]


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_pixels(path: Path, n_boards: int, size: int) -> torch.Tensor:
    """Read rounded shares of 255, and return the bytes that they stand for."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which has the wrong shape
            shares = np.loadtxt(path, dtype=np.float32, delimiter="\t", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    shape = (n_boards, size * size * SIDE * SIDE)
    if shares.shape != shape:
        raise DataError(f"{path} has {list(shares.shape)} rows and columns, expected {list(shape)}")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise DataError(f"{path} has pixels outside 0..1")
    return torch.from_numpy((shares * 255).round().astype(np.uint8)).view(n_boards, size, size, SIDE, SIDE)


def write(split: Split, root: Path) -> Path:
    """Write a split in the files of ViSudo-PC below ``root``; returns its folder.

    ``options.json`` names the generator, so that ``read`` knows regenerated boards.
    """
    folder = root / layout(split.size, split.number, len(split.train) // 2)
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        boards: Boards = getattr(split, part)
        shares = [str(round(value / 255, DECIMALS)) for value in range(256)]
        pixels = ([shares[value] for value in row] for row in boards.pixels.flatten(1).tolist())
        names = ([f"mnist_{value}" for value in row] for row in boards.cells.flatten(1).tolist())
        labels = (VALID_ROW if label else INVALID_ROW for label in boards.labels.tolist())
        for name, rows in (
            ("puzzle_pixels", pixels),
            ("cell_labels", names),
            ("puzzle_labels", labels),
            ("puzzle_notes", ([note] for note in boards.notes)),
        ):
            with (folder / f"{part}_{name}.txt").open("w") as file:
                file.writelines("\t".join(row) + "\n" for row in rows)
    options = {"generator": GENERATOR, "dimension": split.size, "splitId": split.number, "source": split.source}
    (folder / "options.json").write_text(json.dumps(options, indent=4) + "\n")
    return folder
