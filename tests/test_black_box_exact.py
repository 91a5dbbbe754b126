"""Exact inference of functions over the table of all assignments: labels of any type, padding, caches, samples, MAP."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.problems import black_box_rules
from emnesy_gpu.reference import enumeration

SIZES = (2, 4, 1, 3)
NEG_INF = float("-inf")
WORDS = ("low", "middle", "high")


def word(z: tuple[int, ...]) -> str:
    return WORDS[min(sum(z) // 2, 2)]


def total(z: Tensor) -> Tensor:
    return z.sum(-1)


def total_score(z: Tensor, y: Tensor) -> Tensor:
    return (z.sum(-1) == y).long() + (z.sum(-1) % 2 == y % 2)


def flat_total(z: Tensor) -> Tensor:
    return z.flatten(-2).sum(-1)


def flat_score(z: Tensor, y: Tensor) -> Tensor:
    return total_score(z.flatten(-2), y)


PADDED = [
    em.BlackBox(label=flat_total, latent_shape=(2, 2), cardinality=SIZES),
    em.BlackBox(python_label=sum, latent_shape=(2, 2), cardinality=SIZES),
    em.BlackBox(flat_score, latent_shape=(2, 2), cardinality=SIZES, n_constraints=2),
]
"""The sum of four symbols with 2, 4, 1 and 3 values, in every form."""


def draw(batch: int = 6) -> tuple[Tensor, Tensor]:
    """Logits and sums; the sum 7 is that of no assignment."""
    logits = torch.randn(batch, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    return logits, torch.tensor([0, 1, 3, 6, 7, 3])[:batch]


def brute_force(logits: Tensor, label: int) -> tuple[Tensor, float, Tensor]:
    """Marginals [4, 4], evidence and the most probable assignment of one row of the sum."""
    priors = [row[:size].double().softmax(-1) for row, size in zip(logits.view(4, 4), SIZES, strict=True)]
    marginals, evidence, best = torch.zeros(4, 4, dtype=torch.float64), 0.0, (-1.0, (0, 0, 0, 0))
    for z in product(*map(range, SIZES)):
        p = float(torch.stack([prior[v] for prior, v in zip(priors, z, strict=True)]).prod())
        if sum(z) == label:
            evidence += p
            marginals[range(4), z] += p
            best = max(best, (p, z), key=lambda pair: pair[0])
    return marginals / max(evidence, 1e-300), evidence, torch.tensor(best[1])


@pytest.mark.parametrize("problem", PADDED, ids=["label", "python_label", "score"])
def test_padded_symbols_have_the_posterior_of_brute_force(problem: em.BlackBox) -> None:
    logits, label = draw()
    post, best = (em.posterior(problem, logits, label, engine) for engine in (em.Exact(), em.MAP()))
    assert post.possible.tolist() == best.possible.tolist() == [True, True, True, True, False, True]
    for row in (0, 1, 2, 3, 5):
        marginals, evidence, z = brute_force(logits[row], int(label[row]))
        torch.testing.assert_close(post.marginals[row].view(4, 4), marginals.float(), rtol=1e-5, atol=1e-6)
        assert post.log_evidence[row].exp().item() == pytest.approx(evidence, rel=1e-5)
        assert best.info["assignment"][row].flatten().tolist() == z.tolist()
    assert post.log_evidence[4] == best.log_evidence[4] == NEG_INF


@pytest.mark.parametrize("problem", PADDED, ids=["label", "python_label", "score"])
@pytest.mark.parametrize("fill", [NEG_INF, 50.0, float("nan")])
@pytest.mark.parametrize("engine", [em.Exact(), em.MAP(), em.ABC(200), em.Rejection(200), em.Gibbs(2, 6)], ids=str)
def test_logits_of_values_that_a_symbol_does_not_have_are_ignored(problem, fill: float, engine: em.Engine) -> None:
    logits, label = draw()
    beyond = torch.arange(4) >= torch.tensor(SIZES)[:, None]
    other = logits.masked_fill(beyond.view(2, 2, 4), fill)
    post, expected = (em.posterior(problem, x, label, engine) for x in (other, logits))
    assert torch.equal(post.marginals, expected.marginals)
    assert (post.marginals[:, beyond.view(2, 2, 4)] == 0).all()


@pytest.mark.parametrize("problem", PADDED, ids=["label", "python_label", "score"])
def test_the_fused_loss_has_no_gradient_at_padding_and_that_of_the_evidence_elsewhere(problem: em.BlackBox) -> None:
    logits, label = draw()
    logits = logits.double().requires_grad_()
    (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, logits, label, "none")[label != 7].sum(), logits)
    beyond = (torch.arange(4) >= torch.tensor(SIZES)[:, None]).view(2, 2, 4)
    post = em.posterior(problem, logits, label)
    prior = logits.masked_fill(beyond, NEG_INF).softmax(-1)
    torch.testing.assert_close(gradient[label != 7], (prior - post.marginals)[label != 7])
    assert (gradient[:, beyond] == 0).all()
    assert (gradient[label == 7] == 0).all()


def test_samples_are_those_of_a_list_of_the_assignments() -> None:
    problem = em.BlackBox(label=total, latent_shape=(3,), cardinality=4)
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    logits[3, 0, 1:] = NEG_INF
    label, first_row = torch.full((5,), 8), 2**32 - 2
    listed = torch.tensor([z for z in product(range(4), repeat=3) if sum(z) == 8], dtype=torch.uint8)
    expected, _ = enumeration.sample(logits, torch.ones_like(label), listed, 20, 2**40 + 3, first_row)
    assert torch.equal(em.sample_posterior(problem, logits, label, 20, 2**40 + 3, first_row), expected)
    alone = em.sample_posterior(problem, logits[2:3], label[2:3], 20, 2**40 + 3, first_row + 2)
    assert torch.equal(alone, expected[:, 2:3])
    assert em.sample_posterior(problem, logits, label, 0, 1).shape == (0, 5, 3)


@pytest.mark.parametrize("problem", PADDED, ids=["label", "python_label", "score"])
def test_samples_have_the_label_and_the_frequencies_of_the_posterior(problem: em.BlackBox) -> None:
    logits, label = draw()
    z = em.sample_posterior(problem, logits, label, 4000, seed=1)
    assert (flat_total(z) == label)[:, label != 7].all()
    frequencies = torch.nn.functional.one_hot(z, 4).double().mean(0)
    post = em.posterior(problem, logits.double(), label)
    prior = logits.double().masked_fill((torch.arange(4) >= torch.tensor(SIZES)[:, None]).view(2, 2, 4), NEG_INF)
    expected = torch.where(post.possible[:, None, None, None], post.marginals, prior.softmax(-1))
    assert ((frequencies - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt() + 1e-9).all()


def test_entries_of_labels_are_found_together() -> None:
    """Also entries that are negative, and labels whose entries occur, but not together."""
    problem = em.BlackBox(
        label=lambda z: torch.stack([z.sum(-1) - 3, z[..., 0] - z[..., 1], z[..., 0] > 1], -1),
        latent_shape=(3,),
        cardinality=3,
        label_shape=(3,),
    )
    logits = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(2))
    z = torch.tensor([[0, 2, 0], [2, 2, 1]])
    label = torch.cat([problem.label(z), torch.tensor([[-3, 2, 0]])])
    post = em.posterior(problem, logits, label)
    for row in range(3):
        found = [z for z in product(range(3), repeat=3) if (problem.label(torch.tensor(z)) == label[row]).all()]
        p = sum(logits[row].softmax(-1)[range(3), z].prod() for z in found) if found else torch.tensor(0.0)
        torch.testing.assert_close(post.log_evidence[row].exp(), p)
    assert post.possible.tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_labels_may_be_bool(dtype: torch.dtype) -> None:
    label = torch.tensor([True, False], dtype=dtype)
    logits = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(3))
    as_tensor = em.BlackBox(label=lambda z: z.sum(-1) > 1, latent_shape=(3,), cardinality=2)
    in_python = em.BlackBox(python_label=lambda z: sum(z) > 1, latent_shape=(3,), cardinality=2)
    post, other = (em.posterior(problem, logits, label) for problem in (as_tensor, in_python))
    assert torch.equal(post.marginals, other.marginals)
    assert in_python.labels == [False, True]
    assert torch.equal(in_python.encode([True, False]), label.long())


def test_labels_that_can_be_hashed_have_codes() -> None:
    problem = em.BlackBox(python_label=word, latent_shape=(3,), cardinality=3)
    assert problem.labels == list(WORDS)
    z = torch.tensor([[[0, 0, 1]], [[2, 2, 2]]])
    assert torch.equal(problem.label(z), problem.encode(["low", "high"])[:, None])
    with pytest.raises(ValueError, match=r"no assignment has the label 'none'; known are \['low'"):
        problem.encode(["none"])
    post = em.posterior(problem, torch.zeros(2, 3, 3), problem.encode(["low", "high"]))
    assert post.log_evidence.exp().tolist() == pytest.approx([4 / 27, 10 / 27])


def test_labels_that_are_integers_are_their_own_codes() -> None:
    problem = em.BlackBox(python_label=lambda z: 2 * sum(z), latent_shape=(2,), cardinality=2)
    assert problem.labels == [0, None, 2, None, 4]
    assert problem.encode([4, 0]).tolist() == [4, 0]


def test_labels_of_too_many_assignments_are_numbered_as_they_appear() -> None:
    problem = em.BlackBox(python_label=word, latent_shape=(30,), cardinality=2)
    label = problem.encode(["high", "low"])
    assert label.tolist() == [2**20 + 1, 2**20 + 2]
    post = em.posterior(problem, torch.zeros(2, 30, 2), label, em.Rejection(200))
    assert post.info["acceptance"].tolist() == [1.0, 0.0]
    assert problem.labels[:2] == ["high", "low"]


def test_wrong_symbols_of_python_labels() -> None:
    problem = em.BlackBox(python_label=sum, latent_shape=(2,), cardinality=(2, 3))
    with pytest.raises(ValueError, match=r"z must hold values in 0\.\.1 at symbol 0, got 2"):
        problem.label(torch.tensor([[0, 1], [2, 0]]))
    with pytest.raises(ValueError, match=r"z must have shape \[\.\.\., 2\], got \[3\]"):
        problem.label(torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"label_shape must be \(\) with python_label"):
        em.BlackBox(python_label=sum, latent_shape=(2,), cardinality=2, label_shape=(1,))
    with pytest.raises(UnsupportedInference, match="only python_label does"):
        PADDED[0].encode([1])


@pytest.mark.parametrize(
    ("cardinality", "message"),
    [((2, 3), "have 4 entries"), ((2, 3, 0, 1), r"cardinality\[2\]"), ((2, 3, 1, 1.5), r"cardinality\[3\]")],
)
def test_wrong_numbers_of_values(cardinality: tuple, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        em.BlackBox(label=total, latent_shape=(2, 2), cardinality=cardinality)


def counted(function):
    """The function, and how many samples it was called for."""
    calls: list[int] = []

    def count(z, *label):
        calls.append(len(z) * z.shape[1] if isinstance(z, Tensor) else 1)
        return function(z, *label)

    return count, calls


@pytest.mark.parametrize(("form", "function"), [("label", total), ("python_label", sum)])
def test_labels_of_all_assignments_are_computed_once(form: str, function) -> None:
    function, calls = counted(function)
    problem = em.BlackBox(**{form: function}, latent_shape=(3,), cardinality=4)
    for batch in (5, 2):
        em.fused_em_loss(problem, torch.zeros(batch, 3, 4), torch.arange(batch))
    em.posterior(problem, torch.zeros(2, 3, 4), torch.tensor([7, 7]), em.MAP())
    assert sum(calls) == 4**3


def test_scores_are_computed_once_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    score, calls = counted(total_score)
    problem = em.BlackBox(score, latent_shape=(3,), cardinality=4, n_constraints=2)
    logits, label = torch.randn(5, 3, 4), torch.tensor([3, 3, 4, 3, 4])
    expected = em.posterior(problem, logits, label)
    assert sum(calls) == 2 * 4**3
    em.posterior(problem, logits, torch.tensor([4, 4, 5, 3, 5]))
    assert sum(calls) == 3 * 4**3
    monkeypatch.setattr(black_box_rules, "CACHED_SCORES", 4**3)  # room for one label
    em.posterior(problem, logits, torch.tensor([6, 6, 6, 6, 6]))
    found = em.posterior(problem, logits, label)
    assert torch.equal(found.marginals, expected.marginals)
    assert sum(calls) == 6 * 4**3


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_have_the_same_bits_in_any_batch(rows: int) -> None:
    problem = em.BlackBox(label=lambda z: z.sum(-1) % 3, latent_shape=(5,), cardinality=(9, 2, 9, 9, 9))
    logits = torch.randn(7, 5, 9, generator=torch.Generator().manual_seed(4))
    label = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    expected = em.posterior(problem, logits, label)
    parts = [em.posterior(problem, x, y) for x, y in zip(logits.split(rows), label.split(rows), strict=True)]
    assert torch.equal(torch.cat([part.marginals for part in parts]), expected.marginals)
    assert torch.equal(torch.cat([part.log_evidence for part in parts]), expected.log_evidence)


def test_large_logits_and_hard_zeros_stay_finite() -> None:
    problem = em.BlackBox(label=total, latent_shape=(3,), cardinality=3)
    logits = 1e4 * torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(5))
    logits[:, 1, 0] = NEG_INF
    post = em.posterior(problem, logits, torch.tensor([1, 2, 5, 0]))
    assert post.possible.tolist() == [True, True, True, False]
    assert post.marginals.isfinite().all()
    assert (post.marginals[:, 1, 0] == 0).all()


def test_an_empty_batch() -> None:
    for problem in PADDED:
        logits, label = torch.zeros(0, 2, 2, 4), torch.zeros(0, dtype=torch.int64)
        assert em.posterior(problem, logits, label).marginals.shape == (0, 2, 2, 4)
        assert em.sample_posterior(problem, logits, label, 3, 0).shape == (3, 0, 2, 2)
