"""The kernel cache: damaged, cut, foreign or impossible to write, and kernels work all the same."""

from __future__ import annotations

import errno
import pickle
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching

from emnesy_gpu.kernels.cpu.common import kernel_cache
from tests.robustness.kernel_programs import Program


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setattr(kernel_cache, "_warned", False)
    # Python 3.11 keeps bytecode that a full disk cut off, and fails at the next import.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Program(tmp_path)


def damages(content: bytes) -> Iterator[bytes]:
    yield b""
    yield content[:1]
    yield content[: len(content) // 2]
    yield content[:-1]
    yield content + b"\0"
    yield b"garbage" * 100
    yield pickle.dumps({"not": "ours"})
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 6).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def test_kernels_come_from_the_disk(program: Program) -> None:
    assert [program.run(), program.run()] == [0, 1]
    assert [path.suffix for path in program.files()] == [".nbc", ".nbi"]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_damaged_files_are_compiled_anew(program: Program, suffix: str) -> None:
    program.run()
    path = next(path for path in program.files() if path.suffix == suffix)
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        assert program.run() == 0
        assert program.run() == 1


def test_a_data_file_of_another_signature_is_not_run(program: Program) -> None:
    """Two processes that write at once may give one name to the machine code of two signatures."""
    program.run(np.float64)
    data = next(path for path in program.files() if path.suffix == ".nbc")
    content = data.read_bytes()
    for path in program.files():
        path.unlink()
    program.run(np.float32)
    data.write_bytes(content)
    assert program.run(np.float32) == 0


def test_without_a_place_for_the_cache_kernels_work_and_one_warning_says_so(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    with pytest.warns(RuntimeWarning, match="no locator available.*set NUMBA_CACHE_DIR to a folder") as found:
        assert [program.run(), program.run()] == [0, 0]
    assert len(found) == 1


def test_a_full_disk_does_not_fail_the_call(program: Program) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.warns(RuntimeWarning, match="could not be kept on disk.*File too large"):
            assert program.run() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [program.run(), program.run()] == [0, 1]


def test_a_folder_that_is_gone_does_not_fail_the_call(program: Program) -> None:
    module = program.imported()
    program.cache.rename(program.cache.with_name("elsewhere"))
    program.cache.write_text("a file where the folder was")
    with pytest.warns(RuntimeWarning, match="could not be kept on disk"):
        assert module.total(np.arange(5.0)) == 10.0
