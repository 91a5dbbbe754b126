"""The choice between the published boards and regenerated ones."""

from __future__ import annotations

from pathlib import Path

from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.sudoku import files
from emnesy_gpu.tasks.sudoku.boards import Split, regenerate


def load(size: int, number: int, data: str, data_dir: Path | None = None, visudo_dir: Path | None = None) -> Split:
    """Read split ``number`` from the files under ``visudo_dir``, else regenerate it from the images named ``data``."""
    if visudo_dir is not None:
        return files.read(files.find(visudo_dir, size, number), size, number)
    if data == "files":
        raise DataError("the boards of this run came from files: give their folder as --visudo-dir")
    return regenerate(choose.load(data, data_dir), size, number)
