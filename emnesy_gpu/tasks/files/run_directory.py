"""The files of a training run: settings, metrics, checkpoint, learning curve and summary."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.tasks.files import checkpoint_file
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.settings import RunSettings
from emnesy_gpu.version import __version__

PLACE = ("device", "threads")
"""Settings that say where a run takes place. A run that goes on elsewhere is not the same to the bit."""


class RunDirectory:
    """A directory that holds one run.

    config.json     settings and versions
    metrics.jsonl   one line per finished epoch
    checkpoint.pt   the last saved state; ``torch.load(..., weights_only=True)`` reads it
    curve.png       learning curve
    summary.json    the final figures
    .lock           held by the process that writes here

    Every file but metrics.jsonl is replaced as a whole: a crash leaves the old one or the new one, never a part.

    Args:
        path: the folder; ``create`` makes it.
        settings_type: the settings of the task, to read ``config.json`` with.
    """

    def __init__(self, path: Path, settings_type: type[RunSettings]) -> None:
        self.path, self.settings_type = path, settings_type
        self.config, self.metrics = path / "config.json", path / "metrics.jsonl"
        self.checkpoint, self.summary = path / "checkpoint.pt", path / "summary.json"
        self.curve = path / "curve.png"

    @classmethod
    def unused(cls, path: Path | None, settings_type: type[RunSettings]) -> RunDirectory | None:
        """Return the directory of a new run, or None without a path; DataError where there is a run already."""
        if path is None:
            return None
        directory = cls(path, settings_type)
        directory.check_unused()
        require("matplotlib.figure")
        return directory

    @classmethod
    def used(cls, path: Path, settings_type: type[RunSettings]) -> RunDirectory:
        """Return the directory of a run that is to be resumed."""
        require("matplotlib.figure")
        return cls(path, settings_type)

    def check_unused(self) -> None:
        """Raise DataError where there is a file that a new run would overwrite."""
        if self.config.exists():
            raise DataError(f"{self.path} holds a run already: resume it with --resume, or choose another --out")
        for path in (self.checkpoint, self.metrics, self.summary, self.curve):
            if path.exists():
                raise DataError(f"{path} exists, and a new run would overwrite it: choose another --out")

    def create(self, settings: RunSettings) -> None:
        """Make the directory, and write the settings and versions."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {"emnesy_gpu": __version__, "torch": torch.__version__, "python": platform.python_version()}
        self._write_json(self.config, {"settings": settings.to_dict(), "versions": versions})

    def read_settings(self) -> Any:
        """Return the settings of the run in this directory.

        Raises DataError, with the name of the file and of the setting, where that fails or where the checkpoint was
        made with other settings.
        """
        try:
            settings = self.settings_type.from_dict(json.loads(self.config.read_text())["settings"])
        except FileNotFoundError as error:
            raise DataError(f"{self.path} holds no run: {self.config} is missing") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{self.config} is not the config of a run: {error}") from error
        if self.has_checkpoint():
            self._compare(settings.to_dict(), self.load_checkpoint().get("settings"))
        return settings

    def _compare(self, settings: dict[str, Any], saved: Any) -> None:
        """Check the settings against those of a checkpoint; earlier versions saved none. A run may change machines."""
        for name, value in (saved if isinstance(saved, dict) else {}).items():
            if name not in PLACE and settings.get(name) != value:
                raise DataError(
                    f"{self.config} was changed: {name} must be {value!r}, as in {self.checkpoint.name}, "
                    f"got {settings.get(name)!r}"
                )

    def has_checkpoint(self) -> bool:
        """Whether there is a state to resume from; DataError where there are metrics alone.

        A run without both ended before its first epoch.
        """
        if self.checkpoint.exists():
            return True
        if self.metrics.exists():
            raise DataError(f"{self.checkpoint} is missing, but {self.metrics.name} has epochs: put it back")
        return False

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write a state of tensors and plain values; DataError where that fails, which keeps the last state."""
        content = checkpoint_file.encode(state)
        self._write(self.checkpoint, lambda partial: partial.write_bytes(content))

    def load_checkpoint(self) -> dict[str, Any]:
        """Return the last saved state, verified by its checksum: tensors and plain values only, which run no code."""
        try:
            state = checkpoint_file.decode(self.checkpoint.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.checkpoint} is not a checkpoint: {error}") from error
        history = state.get("history")
        if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
            raise DataError(f"{self.checkpoint} is not a checkpoint: it must have a list of records named history")
        return state

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch."""
        with self._writing(self.metrics), self.metrics.open("a") as file:
            file.write(_json_line(record))

    def rewrite_metrics(self, history: list[dict[str, Any]]) -> None:
        """Make the metrics agree with a checkpoint: an interruption may have left one line more."""
        text = "".join(map(_json_line, history))
        self._write(self.metrics, lambda partial: partial.write_text(text))

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write the final figures."""
        self._write_json(self.summary, summary)

    def finished(self) -> str:
        """Return where the files of a finished run are, and what can be done with them."""
        path = shlex.quote(str(self.path))
        return f"written to {self.path}; look at a test row with: python -m emnesy_gpu explain {path}"

    def _write_json(self, path: Path, values: dict[str, Any]) -> None:
        text = json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"
        self._write(path, lambda partial: partial.write_text(text))

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        with self._writing(path):
            replace_file(path, write)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = f"; make room, then go on with --resume {self.path}" if self.config.exists() else ""
            raise DataError(f"{path} could not be written: {error.strerror or error}{advice}") from error


def holds_run(path: Path) -> bool:
    """Whether a run has begun in a directory."""
    return RunDirectory(path, RunSettings).config.exists()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then move it into place in one durable step."""
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _json_line(record: dict[str, Any]) -> str:
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Replace infinities by None: JSON has none, and the log evidence of impossible labels is -inf."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
