"""Exact inference over a list of assignments on every back end: brute force, the reference, and hard inputs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from emnesy_gpu.backends import kernels_for
from emnesy_gpu.kernels.cpu.enumeration import circuit as enumeration_circuit
from emnesy_gpu.kernels.cpu.enumeration import launch as cpu
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import enumeration as reference
from tests.backends import Backend
from tests.lists_of_assignments import every, grids, random_list

NEG_INF = float("-inf")
LISTS = {
    "sudoku": (grids, 4),
    "all": (lambda: every(3, 3), 3),
    "one": (lambda: random_list(1, 5, 3), 3),
    "one symbol": (lambda: torch.tensor([[2], [0]], dtype=torch.uint8), 4),
    "odd": (lambda: random_list(40, 7, 5), 5),
    "many values": (lambda: random_list(300, 3, 11), 11),
    "two blocks": (lambda: random_list(600, 6, 4), 4),
}


@dataclass(frozen=True)
class Drawn:
    """Logits, labels and a list of assignments: the arguments of every launch function."""

    logits: Tensor
    label: Tensor
    assignments: Tensor

    def __iter__(self):
        return iter((self.logits, self.label, self.assignments))

    def rows(self, rows: slice) -> Drawn:
        return Drawn(self.logits[rows].clone(), self.label[rows].clone(), self.assignments)


def draw(name: str = "sudoku", batch: int = 5, sd: float = 2.0, dtype: torch.dtype = torch.float32) -> Drawn:
    listed, k = LISTS[name]
    assignments = listed()
    generator = torch.Generator().manual_seed(batch)
    logits = sd * torch.randn(batch, assignments.shape[1], k, dtype=torch.float64, generator=generator)
    return Drawn(logits.to(dtype), torch.arange(batch) % 2, assignments)


def launch(name: str, *arguments: Any) -> Any:
    return getattr(kernels_for("enumeration", torch.device("cpu")), name)(*arguments)


def require_equal(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(left, right, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


def require_close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """To the precision of the result: the kernels work in float64, weights on a GPU in the dtype of the result."""
    single = actual[0].dtype == torch.float32
    for mine, theirs in zip(actual[:2], expected[:2], strict=True):
        tolerance = {"rtol": 1e-6, "atol": 2e-6} if single else {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(mine.double(), theirs.double(), **tolerance)
    assert torch.equal(actual[2], expected[2])


@pytest.mark.parametrize("name", LISTS)
def test_posterior_is_that_of_brute_force(backend: Backend, name):
    data = draw(name, dtype=torch.float64)
    marginals, log_evidence, status = backend.run(launch, "posterior", *data)
    prior = torch.softmax(data.logits, -1)
    joint = torch.stack([prior[:, range(prior.shape[1]), z].prod(1) for z in data.assignments.long()], 1)
    torch.testing.assert_close(log_evidence, joint.sum(1).log(), rtol=1e-12, atol=1e-12)
    expected = torch.zeros_like(prior)
    for m, z in enumerate(data.assignments.long()):
        expected[:, range(prior.shape[1]), z] += joint[:, m, None] / joint.sum(1, keepdim=True)
    torch.testing.assert_close(marginals, expected, rtol=1e-12, atol=1e-12)
    assert (status == POSSIBLE).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sd", [1.0, 30.0, 1e3, 1e4])
def test_posterior_of_logits_of_any_size(backend: Backend, dtype, sd):
    data = draw(sd=sd, dtype=dtype, batch=8)
    marginals, log_evidence, status = backend.run(launch, "posterior", *data)
    assert marginals.dtype == log_evidence.dtype == torch.promote_types(dtype, torch.float32)
    expected = reference.posterior(data.logits.double(), data.label, data.assignments)
    require_close((marginals, log_evidence, status), expected)


@pytest.mark.parametrize("name", LISTS)
def test_gradient_is_that_of_brute_force(backend: Backend, name):
    data = draw(name, dtype=torch.float64)
    gradient, log_evidence, _ = backend.run(launch, "em_gradient", *data, 0.3)
    leaf = data.logits.clone().requires_grad_()
    prior = torch.log_softmax(leaf, -1)
    joint = torch.stack([prior[:, range(prior.shape[1]), z].sum(1) for z in data.assignments.long()], 1)
    evidence = torch.logsumexp(joint, 1)
    (-0.3 * evidence.sum()).backward()
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_evidence, evidence.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sd", [1.0, 1e3])
def test_gradient_of_logits_of_any_size(backend: Backend, dtype, sd):
    data = draw(sd=sd, dtype=dtype, batch=8)
    found = backend.run(launch, "em_gradient", *data, -2.0)
    assert found[0].dtype == torch.float32
    require_close(found, reference.em_gradient(data.logits.double(), data.label, data.assignments, -2.0))


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("sd", [2.0, 1e4])
def test_best_assignment(backend: Backend, name, sd):
    data = draw(name, sd=sd)
    best, log_joint, status = backend.run(launch, "map_assignment", *data)
    log_prior = torch.log_softmax(data.logits.double(), -1)
    scores = torch.stack([log_prior[:, range(best.shape[1]), z].sum(1) for z in data.assignments.long()], 1)
    assert torch.equal(best, data.assignments[scores.argmax(1)].long())
    torch.testing.assert_close(log_joint.double(), scores.amax(1), rtol=1e-6, atol=1e-6)
    assert (status == POSSIBLE).all()


def test_ties_go_to_the_first_of_the_list(backend: Backend):
    data = draw(batch=3)
    data.logits[0] = 0.0
    data.logits[1] = torch.arange(4.0)
    data.logits[2] = 0.25 * torch.randint(-4, 5, data.logits[2].shape, generator=torch.Generator().manual_seed(1))
    best, _, _ = backend.run(launch, "map_assignment", *data)
    assert torch.equal(best[:2], data.assignments[0].long().expand(2, -1))
    # Quarters add up without rounding.
    scores = data.logits[2, range(16), data.assignments.long()].sum(1)
    assert torch.equal(best[2], data.assignments[(scores == scores.max()).nonzero()[0, 0]].long())


@pytest.mark.parametrize("name", ["sudoku", "odd", "two blocks"])
def test_samples_are_those_of_the_reference(backend: Backend, name):
    data = draw(name, batch=3)
    # The second row allows nothing but what is taken off the list: it is drawn from its prior.
    data.logits[1, :2, 1:] = NEG_INF
    data = Drawn(data.logits, data.label, data.assignments[(data.assignments[:, :2] != 0).any(1)])
    seed, first_row = 2**40 + 5, 2**33
    drawn, status = backend.run(launch, "sample", *data, 21, seed, first_row)
    expected, expected_status = reference.sample(*data, 21, seed, first_row)
    assert torch.equal(drawn, expected)
    assert status.tolist() == expected_status.tolist() == [POSSIBLE, IMPOSSIBLE, POSSIBLE]
    alone, _ = backend.run(launch, "sample", *data.rows(slice(2, 3)), 21, seed, first_row + 2)
    assert torch.equal(alone[:, 0], drawn[:, 2])


def test_samples_follow_the_posterior():
    data, n_samples = draw(batch=2, sd=1.0), 20_000
    drawn, _ = cpu.sample(*data, n_samples, 3, 0)
    marginals, _, _ = reference.posterior(*data)
    frequencies = torch.nn.functional.one_hot(drawn, 4).double().mean(0)
    # Six standard deviations of a frequency.
    assert ((frequencies - marginals).abs() < 6 * 0.5 / math.sqrt(n_samples)).all()
    listed = {tuple(z) for z in data.assignments.tolist()}
    assert set(Counter(map(tuple, drawn[:, 0].tolist()))) <= listed


def broken() -> Drawn:
    data = draw(batch=8)
    data.logits[1, :2, 1:] = NEG_INF
    data.logits[2, 3, 1] = float("nan")
    data.logits[3, 15, 3] = float("inf")
    data.logits[4, 7] = NEG_INF
    data.logits[5] = torch.where(data.assignments[17].long()[:, None] == torch.arange(4), data.logits[5], NEG_INF)
    data.label[6], data.label[7] = -1, 2**62
    data.logits[7, 0, 0] = float("nan")
    return data


MORE = {"posterior": (), "em_gradient": (0.3,), "map_assignment": (), "sample": (1, 4, 0)}
"""Launch function -> its arguments after the list."""

STATUSES = [POSSIBLE, IMPOSSIBLE, INVALID_LOGITS, INVALID_LOGITS, INVALID_LOGITS, POSSIBLE, *[INVALID_LABEL] * 2]


def test_statuses_and_hard_zeros(backend: Backend):
    data = broken()
    marginals, log_evidence, status = backend.run(launch, "posterior", *data)
    assert status.tolist() == STATUSES
    for row in (1, 6):
        torch.testing.assert_close(marginals[row], torch.softmax(data.logits[row], -1), rtol=0, atol=2e-7)
        assert log_evidence[row] == NEG_INF
    assert torch.equal(marginals[5].argmax(-1), data.assignments[17].long())
    assert (marginals[5].amax(-1) > 1 - 1e-6).all()
    sound = backend.run(launch, "posterior", *data.rows(slice(0, 1)))
    require_equal(sound, (marginals[:1], log_evidence[:1], status[:1]))


def test_rows_without_a_posterior_have_no_gradient(backend: Backend):
    data = broken()
    gradient, log_evidence, status = backend.run(launch, "em_gradient", *data, 0.5)
    assert status.tolist() == STATUSES
    assert torch.equal(log_evidence, backend.run(launch, "posterior", *data)[1])
    assert (gradient[[code != POSSIBLE for code in STATUSES]] == 0).all()
    assert gradient.isfinite().all()


def test_statuses_of_assignments_and_samples(backend: Backend):
    data = broken()
    best, log_joint, status = backend.run(launch, "map_assignment", *data)
    assert status.tolist() == STATUSES
    assert torch.equal(best[[1, 6]], data.logits[[1, 6]].argmax(-1))
    assert log_joint.isfinite().tolist() == [code == POSSIBLE for code in STATUSES]
    assert torch.equal(best[5], data.assignments[17].long())
    drawn, status = backend.run(launch, "sample", *data, 2, 0, 0)
    assert status.tolist() == STATUSES
    assert torch.equal(drawn[:, 5], data.assignments[17].long().expand(2, -1))
    assert ((drawn >= 0) & (drawn < 4))[:, [0, 1, 5, 6]].all()


@pytest.mark.parametrize("batch", [1, 15, 17, 35])
@pytest.mark.parametrize("sd", [3.0, 300.0])
def test_row_has_the_same_bits_in_any_batch(batch, sd):
    data = draw(batch=batch, sd=sd)
    for name, more in MORE.items():
        together = getattr(cpu, name)(*data, *more)
        for row in range(0, batch, 4):
            if name == "sample":
                more = (1, 4, row)
            alone = getattr(cpu, name)(*data.rows(slice(row, row + 1)), *more)
            mine = tuple(result.narrow(result.shape.index(batch), row, 1) for result in together)
            require_equal(alone, mine)


def test_rows_do_not_see_their_neighbours(backend: Backend):
    data = draw(batch=3)
    whole = backend.run(launch, "posterior", *data)
    alone = backend.run(launch, "posterior", *data.rows(slice(1, 2)))
    require_equal(alone, tuple(result[1:2] for result in whole))


def test_a_constant_added_to_a_symbol_changes_nothing(backend: Backend):
    data = draw(batch=4)
    shift = torch.tensor([0.0, 512.0, -1024.0, 8192.0]).repeat(4)[:, None]
    shifted = Drawn((data.logits.double() + shift).float(), data.label, data.assignments)
    expected = reference.posterior(shifted.logits.double(), data.label, data.assignments)
    actual = backend.run(launch, "posterior", *shifted)
    # Half a unit in the last place of 8192 is 5e-4: the shift itself is not exact in float32.
    torch.testing.assert_close(actual[0], reference.posterior(*data)[0], rtol=0, atol=5e-3)
    require_close(actual, expected)


def test_empty_batches_and_no_samples(backend: Backend):
    data = draw(batch=0)
    assert [result.shape[0] for result in backend.run(launch, "posterior", *data)] == [0, 0, 0]
    assert [result.shape[0] for result in backend.run(launch, "em_gradient", *data, 1.0)] == [0, 0, 0]
    assert [result.shape[0] for result in backend.run(launch, "map_assignment", *data)] == [0, 0, 0]
    assert backend.run(launch, "sample", *data, 2, 0, 0)[0].shape == (2, 0, 16)
    drawn, status = backend.run(launch, "sample", *draw(batch=2), 0, 0, 0)
    assert drawn.shape == (0, 2, 16)
    assert status.tolist() == [POSSIBLE, POSSIBLE]


def test_circuit_shares_parts():
    circuit = enumeration_circuit.circuit_of(grids().numpy(), 4)
    assert len(circuit.whole) == 288
    # Two halves of the board, four rows, and eight pairs of cells.
    assert len(circuit.inner) == 2 * 96 + 4 * 24 + 8 * 12


def test_assignments_beyond_the_values_are_refused():
    data = draw("all")
    with pytest.raises(ValueError, match="values below 2, got 2"):
        cpu.posterior(data.logits[..., :2].contiguous(), data.label, data.assignments)


def test_underflow_is_left_to_log_space():
    """Every assignment costs more than the range of float64: the circuit alone would see an impossible row."""
    data = draw(batch=16, sd=1e3, dtype=torch.float64)
    log_evidence = cpu.posterior(*data)[1]
    assert (log_evidence < -1022 * math.log(2.0)).all()
    expected = reference.posterior(*data)[1]
    np.testing.assert_allclose(log_evidence.numpy(), expected.numpy(), rtol=1e-13)
