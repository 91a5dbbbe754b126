"""Figures of epochs for TensorBoard, beside ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.extras import require


class EventFiles:
    """Writes the numbers of records, with the epoch as their step, into a folder that TensorBoard watches.

    folder: made where it is missing. Raises MissingExtraError without the package tensorboard.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", extra="tensorboard")
        self.folder = folder
        self.writer: Any = None

    def begin(self, history: Iterable[dict[str, Any]]) -> None:
        """Start with the epochs that are done; what an earlier process wrote is replaced."""
        with _writing(self.folder):
            self.writer = require("torch.utils.tensorboard").SummaryWriter(str(self.folder), purge_step=1)
        for record in history:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch; what is no number, such as shares of classes, is left out."""
        with _writing(self.folder):
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "epoch":
                    self.writer.add_scalar(name, value, record["epoch"])
            self.writer.flush()

    def close(self) -> None:
        """End the thread that writes."""
        if self.writer is not None:
            self.writer.close()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} could not be written: {error.strerror or error}") from error
