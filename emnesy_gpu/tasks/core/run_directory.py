"""The files of a training run: settings, metrics, checkpoint, learning curve and summary."""

from __future__ import annotations

import json
import math
import os
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.tasks.core.errors import DataError
from emnesy_gpu.tasks.core.extras import require
from emnesy_gpu.tasks.core.settings import RunSettings
from emnesy_gpu.version import __version__


class RunDirectory:
    """A directory that holds one run.

    config.json     settings and versions
    metrics.jsonl   one line per finished epoch
    checkpoint.pt   the state after the last finished epoch; ``torch.load(..., weights_only=True)`` reads it
    curve.png       learning curve
    summary.json    the final figures

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
        if directory.config.exists():
            raise DataError(f"{path} holds a run already: resume it with --resume, or choose another --out")
        require("matplotlib.figure")
        return directory

    @classmethod
    def used(cls, path: Path, settings_type: type[RunSettings]) -> RunDirectory:
        """Return the directory of a run that is to be resumed."""
        require("matplotlib.figure")
        return cls(path, settings_type)

    def create(self, settings: RunSettings) -> None:
        """Make the directory, and write the settings and versions."""
        self.path.mkdir(parents=True, exist_ok=True)
        versions = {"emnesy_gpu": __version__, "torch": torch.__version__, "python": platform.python_version()}
        self._write_json(self.config, {"settings": settings.to_dict(), "versions": versions})

    def read_settings(self) -> Any:
        """Return the settings of the run in this directory; DataError names the file where that fails."""
        try:
            return self.settings_type.from_dict(json.loads(self.config.read_text())["settings"])
        except FileNotFoundError as error:
            raise DataError(f"{self.path} holds no run: {self.config} is missing") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.config} is not the config of a run: {error}") from error

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write a state of tensors and plain values."""
        replace_file(self.checkpoint, lambda partial: torch.save(state, partial))

    def load_checkpoint(self) -> dict[str, Any]:
        """Return the last saved state: tensors and plain values only, so that a foreign file cannot run code."""
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        except FileNotFoundError as error:
            raise DataError(
                f"{self.checkpoint} is missing: the run ended before its first checkpoint, start it again with --out"
            ) from error
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            cause = str(error).partition("\n")[0]
            raise DataError(f"{self.checkpoint} is not a checkpoint: {cause}") from error
        return state

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch."""
        with self.metrics.open("a") as file:
            file.write(_json_line(record))

    def rewrite_metrics(self, history: list[dict[str, Any]]) -> None:
        """Make the metrics agree with a checkpoint: an interruption may have left one line more."""
        text = "".join(map(_json_line, history))
        replace_file(self.metrics, lambda partial: partial.write_text(text))

    def save_summary(self, summary: dict[str, Any]) -> None:
        """Write the final figures."""
        self._write_json(self.summary, summary)

    def _write_json(self, path: Path, values: dict[str, Any]) -> None:
        text = json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"
        replace_file(path, lambda partial: partial.write_text(text))


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
