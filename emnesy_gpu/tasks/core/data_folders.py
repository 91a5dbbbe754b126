"""Who wrote a folder of data: this package marks what it made."""

from __future__ import annotations

import json
from pathlib import Path

from emnesy_gpu.tasks.mnist.images import DataError

GENERATOR = "emnesy_gpu"


def generator(folder: Path) -> object:
    """The name in the ``options.json`` of a folder, GENERATOR for our own; None where there is none."""
    try:
        options = json.loads((folder / "options.json").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'options.json'} cannot be read: {error}") from error
    return options.get("generator") if isinstance(options, dict) else None
