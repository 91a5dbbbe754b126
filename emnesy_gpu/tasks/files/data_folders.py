"""Folders of data: how this package marks the folders that it wrote itself."""

from __future__ import annotations

import json
from pathlib import Path

from emnesy_gpu.tasks.files.errors import DataError

GENERATOR = "emnesy_gpu"
"""The generator that ``options.json`` names in folders written by this package."""


def read_generator(folder: Path) -> object:
    """Return the generator that the ``options.json`` of a folder names, or None where there is no such file."""
    path = folder / "options.json"
    try:
        options = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    return options.get("generator") if isinstance(options, dict) else None
