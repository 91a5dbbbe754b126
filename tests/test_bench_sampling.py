"""pytest --benchmark-only: time and memory of samples and chains against materialised torch; and its claims."""

from __future__ import annotations

import pytest
import torch

from emnesy_gpu.benchmarks.sampling import METHODS, SAMPLES, SUITE, inputs, methods
from emnesy_gpu.inference.importance import thresholds
from emnesy_gpu.reference import abc_sampling
from tests.benchmarking import measure, points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize(("device", "batch"), points(SUITE))
def test_sampling(benchmark, later_passes, device: str, samples: int, batch: int, method: str) -> None:
    measure(benchmark, later_passes, SUITE, device, samples, batch, method)


@pytest.mark.parametrize("method", ["fused", "torch one-hot", "torch bits"])
def test_baselines_estimate_the_same_posterior(method: str) -> None:
    """Marginals of 4000 samples weighted by exp(satisfied groups), within six standard errors at their ESS."""
    torch.manual_seed(0)
    problem, logits, label, samples = inputs(4000, 1, torch.device("cpu"))
    marginals = methods(problem, logits, label, samples)[method]().view(81, 9).double()
    z = abc_sampling.draw(thresholds(logits.flatten(1, 2)), 40_000, 99, 0, 0)[:, 0]
    board = z.view(-1, 9, 9)
    boxes = board.view(-1, 3, 3, 3, 3).transpose(2, 3).reshape(-1, 9, 9)
    satisfied = sum(
        (group.sort(-1).values == torch.arange(9)).all(-1).sum(-1) for group in (board, board.transpose(1, 2), boxes)
    )
    weight = torch.exp(satisfied.double())
    expected = torch.einsum("s,snk->nk", weight / weight.sum(), torch.nn.functional.one_hot(z, 9).double())
    ess = samples * weight.mean() ** 2 / (weight**2).mean()
    bound = 6.0 * (1.1 * expected * (1 - expected) / ess).sqrt() + 6.0 / ess
    assert ((marginals - expected).abs() <= bound).all()
