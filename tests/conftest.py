"""Back ends under test, and uninitialised memory that cannot pass unnoticed."""

from __future__ import annotations

import pytest
import torch

from tests.backends import BACKENDS, Backend, open_backend


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long sweeps too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    not_slow = pytest.mark.skip(reason="a long sweep: add --slow")
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(not_slow)
    if not config.getoption("benchmark_only"):
        benchmarks = [item for item in items if "benchmark" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=benchmarks)
        items[:] = [item for item in items if item not in benchmarks]


@pytest.fixture(autouse=True)
def poisoned_memory():
    """torch.empty gives NaN, so that a value which a kernel leaves out shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest):
    """Every back end: reference, CPU, Triton in the interpreter, and CUDA where there is one."""
    with open_backend(request.param) as opened:
        yield opened


__all__ = ["Backend"]
