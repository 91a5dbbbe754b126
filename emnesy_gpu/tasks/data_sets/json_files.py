"""Files of JSON, which may be cut off, of another kind, or made to harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emnesy_gpu.tasks.files.errors import DataError


def read_json(path: Path, kind: type, words: str) -> Any:
    """Return the list or dict in a file; DataError names the file and what is wrong. words: what it should be."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, kind):
        raise DataError(f"{path} must hold {words}, got {type(content).__name__}")
    return content
