"""A file with one small kernel, and the files that the kernel cache keeps of it."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

SOURCE = """
from emnesy_gpu.kernels.cpu.common.compile import kernel

@kernel
def total(numbers):
    sum = 0.0
    for number in numbers:
        sum += number
    return sum
"""


class Program:
    """A file with one kernel that can be imported again and again, as new processes do."""

    def __init__(self, folder: Path) -> None:
        self.path, self.cache = folder / "program.py", folder / "cache"
        self.path.write_text(SOURCE)
        self.names = itertools.count()

    def imported(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"program_{next(self.names)}", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numba.config, "CACHE_DIR", str(self.cache))  # kernels take their folder when they are defined
            spec.loader.exec_module(module)
        return module

    def run(self, dtype: Any = np.float64) -> int:
        """Run the kernel as a new process would; returns how many signatures came from the disk."""
        module = self.imported()
        assert module.total(np.arange(5, dtype=dtype)) == 10.0
        return sum(module.total.stats.cache_hits.values())

    def files(self) -> list[Path]:
        return sorted(self.cache.rglob("*.nb[ic]"))
