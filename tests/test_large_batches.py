"""On a CPU, torch computes nothing large around the kernels: OpenMP threads would spin and take their cores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import emnesy_gpu as em
from emnesy_gpu import m_step
from emnesy_gpu.ops import registry, row_passes
from emnesy_gpu.problems import shortest_path
from tests.benchmarking import one_thread

MOST_NUMBERS = 1 << 15
"""Numbers up to which torch does not divide an operation among threads."""

WITHOUT_A_PASS = {
    "alias",
    "as_strided",
    "detach",
    "empty",
    "empty_like",
    "expand",
    "lift_fresh",
    "new_empty",
    "select",
    "slice",
    "view",
}
"""Operations of torch that read and write no numbers."""


class LargeOperations(TorchDispatchMode):
    """The names of operations on large tensors, but those that make no pass over them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in (*args, result) if isinstance(each, Tensor)]
        if max((each.numel() for each in tensors), default=0) > MOST_NUMBERS:
            self.found.append(func._schema.name.split("::")[1])
        return result


@pytest.fixture
def large_operations(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], set[str]]:
    """Those that a call makes; a mode that watches would send the call by another way, if it could be seen."""

    def found_by(call: Callable[[], object]) -> set[str]:
        mode = LargeOperations()
        with one_thread(), monkeypatch.context() as patch:
            for module in (registry, row_passes, m_step, shortest_path):
                patch.setattr(module, "is_unwatched", lambda tensor: not tensor.requires_grad)
            with warnings.catch_warnings(), mode:
                warnings.simplefilter("ignore", em.InferenceWarning)
                call()
        return set(mode.found) - WITHOUT_A_PASS

    return found_by


MODULO = em.rules.modulo(6, 3)
CIRCUIT = em.Circuit.from_program(lambda total, value, i: (total + value) % 3, n_symbols=5, cardinality=4, start=0)
GROUPS = em.Sudoku(4)
E_STEPS = [
    (em.Addition(4), em.Exact()),
    (em.Addition(4), em.MAP()),
    (GROUPS, em.Exact()),
    (GROUPS, em.BeliefPropagation(2)),
    (GROUPS, em.ABC(32)),
    (GROUPS, em.Rejection(32)),
    (GROUPS, em.Gibbs(1, 2)),
    (GROUPS, em.MAP()),
    (MODULO, em.Exact()),
    (MODULO, em.MAP()),
    (CIRCUIT, em.Exact()),
    (CIRCUIT, em.MAP()),
]


def rows_of(problem: em.Problem) -> tuple[Tensor, Tensor]:
    """Logits and labels, enough of them for several threads of torch."""
    generator, shape = torch.Generator().manual_seed(0), (4096, *problem.latent_shape)
    z = torch.randint(0, problem.cardinality, shape, generator=generator)
    logits = torch.randn(*shape, problem.cardinality, generator=generator)
    assert logits.numel() > 2 * MOST_NUMBERS
    return logits, torch.ones(len(z), dtype=torch.int64) if problem is GROUPS else problem.label(z)


@pytest.mark.parametrize(("problem", "engine"), E_STEPS, ids=str)
def test_torch_makes_no_pass_over_a_large_batch_in_an_e_step(large_operations, problem, engine) -> None:
    row = rows_of(problem)
    assert large_operations(lambda: em.posterior(problem, *row, engine)) == set()


@pytest.mark.parametrize("problem", [em.Addition(4), GROUPS, MODULO, CIRCUIT], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_torch_makes_no_pass_over_a_large_batch_in_a_loss(large_operations, problem, reduction) -> None:
    logits, label = rows_of(problem)
    leaf = logits.requires_grad_()

    def step() -> None:
        loss = em.fused_em_loss(problem, leaf, label, reduction)
        torch.autograd.grad(loss, leaf, 3.0 * torch.ones_like(loss))

    assert large_operations(step) == set()


def test_a_pass_of_torch_over_a_large_batch_is_found(large_operations) -> None:
    assert large_operations(lambda: torch.zeros(1 << 16).softmax(0)) >= {"_softmax", "zeros"}


def test_a_path_from_a_large_batch_of_maps(large_operations) -> None:
    problem, generator = em.ShortestPath(12), torch.Generator().manual_seed(0)
    classes = torch.randint(0, 5, (512, 12, 12), generator=generator)
    costs = torch.rand(512, 12, 12, generator=generator)
    assert large_operations(lambda: problem.label(classes)) == set()
    assert large_operations(lambda: problem.cheapest_path(costs)) == set()
