"""Back ends under test, and uninitialised memory that cannot pass unnoticed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from emnesy_gpu.benchmarks.measure import keep_freed_memory
from emnesy_gpu.doctor import interpreter_obstacle
from emnesy_gpu.kernels.cpu.common import parallel
from tests.backends import BACKENDS, Backend, call_on_cuda, forced, open_interpreter
from tests.benchmarking import compile_kernels

PASSES = 5
"""Over the figures of a file of benchmarks. The rounds of a figure lie seconds apart, so that other work, which slows
down all rounds of one pass, moves their median little."""

OPTIONAL = ("numba", "hypothesis", "click", "rich", "sklearn", "matplotlib", "interegular", "pysdd", "hmmlearn")
"""What the tests import beside torch, NumPy, Triton and pytest."""

ABSENT = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long sweeps too")


class SkipsWhatCannotBeImported:
    """Skips files that need absent packages, in all folders, so that the other tests run."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        errors = re.findall(r"^E +((?:ModuleNotFound|Import)Error: .*)$", report.longreprtext, re.MULTILINE)
        if errors:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: {errors[-1]}; not installed: {', '.join(ABSENT)}")
        return report


COLUMNS = ["median", "iqr", "min", "rounds"]
"""Of the tables of pytest-benchmark, where the command names no others: medians are what two runs compare."""


def pytest_configure(config: pytest.Config) -> None:
    if not any(argument.startswith("--benchmark-columns") for argument in config.invocation_params.args):
        config.option.benchmark_columns = COLUMNS
        config.option.benchmark_name = "short"
    if ABSENT:
        config.pluginmanager.register(SkipsWhatCannotBeImported())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    not_slow = pytest.mark.skip(reason="a long sweep: add --slow")
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(not_slow)
    kept, left_out = [], []
    for item in items:
        is_kept = is_benchmark(item) == benchmarks_alone(config)
        (kept if is_kept else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_runtestloop(session: pytest.Session) -> None:
    """Figures are timed with memory that the process has already, and with kernels that are compiled."""
    if not benchmarks_alone(session.config) or session.config.option.collectonly:
        return
    keep_freed_memory()
    files = {item.module.__name__: None for item in session.items if not any(item.iter_markers("skip"))}
    if files and "numba" not in ABSENT:
        session.config.get_terminal_writer().line("Compiling kernels, about a minute the first time ...")
        compile_kernels(files)


def benchmarks_alone(config: pytest.Config) -> bool:
    return config.getoption("benchmark_only", default=False)


def is_benchmark(item: pytest.Item) -> bool:
    return "benchmark" in getattr(item, "fixturenames", ())


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Benchmarks stand in files of their own, so that the others need not be imported."""
    named = collection_path.name.startswith("test_bench_")
    return True if collection_path.is_file() and benchmarks_alone(config) and not named else None


@pytest.fixture(scope="module")
def later_passes() -> Iterator[list[Callable[[], None]]]:
    """What times the figures of a file again, run when all of them were timed once."""
    figures: list[Callable[[], None]] = []
    yield figures
    for _ in range(PASSES - 1):
        for time_again in figures:
            time_again()


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest):
    """torch.empty gives NaN, so that a value which a kernel leaves out shows; benchmarks do not pay for it."""
    if is_benchmark(request.node):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture(autouse=True)
def threads_share(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls share their rows after threads were held up too, as tests hold each other up."""
    if not is_benchmark(request.node):
        monkeypatch.setattr(parallel, "PAYBACK", 0.0)


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Callable[..., Any]]:
    """Calls a function in the one process whose Triton kernels are interpreted."""
    obstacle = interpreter_obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    with open_interpreter() as call:
        yield call


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every back end: reference, CPU, Triton in the interpreter, and CUDA where there is one."""
    if request.param == "interpreter":
        return Backend(request.param, request.getfixturevalue("interpreter"))
    return Backend(request.param, call_on_cuda if request.param == "cuda" else forced(request.param))


__all__ = ["Backend"]
