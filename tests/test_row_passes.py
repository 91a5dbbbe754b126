"""Passes around operators: their kernels on CPUs say what torch says."""

from __future__ import annotations

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.backends import load_kernels
from emnesy_gpu.inference.results import Chains, Marginals
from emnesy_gpu.kernels.cpu.common.parallel import MOST_ON_ONE_THREAD
from emnesy_gpu.ops.row_passes import Limits, count_unmoved, scaled_rows

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def symbols(dtype: torch.dtype) -> torch.Tensor:
    """Logits [5, 3, 4], with hard zeros and large ones."""
    logits = 3.0 * torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    logits[0, 1, 2], logits[1, 0, :3], logits[2, 2, 1] = -torch.inf, -torch.inf, 1e11
    return logits.to(dtype)


@pytest.mark.parametrize("n_values", [2, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_marginals_are_those_of_the_reference(dtype: torch.dtype, n_values: int) -> None:
    logits = symbols(dtype)[..., -n_values:]
    chosen, possible = logits.argmin(-1), torch.tensor([True, False, False, True, False])
    chosen[3, 0], chosen[3, 1] = -1, n_values  # problems of users choose too
    expected, found = (load_kernels(name, "map_marginals") for name in ("reference", "cpu"))
    arguments = logits, chosen, possible
    torch.testing.assert_close(found.map_marginals(*arguments), expected.map_marginals(*arguments))
    assert found.map_marginals(logits[:0], chosen[:0], possible[:0]).shape == (0, 3, n_values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_whose_chains_nothing_has_moved_are_counted(dtype: torch.dtype) -> None:
    """The first three rows have the marginals of the prior, of which the second ends with its label."""
    logits = symbols(dtype)
    marginals = logits.to(torch.promote_types(dtype, torch.float32)).softmax(-1)
    marginals[3:, 2, 0] += 0.01
    satisfied, log_evidence = marginals.new_tensor([0.0, 0.5, 0.4, 0.0, 0.0]), marginals.new_full((5,), -2.0)
    chains = Chains(Marginals(marginals, log_evidence, torch.ones(5, dtype=torch.bool)), satisfied)
    limits = Limits(satisfied=0.5, log_evidence=-1.0, change=1e-3)
    for name in ("cpu", "reference"):
        with em.backend(name):
            assert count_unmoved(logits, chains, limits) == 2
            assert count_unmoved(logits, chains, limits._replace(log_evidence=-2.0)) == 0
            assert count_unmoved(logits, chains, limits._replace(change=0.1)) == 4


FACTORS = {
    "one number": torch.tensor(0.3),
    "a number a row": torch.tensor([0.5, -2.0, 0.0, 3.0]),
    "the same number a row": torch.tensor(0.3).expand(4),
    "every other number": torch.arange(8.0)[::2],
}


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("size", [3, MOST_ON_ONE_THREAD // 4])
def test_scaled_rows_are_products(factors: torch.Tensor, in_place: bool, size: int) -> None:
    """By torch, and by the kernel of large tensors."""
    values = torch.randn(4, size, 2, generator=torch.Generator().manual_seed(0))
    before = values.clone()
    expected = values * factors.view(-1, 1, 1)
    found = scaled_rows(values, factors, in_place)
    assert torch.equal(found, expected)
    assert (found is values) == in_place
    assert in_place or torch.equal(values, before)
    assert scaled_rows(values[:0], factors[:0] if factors.dim() else factors, in_place).shape == (0, size, 2)
