"""Kernels for other processors: right answers with each width of vectors, and the same bits where products fuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROCESSORS = {
    "generic x86-64": ("generic", ""),
    "AVX2": ("haswell", "+avx2,+fma"),
    "AVX-512": ("skylake-avx512", "+avx512f,+avx512vl,+avx512dq,+avx512bw,+fma"),
}
FLAGS = Path("/proc/cpuinfo")
NEEDED = {"generic x86-64": "sse2", "AVX2": "avx2", "AVX-512": "avx512bw"}


def flags() -> set[str]:
    return set(FLAGS.read_text().split()) if FLAGS.exists() else set()


def lines(processor: str, *options: str) -> list[str]:
    """What the checks print in a process whose kernels are compiled for a processor."""
    if NEEDED[processor] not in flags():
        pytest.skip(f"this machine cannot run code for {processor}")
    name, features = PROCESSORS[processor]
    environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-m", "tests.robustness.processors", *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_sums_without_wide_vectors() -> None:
    assert all(" agrees " in line for line in lines("generic x86-64", "--quick"))


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_all_kinds_of_problems(processor: str) -> None:
    assert all(" agrees " in line for line in lines(processor))


@pytest.mark.slow
def test_processors_with_fused_products_give_the_same_bits() -> None:
    assert lines("AVX2", "--quick") == lines("AVX-512", "--quick")
