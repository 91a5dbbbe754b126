"""Optional packages, which are imported when a task first needs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from emnesy_gpu.tasks.files.errors import MissingExtraError


def require(module: str, extra: str = "train") -> ModuleType:
    """Import an optional module, or raise ``MissingExtraError`` with the command that installs the extra with it."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f'{package} is not installed: pip install "emnesy_gpu[{extra}]"', name=package
        ) from error
