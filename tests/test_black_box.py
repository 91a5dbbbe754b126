"""Functions of the user as problems: against the problems that the package knows, and against brute force."""

from __future__ import annotations

import numba
import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.inference import weighted_samples
from emnesy_gpu.ops.black_box import histogram
from emnesy_gpu.problems import UnsupportedInference
from tests.backends import Backend
from tests.black_boxes import ADDITION, SHAPE, compiled_posterior, equal_digits, numba_equal_digits
from tests.test_abc import draw_logits


def addition_as_black_box() -> em.BlackBox:
    return em.BlackBox(label=ADDITION.label, **SHAPE)


def addition_as_score() -> em.BlackBox:
    return em.BlackBox(equal_digits, n_constraints=3, **SHAPE)


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    logits = draw_logits(ADDITION, batch)
    return logits, ADDITION.label(torch.randint(0, 4, (batch, 2, 2), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("problem", [addition_as_black_box(), addition_as_score()], ids=str)
@pytest.mark.parametrize("engine", [em.Exact(), em.MAP()], ids=str)
def test_exact_inference_agrees_with_addition(problem: em.BlackBox, engine: em.Engine) -> None:
    logits, label = inputs(4)
    label[3] = torch.tensor([3, 3, 3])
    post, expected = (em.posterior(p, logits, label, engine) for p in (problem, ADDITION))
    torch.testing.assert_close(post.marginals, expected.marginals, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(post.log_evidence, expected.log_evidence, rtol=1e-5, atol=1e-5)
    assert post.possible.tolist() == expected.possible.tolist() == [True, True, True, False]


@pytest.mark.parametrize("problem", [addition_as_black_box(), addition_as_score()], ids=str)
@pytest.mark.parametrize(
    "engine", [em.ABC(300, sharpness=2.0), em.ABC(300, target_ess=20.0), em.Rejection(300)], ids=str
)
def test_samples_are_those_of_addition(problem: em.BlackBox, engine: em.Engine) -> None:
    logits, label = inputs()
    post, expected = (em.posterior(p, logits, label, engine) for p in (problem, ADDITION))
    assert torch.equal(post.marginals, expected.marginals)
    assert torch.equal(post.log_evidence, expected.log_evidence)


@pytest.mark.parametrize("engine", [em.ABC(200, sharpness=2.0, first_row=2**32 - 2), em.Rejection(130)], ids=str)
def test_compiled_scores_see_the_same_samples(backend: Backend, engine: em.Engine) -> None:
    logits, label = inputs()
    expected = em.posterior(addition_as_score(), logits, label, engine)
    post = backend.run(compiled_posterior, logits, label, engine)
    assert torch.equal(post.marginals, expected.marginals)
    assert torch.equal(post.log_evidence, expected.log_evidence)


def test_the_compiled_score_is_what_counts() -> None:
    """A score for Numba that is always satisfied gives the prior, whatever the torch function says."""
    logits, label = inputs()
    always = em.BlackBox(equal_digits, n_constraints=3, numba_score=numba.njit(lambda z, y: 3), **SHAPE)
    with em.backend("cpu"):
        post = em.posterior(always, logits, label, em.Rejection(500))
    z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, 500, 0, 0, 0)
    expected = torch.nn.functional.one_hot(z, 4).double().mean(0)
    torch.testing.assert_close(post.marginals.double(), expected, rtol=1e-6, atol=0)
    assert post.info["acceptance"].tolist() == [1.0] * 3


def test_specification_of_compiled_scores() -> None:
    logits, label = inputs()
    with em.backend("reference"):
        expected = histogram(logits, label, numba_equal_digits, 3, 40, 5, 1)
    with em.backend("cpu"):
        assert torch.equal(histogram(logits, label, numba_equal_digits, 3, 40, 5, 1), expected)
    assert expected.sum((1, 3)).eq(40).all()


@pytest.mark.parametrize("engine", [em.ABC(1000, sharpness=2.0), em.Exact()], ids=str)
def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch, engine: em.Engine) -> None:
    logits, label = inputs(5)
    expected = em.posterior(addition_as_black_box(), logits, label, engine)
    monkeypatch.setattr(weighted_samples, "SYMBOLS_AT_A_TIME", 40)
    monkeypatch.setattr(weighted_samples, "COUNTS_AT_A_TIME", 130)
    monkeypatch.setattr("emnesy_gpu.problems.black_box.JOINTS_AT_A_TIME", 300)
    post = em.posterior(addition_as_black_box(), logits, label, engine)
    assert torch.equal(post.marginals, expected.marginals)
    assert torch.equal(post.log_evidence, expected.log_evidence)


def test_gradient_of_the_fused_loss_is_that_of_the_evidence() -> None:
    problem, (logits, label) = addition_as_black_box(), inputs()
    logits.requires_grad_()
    loss = em.fused_em_loss(problem, logits, label)
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(em.fused_em_loss(ADDITION, logits, label), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_too_many_assignments_to_try_them_all() -> None:
    problem = em.BlackBox(label=lambda z: z.sum(-1), latent_shape=(17,), cardinality=2)
    with pytest.raises(em.UnsupportedEngineError, match=r"em\.ABC"):
        em.posterior(problem, torch.zeros(1, 17, 2), torch.tensor([3]), em.Exact())
    post = em.posterior(problem, torch.zeros(1, 17, 2), torch.tensor([0]), em.Rejection(10))
    assert not post.possible


def test_a_score_does_not_know_labels() -> None:
    with pytest.raises(UnsupportedInference, match="score"):
        addition_as_score().label(torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (lambda z, y: z.sum((-1, -2)).float(), TypeError, "dtype"),
        (lambda z, y: z.sum(-1), ValueError, "shape"),
        (lambda z, y: z.sum((-1, -2)) + 2, ValueError, "must lie in 0..1"),
        (lambda z, y: 1, TypeError, "Tensor"),
    ],
)
def test_scores_that_count_nothing(score, error: type[Exception], message: str) -> None:
    problem = em.BlackBox(score, latent_shape=(2, 2), cardinality=4)
    with pytest.raises(error, match=message):
        em.posterior(problem, torch.zeros(2, 2, 2, 4), torch.tensor([0, 1]), em.ABC(10))


def test_labels_of_the_wrong_shape() -> None:
    problem = em.BlackBox(label=lambda z: z, latent_shape=(2,), cardinality=3)
    with pytest.raises(ValueError, match=r"label\(z\) must have shape"):
        em.posterior(problem, torch.zeros(1, 2, 3), torch.tensor([0]), em.ABC(10))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, TypeError),
        ({"score": equal_digits, "label": ADDITION.label}, TypeError),
        ({"label": ADDITION.label, "n_constraints": 2}, ValueError),
        ({"score": equal_digits, "n_constraints": 0}, ValueError),
        ({"score": equal_digits, "cardinality": 1}, ValueError),
        ({"score": equal_digits, "latent_shape": (0,)}, ValueError),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        em.BlackBox(**({"latent_shape": (2, 2), "cardinality": 4, "label_shape": (3,)} | arguments))
