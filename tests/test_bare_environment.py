"""An uninstalled checkout, run by a Python that has torch, NumPy, Triton and pytest alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emnesy_gpu import doctor

ROOT = Path(__file__).parent.parent

WITHOUT_OTHERS = """
import sys
from importlib.machinery import PathFinder

ABSENT = {
    "numba", "llvmlite", "cupy", "scipy", "sklearn", "rich", "matplotlib", "click", "interegular", "hmmlearn", "pysdd",
    "hypothesis", "pytest_benchmark", "xdist", "pynvml",
}

class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path = [Present if finder is PathFinder else finder for finder in sys.meta_path]
"""

ON_A_SIMULATED_GPU = """
import torch, emnesy_gpu as em
from profiling.gpu_simulator import Options, simulated_gpu
problem, logits, label = em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]])
with simulated_gpu(90, Options(checks=False, counters=False)) as gpu:
    assignment = em.posterior(problem, logits, label, em.MAP()).info["assignment"]
print(len(gpu.launches), assignment.flatten().tolist())
"""

ON_A_CPU = """
import torch, emnesy_gpu as em
em.posterior(em.Sudoku(9), torch.zeros(1, 9, 9, 9), torch.ones(1, dtype=torch.int64))
"""


@pytest.fixture
def python(tmp_path: Path):
    """Run Python from the checkout without the other packages; the output, with the exit code."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_OTHERS)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}.", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    return run


def test_cuda_ops_work_without_numba(python) -> None:
    pytest.importorskip("triton")
    assert python("-c", ON_A_SIMULATED_GPU) == (0, "2 [0, 1]\n")  # the digits, and the posterior on them


def test_cpu_ops_say_what_to_install(python) -> None:
    code, output = python("-c", ON_A_CPU)
    assert code == 1
    assert output.splitlines()[-1] == (
        "ModuleNotFoundError: CPU tensors need Numba, which is not installed: pip install numba"
    )


def test_the_doctor_reports_what_is_absent(python) -> None:
    code, output = python("-m", "emnesy_gpu", "doctor")
    assert code == 0
    assert "cpu        unavailable  numba is not installed: pip install numba" in output


def test_files_that_need_absent_packages_are_skipped(python) -> None:
    files = ("tests/test_cuda.py", "tests/test_carry_chain_cpu.py", "tests/test_bench_addition.py", "emnesy_gpu/cli.py")
    code, output = python("-m", "pytest", "-q", "-rs", "-m", "cuda", *files)
    assert code == 0, output
    assert "needs a CUDA device" in output or "passed" in output
    assert (
        "tests/test_carry_chain_cpu.py:0: ModuleNotFoundError: No module named 'numba'; not installed: numba" in output
    )


@pytest.mark.parametrize(
    ("triton", "numpy", "fits"),
    [("3.6.0", "2.5.2", False), ("3.6.0", "2.3.5", True), ("3.7.1", "2.5.2", True), ("3.10.0", "2.4.0", True)],
)
def test_an_interpreter_that_does_not_fit_numpy_is_named(triton, numpy, fits, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda: {"triton": triton, "numpy": numpy})
    obstacle = doctor.interpreter_obstacle()
    assert (obstacle is None) == fits
    assert fits or f"Triton {triton} does not work with NumPy {numpy}: pip install" in str(obstacle)
