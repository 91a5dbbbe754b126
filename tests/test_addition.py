"""Addition on every back end: enumeration, then the float64 reference, then properties."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import emnesy_gpu as em
from emnesy_gpu.reference import carry_chain as reference
from tests import enumeration
from tests.cases import EXTREME, LONG, SMALL, Case

# float32 rounding of one position is about 2e-7; the rescaled chain keeps it from growing with n.
ABSOLUTE = 5e-6


def tolerance(logits: torch.Tensor) -> float:
    """A logit of size L is known to L * 2^-24 only, and the posterior moves by as much for each symbol."""
    finite = logits[logits.isfinite()]
    return ABSOLUTE + float(finite.abs().max()) * 2.0**-21 if finite.numel() else ABSOLUTE


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_marginals_and_evidence_equal_enumeration(backend, case: Case) -> None:
    logits, label = case.draw()
    post = backend.run(em.posterior, case.problem, logits, label)
    marginals, log_evidence = enumeration.marginals(case.problem, logits, label)
    torch.testing.assert_close(post.marginals.double(), marginals, atol=2e-6, rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, atol=5e-6, rtol=1e-6)
    assert post.possible.all()


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_map_equals_enumeration(backend, case: Case) -> None:
    logits, label = case.draw()
    post = backend.run(em.posterior, case.problem, logits, label, em.MAP())
    z, log_p = enumeration.log_joint(case.problem, logits, label)
    best, index = log_p.max(1)
    torch.testing.assert_close(post.log_evidence.double(), best, atol=5e-6, rtol=1e-6)
    assert torch.equal(post.info["assignment"], z[index])
    assert torch.equal(post.marginals.argmax(-1), z[index])


@pytest.mark.parametrize("case", LONG + EXTREME, ids=str)
def test_marginals_equal_the_reference(backend, case: Case) -> None:
    logits, label = case.draw()
    post = backend.run(em.posterior, case.problem, logits, label)
    marginals, log_evidence, status = reference.posterior(logits.double(), label)
    assert torch.equal(post.possible, status == reference.POSSIBLE)
    torch.testing.assert_close(post.marginals.double(), marginals, atol=tolerance(logits), rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, atol=1e-5 * case.n_digits, rtol=2e-6)


@pytest.mark.parametrize("case", [Case(4), Case(15), Case(6, 3, 3), Case(3, 2, 4)], ids=str)
def test_float64_logits_give_float64_precision(backend, case: Case) -> None:
    logits, label = case.draw()
    post = backend.run(em.posterior, case.problem, logits.double(), label)
    marginals, log_evidence, _ = reference.posterior(logits.double(), label)
    assert post.marginals.dtype == post.log_evidence.dtype == torch.float64
    torch.testing.assert_close(post.marginals, marginals, atol=1e-12, rtol=0)
    torch.testing.assert_close(post.log_evidence, log_evidence, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_computed_in_float32(backend, dtype: torch.dtype) -> None:
    case = Case(6)
    logits, label = case.draw()
    logits = logits.to(dtype)
    post = backend.run(em.posterior, case.problem, logits, label)
    expected = backend.run(em.posterior, case.problem, logits.float(), label)
    assert post.marginals.dtype == torch.float32
    torch.testing.assert_close(post.marginals, expected.marginals, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", [Case(3, batch=4), Case(4, 3, 3, batch=4), Case(12, batch=2)], ids=str)
def test_samples_have_the_label_and_the_marginals(backend, case: Case) -> None:
    logits, label = case.draw()
    n_samples = 400 if backend.name in ("cpu", "cuda") else 2
    z = backend.run(em.sample_posterior, case.problem, logits, label, n_samples, seed=11)
    assert torch.equal(case.problem.label(z), label.expand(n_samples, *label.shape))
    if n_samples > 100:
        frequency = torch.nn.functional.one_hot(z, case.base).double().mean(0)
        marginals, _, _ = reference.posterior(logits, label)
        sd = (marginals * (1 - marginals) / n_samples).sqrt()
        rare = 4 / n_samples  # a handful of hits on values too rare for the normal bound
        assert ((frequency - marginals).abs() <= 5 * sd + rare).all()


@pytest.mark.parametrize("case", [Case(3, batch=2), Case(3, 4, 3, batch=2), Case(2, 2, 4, batch=2)], ids=str)
def test_a_seed_gives_the_same_samples_everywhere(backend, case: Case) -> None:
    logits, label = case.draw()
    expected, _ = reference.sample(logits, label, 3, 2**40 + 5, 7)
    z = backend.run(em.sample_posterior, case.problem, logits, label, 3, seed=2**40 + 5, first_row=7)
    assert torch.equal(z, expected)
    alone = backend.run(em.sample_posterior, case.problem, logits[1:], label[1:], 3, seed=2**40 + 5, first_row=8)
    assert torch.equal(alone, expected[:, 1:])


@pytest.mark.parametrize("case", [Case(4, batch=70), Case(15, batch=3), Case(4, 3, 3, batch=5)], ids=str)
def test_a_row_does_not_depend_on_its_batch(backend, case: Case) -> None:
    logits, label = case.draw()
    whole = backend.run(em.posterior, case.problem, logits, label)
    for row in (0, case.batch // 2, case.batch - 1):
        alone = backend.run(em.posterior, case.problem, logits[row : row + 1], label[row : row + 1])
        assert torch.equal(alone.marginals[0], whole.marginals[row])
        assert torch.equal(alone.log_evidence[0], whole.log_evidence[row])


@pytest.mark.parametrize("n_addends", [2, 3])
def test_impossible_labels_leave_the_prior(backend, n_addends: int) -> None:
    problem = em.Addition(3, n_addends=n_addends)
    logits = torch.randn(3, n_addends, 3, 10, generator=torch.Generator().manual_seed(0))
    label = problem.label(torch.full((3, n_addends, 3), 4))
    label[0, 0] = n_addends
    logits[1, :, 2, 1:] = float("-inf")
    post = backend.run(em.posterior, problem, logits, label)
    assert post.possible.tolist() == [False, False, True]
    assert post.log_evidence[:2].tolist() == [float("-inf")] * 2
    torch.testing.assert_close(post.marginals[:2], torch.softmax(logits[:2], -1), atol=1e-6, rtol=0)
    gradient, log_evidence = backend.run(em_gradient, problem, logits, label)
    assert (gradient[:2] == 0).all()
    assert gradient[2].abs().max() > 0.01
    assert log_evidence[:2].tolist() == [float("-inf")] * 2
    best = backend.run(em.posterior, problem, logits, label, em.MAP())
    assert best.possible.tolist() == [False, False, True]
    torch.testing.assert_close(best.marginals[:2], torch.softmax(logits[:2], -1), atol=1e-6, rtol=0)
    z = backend.run(em.sample_posterior, problem, logits, label, 2, seed=0)
    assert torch.equal(problem.label(z)[:, 2], label[2].expand(2, -1))
    assert ((z >= 0) & (z < 10)).all()


def em_gradient(problem: em.Addition, logits: torch.Tensor, label: torch.Tensor):
    return problem.em_gradient(logits, label, 1.0, True)


@pytest.mark.parametrize("case", [Case(1), Case(4), Case(15), Case(100), Case(4, 3, 3), Case(3, 2, 4)], ids=str)
def test_theorem_3_1(backend, case: Case) -> None:
    """The gradients of the fused loss, of the M-step loss, and of BP-std by autograd are one."""
    logits, label = case.draw()
    exact = logits.double().requires_grad_()
    em.bp_std_loss(case.problem, exact, label).backward()
    fused = backend.run(gradient_of_fused_loss, case.problem, logits, label)
    stepwise = backend.run(gradient_of_em_loss, case.problem, logits, label)
    torch.testing.assert_close(fused.double(), exact.grad, atol=1e-5, rtol=0)
    torch.testing.assert_close(stepwise.double(), exact.grad, atol=1e-5, rtol=0)


def gradient_of_fused_loss(problem: em.Addition, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    logits = logits.detach().clone().requires_grad_()
    em.fused_em_loss(problem, logits, label).backward()
    return logits.grad


def gradient_of_em_loss(problem: em.Addition, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    logits = logits.detach().clone().requires_grad_()
    em.em_loss(logits, em.posterior(problem, logits, label)).backward()
    return logits.grad


@pytest.mark.parametrize("problem", [em.Addition(1), em.Addition(2, 3, 3), em.Addition(3, 2, 2)], ids=repr)
def test_a_uniform_prior_counts_assignments(backend, problem: em.Addition) -> None:
    z = enumeration.assignments(problem)
    labels, counts = problem.label(z).unique(dim=0, return_counts=True)
    logits = torch.zeros(len(labels), *problem.latent_shape, problem.cardinality)
    post = backend.run(em.posterior, problem, logits, labels)
    torch.testing.assert_close(post.log_evidence.exp() * len(z), counts.float(), atol=0, rtol=1e-5)
    first = z.flatten(1)[:, 0] == 0
    with_zero = torch.stack([(first & (problem.label(z) == label).all(1)).sum() for label in labels])
    torch.testing.assert_close(post.marginals.flatten(1, -2)[:, 0, 0], with_zero / counts, atol=1e-5, rtol=0)


shapes = st.tuples(st.integers(1, 9), st.integers(2, 12), st.integers(2, 4), st.integers(0, 2**20))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes, st.floats(0.1, 50.0), st.floats(0.0, 0.5))
def test_properties(backend, shape: tuple[int, int, int, int], sd: float, hard_zeros: float) -> None:
    n, base, k, seed = shape
    if backend.name == "interpreter":
        n, base = min(n, 2), min(base, 4)
    case = Case(n, base, k, batch=2, sd=sd, hard_zeros=hard_zeros, seed=seed)
    logits, label = case.draw()
    post = backend.run(em.posterior, case.problem, logits, label)
    near = {"atol": tolerance(logits), "rtol": 0}
    assert post.possible.all()
    assert not post.marginals.requires_grad
    torch.testing.assert_close(post.marginals.sum(-1), torch.ones(2, k, n), atol=1e-5, rtol=0)
    assert (post.marginals[logits == float("-inf")] == 0).all()

    swapped = backend.run(em.posterior, case.problem, logits.flip(1), label)
    torch.testing.assert_close(swapped.marginals.flip(1), post.marginals, **near)

    shift = torch.randn(2, k, n, 1, generator=torch.Generator().manual_seed(seed)) * sd
    shifted = backend.run(em.posterior, case.problem, logits + shift, label)
    torch.testing.assert_close(shifted.marginals, post.marginals, atol=4 * near["atol"], rtol=0)

    best = backend.run(em.posterior, case.problem, logits, label, em.MAP())
    assert torch.equal(case.problem.label(best.info["assignment"]), label)
    assert (best.log_evidence <= post.log_evidence + tolerance(logits) * 10).all()


def test_label_of_large_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    for n, base, k in ((1, 10, 2), (30, 10, 4), (5, 2, 4), (3, 2, 3), (2, 32, 3)):
        problem = em.Addition(n, base, k)
        z = torch.randint(0, base, (4, k, n), generator=generator)
        for row, label in zip(z.tolist(), problem.label(z).tolist(), strict=True):
            assert value(label, base) == sum(value(number, base) for number in row)
        largest = problem.label(torch.full((k, n), base - 1)).tolist()
        assert largest[0] > 0, "the label has no digit to spare"


def value(digits: list[int], base: int) -> int:
    total = 0
    for digit in digits:
        total = total * base + digit
    return total
