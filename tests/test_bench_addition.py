"""pytest --benchmark-only: time and memory of the addition E-step against its baselines."""

from __future__ import annotations

import pytest
import torch

from emnesy_gpu.benchmarks import addition, clocks
from emnesy_gpu.benchmarks.measure import machine, now


def synchronised() -> float:
    return now(torch.device("cuda"))


ON_CUDA = [pytest.mark.cuda, pytest.mark.benchmark(timer=synchronised)]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_CUDA)]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", addition.METHODS)
@pytest.mark.parametrize("batch", addition.BATCHES)
@pytest.mark.parametrize("n_digits", addition.DIGITS)
@pytest.mark.parametrize("device", DEVICES)
def test_addition(benchmark, one_thread, device: str, n_digits: int, batch: int, method: str) -> None:
    """Groups are sizes, so that every method stands beside its baselines; the results are checked first."""
    where = torch.device(device)
    problem, logits, label = addition.inputs(n_digits, batch, where)
    error = addition.errors(problem, logits, label).get(method, 0.0)
    assert error < 1e-3
    call = addition.methods(problem, logits, label)[method]
    benchmark.group = f"addition {device} n={n_digits} batch={batch}"
    benchmark.extra_info |= machine(where) | {"max_error": error}
    if device == "cuda":
        benchmark.extra_info |= clocks.extra_info(call, where)
    benchmark.pedantic(call, rounds=5 if n_digits * batch > 10**5 else 20, warmup_rounds=2)
