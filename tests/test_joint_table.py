"""Exact inference over the table of all assignments: the reference, kernels on hard inputs, and problems on GPUs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.kernels.joint_tables import JointTable, left_symbols, sizes_and_strides
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import enumeration, joint_table
from tests.backends import BACKENDS, Backend
from tests.joint_tables import per_row, sums_and_parities, table_of
from tests.test_black_box_exact import PADDED, draw

NEG_INF = float("-inf")
SIZES = (2, 4, 1, 3)


def drawn(batch: int = 4, sd: float = 2.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, JointTable]:
    table = sums_and_parities(SIZES)
    logits = sd * torch.randn(batch, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return logits.to(dtype), table.known[torch.arange(batch) * 3 % len(table.known)], table


def launch(name: str, *arguments):
    return getattr(kernels_for("joint_table", torch.device("cpu")), name)(*arguments)


on_gpus = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "cpu"], indirect=True)
"""The kernels are for GPUs only: on CPUs problems take the torch functions of ``inference.joint_table``."""


def require_close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    tolerance = 2e-6 if actual[0].dtype == torch.float32 else 1e-12
    for mine, theirs in zip(actual[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-6, atol=tolerance)
    assert torch.equal(actual[2], expected[2])


def test_sides_count_all_assignments_in_lexicographic_order() -> None:
    for sizes in [(3,), (2, 2), SIZES, (1, 5, 7), (2,) * 7]:
        z, first = torch.cartesian_prod(*map(torch.arange, sizes)).view(-1, len(sizes)), left_symbols(sizes)
        right = int(torch.tensor(sizes[first:]).prod())
        for i, (size, stride) in enumerate(sizes_and_strides(sizes)):
            m = torch.arange(len(z))
            assert torch.equal((m // right if i < first else m % right) // stride % size, z[:, i])


def test_the_reference_is_that_of_a_list_of_the_assignments_with_the_label() -> None:
    logits, label, table = drawn()
    members = joint_table.has_label(label, table)
    logits = joint_table.without_padding(logits, table)
    for row in range(len(logits)):
        one, listed = slice(row, row + 1), joint_table.assignments(table)[members[row]].to(torch.uint8)
        for name, more in {"posterior": (), "em_gradient": (0.3,), "map_assignment": ()}.items():
            mine = getattr(joint_table, name)(logits[one], label[one], table, *more)
            require_close(mine, getattr(enumeration, name)(logits[one], torch.ones(1), listed, *more))
        mine = joint_table.sample(logits[one], label[one], table, 5, 1, row)
        assert torch.equal(mine[0], enumeration.sample(logits[one], torch.ones(1), listed, 5, 1, row)[0])


@on_gpus
def test_logits_of_any_size_and_gaps(backend: Backend) -> None:
    for sd, dtype in [(1e3, torch.float32), (1e11, torch.float32), (1e3, torch.float64), (30.0, torch.float16)]:
        arguments = drawn(sd=sd, dtype=dtype)
        wide = arguments[0].double(), *arguments[1:]
        require_close(backend.run(launch, "posterior", *arguments), joint_table.posterior(*wide))
        found = backend.run(launch, "sample", *arguments, 3, 2**40 + 1, 2**33)
        assert torch.equal(found[0], joint_table.sample(*wide, 3, 2**40 + 1, 2**33)[0])


@on_gpus
def test_ties_go_to_the_first_assignment(backend: Backend) -> None:
    table = table_of((2,) * 6, lambda z: z.sum(-1, keepdim=True) % 2)
    logits = torch.zeros(3, 6, 2)
    logits[1] = 0.25 * torch.randint(-2, 3, (6, 2), generator=torch.Generator().manual_seed(1))
    best, *_ = backend.run(launch, "map_assignment", logits, torch.tensor([[1], [0], [5]]), table)
    assert best[0].tolist() == [0, 0, 0, 0, 0, 1]
    even = joint_table.assignments(table)[table.codes == 0]
    score = logits[1, range(6), even].sum(1)
    assert torch.equal(best[1], even[int((score == score.max()).nonzero()[0])])
    assert best[2].tolist() == [0] * 6


@on_gpus
def test_statuses_and_hard_zeros(backend: Backend) -> None:
    logits, label, table = drawn(batch=6)
    label[1, 0] = 99
    logits[2, 1, 0], logits[3, 0] = float("nan"), NEG_INF
    label[4] = table.known[0]
    logits[4, 3, 0] = NEG_INF
    logits[5, 0, 2:] = float("nan")  # of values that the symbol does not have
    expected = [POSSIBLE, IMPOSSIBLE, INVALID_LOGITS, INVALID_LOGITS, IMPOSSIBLE, POSSIBLE]
    marginals, log_evidence, status = backend.run(launch, "posterior", logits, label, table)
    assert status.tolist() == expected
    assert log_evidence.isfinite().tolist() == [code == POSSIBLE for code in expected]
    valid = [0, 1, 4, 5]
    prior = torch.softmax(joint_table.without_padding(logits, table), -1)
    torch.testing.assert_close(marginals[[1, 4]], prior[[1, 4]])
    torch.testing.assert_close(marginals[valid].sum(-1), torch.ones(4, 4))
    gradient = backend.run(launch, "em_gradient", logits, label, table, 1.0)[0]
    assert (gradient[1:5] == 0).all()
    best, log_joint, codes, possible = backend.run(launch, "map_assignment", logits, label, table)
    assert codes.tolist() == expected
    assert torch.equal(possible, codes == POSSIBLE)
    assert log_joint.isfinite().tolist() == [code == POSSIBLE for code in expected]
    assert torch.equal(best[[1, 4]], prior[[1, 4]].argmax(-1))
    z, _ = backend.run(launch, "sample", logits[valid], label[valid], table, 4, 0, 0)
    assert ((z >= 0) & (z < torch.tensor(SIZES))).all()


@on_gpus
def test_labels_are_found_among_many(backend: Backend) -> None:
    table = table_of((10, 10, 7), lambda z: 3 * (70 * z[:, :1] + 7 * z[:, 1:2] + z[:, 2:]) - 300)
    table = table._replace(codes=torch.arange(700, dtype=torch.int16))
    label = torch.tensor([-301, -300, -299, 0, 1797, 1798, 3 * 256 - 300, 3 * 255 - 301])[:, None]
    logits = torch.zeros(len(label), 3, 10)
    _, log_evidence, status = backend.run(launch, "posterior", logits, label, table)
    known = [False, True, False, True, True, False, True, False]
    assert (status == POSSIBLE).tolist() == known
    torch.testing.assert_close(log_evidence.exp(), torch.tensor(known) / 700)


@on_gpus
def test_symbols_of_many_values(backend: Backend) -> None:
    for sizes in [(300,), (3, 200)]:
        table = table_of(sizes, lambda z: z.sum(-1, keepdim=True) % 4)
        logits = torch.randn(2, len(sizes), max(sizes), generator=torch.Generator().manual_seed(0))
        arguments = logits, torch.tensor([[1], [2]]), table
        require_close(backend.run(launch, "posterior", *arguments), joint_table.posterior(*arguments))
        assert torch.equal(
            backend.run(launch, "map_assignment", *arguments)[0], joint_table.map_assignment(*arguments)[0]
        )


@on_gpus
def test_rows_do_not_see_their_neighbours(backend: Backend) -> None:
    logits, label, table = drawn(batch=3)
    for one in (table, per_row(table, label)):
        whole = backend.run(launch, "posterior", logits, label, one)
        codes = one.codes if len(one.known) else one.codes[:, 1:2].contiguous()
        alone = backend.run(launch, "posterior", logits[1:2], label[1:2], one._replace(codes=codes))
        for mine, theirs in zip(alone, whole, strict=True):
            torch.testing.assert_close(mine, theirs[1:2], rtol=0, atol=0)


@on_gpus
def test_an_empty_batch_and_no_samples(backend: Backend) -> None:
    logits, label, table = drawn(batch=2)
    assert backend.run(launch, "posterior", logits[:0], label[:0], table)[0].shape == (0, 4, 4)
    assert backend.run(launch, "map_assignment", logits[:0], label[:0], table)[0].shape == (0, 4)
    assert backend.run(launch, "sample", logits, label, table, 0, 0, 0)[0].shape == (0, 2, 4)


def results(problem: em.BlackBox, logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    """Exact marginals, evidence, the MAP assignment and its log joint, the loss and its gradient, and samples."""
    post, best = (em.posterior(problem, logits, label, engine) for engine in (em.Exact(), em.MAP()))
    leaf = logits.clone().requires_grad_()
    loss = em.fused_em_loss(problem, leaf, label, "none")
    (gradient,) = torch.autograd.grad(loss[label != 7].sum(), leaf)
    z = em.sample_posterior(problem, logits, label, 5, seed=2**40)
    exact = post.marginals, post.log_evidence, best.log_evidence, loss.detach(), gradient
    return *exact, post.possible, best.possible, best.info["assignment"], z


def test_problems_have_the_same_results_on_gpus_as_on_cpus(backend: Backend) -> None:
    logits, label = draw()
    for problem in PADDED:
        found, expected = backend.run(results, problem, logits, label), results(problem, logits, label)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=2e-6 if mine.is_floating_point() else 0)
        z = problem.label(found[-1]) if problem is not PADDED[2] else PADDED[0].label(found[-1])
        assert (z == label)[:, label != 7].all()
