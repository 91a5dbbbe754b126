"""Where this package keeps files between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the folder for downloads and compiled circuits: ``emnesy_gpu`` below ``$XDG_CACHE_HOME``.

    By default that is ``~/.cache``.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "emnesy_gpu"
