"""Gibbs chains on scores: addition, paths and black boxes, against enumeration of the tempered distribution."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.inference import weighted_samples
from emnesy_gpu.problems import shortest_path
from tests.black_boxes import ADDITION, SHAPE, equal_digits
from tests.test_abc import draw_logits

NEG_INF = float("-inf")
SIGMAS = 5.0
SMALL = em.Addition(2, base=3)


def different_and_even(z: Tensor, y: Tensor) -> Tensor:
    """Three symbols of which neighbours differ, and the parity of their sum."""
    return (z[..., 1:] != z[..., :-1]).sum(-1) + (z.sum(-1) % 2 == y)


def scored() -> em.BlackBox:
    return em.BlackBox(different_and_even, latent_shape=(3,), cardinality=4, n_constraints=3)


CASES = [
    (SMALL, torch.tensor([0, 2, 1])),
    (SMALL, torch.tensor([2, 2, 2])),
    (em.Addition(1, base=4, n_addends=3), torch.tensor([1, 3])),
    (scored(), torch.tensor(1)),
    (em.ShortestPath(2, 3, costs=(0.1, 0.2, 2.0)), torch.tensor([[1, 0, 0], [0, 1, 1]])),
    (em.ShortestPath(3, 2, costs=(0.0, 0.1)), torch.tensor([[0, 3], [1, 0], [5, 0]])),
]
"""Problems and a label of each; the second one is that of no sum, the last one has marked ends."""


def count_satisfied(problem: em.Problem, z: Tensor, label: Tensor) -> tuple[Tensor, int]:
    """Of z [M, *latent_shape], and how many constraints there are."""
    if isinstance(problem, em.Addition):
        return (problem.label(z) == label).sum(-1), problem.n_label_digits
    if isinstance(problem, em.ShortestPath):
        (start,), (goal,) = ((label & bit).nonzero() if (label & bit).any() else (None,) for bit in (2, 4))
        return ((problem.label(z, start, goal) & 1) == (label & 1)).flatten(1).sum(-1), label.numel()
    return different_and_even(z, label), 3


def tempered(problem: em.Problem, logits: Tensor, label: Tensor, penalty: float) -> tuple[Tensor, float]:
    """Marginals of prior(z) exp(-penalty * violated), and the prior mean of that factor, over all assignments."""
    n = prod(problem.latent_shape)
    z = torch.tensor(list(product(range(problem.cardinality), repeat=n)))
    log_prior = torch.log_softmax(logits[0].double(), -1).flatten(0, -2)
    satisfied, n_constraints = count_satisfied(problem, z.view(-1, *problem.latent_shape), label)
    weight = log_prior.gather(1, z.T).sum(0).exp() * torch.exp(-penalty * (n_constraints - satisfied))
    has = torch.nn.functional.one_hot(z, problem.cardinality).double()
    marginals = torch.einsum("m,mnk->nk", weight, has) / weight.sum()
    return marginals.view(logits.shape[1:]), float(weight.sum())


def posterior_of(problem: em.Problem, label: Tensor, rows: int, engine: em.Engine) -> tuple[Tensor, em.Posterior]:
    """The same logits and label in every row, whose chains are independent of each other."""
    logits = draw_logits(problem)
    return logits, em.posterior(
        problem, logits.expand(rows, *logits.shape[1:]), label.expand(rows, *label.shape), engine
    )


@pytest.mark.parametrize(("problem", "label"), CASES, ids=str)
@pytest.mark.parametrize("penalty", [0.7, 2.0])
def test_converges_to_the_tempered_distribution(problem: em.Problem, label: Tensor, penalty: float) -> None:
    """The rest allowed for is what 30 sweeps of burn-in leave."""
    logits, post = posterior_of(problem, label, 500, em.Gibbs(chains=2, sweeps=60, penalty=penalty, seed=1))
    expected, _ = tempered(problem, logits, label, penalty)
    estimates = post.marginals.double()
    assert ((estimates.mean(0) - expected).abs() <= SIGMAS * estimates.std(0) / 500**0.5 + 1e-4).all()
    assert post.possible.all()


@pytest.mark.parametrize(("problem", "label"), CASES, ids=str)
@pytest.mark.parametrize(("chains", "sweeps"), [(1, 1), (1, 12), (3, 5)])
def test_annealed_importance_sampling_is_unbiased(problem: em.Problem, label: Tensor, chains: int, sweeps: int) -> None:
    logits, post = posterior_of(problem, label, 2000, em.Gibbs(chains, sweeps, penalty=1.5, seed=2))
    estimates = post.log_evidence.double().exp()
    expected = tempered(problem, logits, label, 1.5)[1]
    assert abs(estimates.mean() - expected) < SIGMAS * estimates.std() / 2000**0.5


@pytest.mark.parametrize("n_digits", [1, 2])
def test_comes_much_closer_to_the_exact_posterior_than_the_prior(n_digits: int) -> None:
    problem = em.Addition(n_digits)
    z = torch.randint(0, 10, (100, 2, n_digits), generator=torch.Generator().manual_seed(0))
    logits, label = draw_logits(problem, batch=100) + 2.0 * torch.nn.functional.one_hot(z, 10), problem.label(z)
    exact = em.posterior(problem, logits, label).marginals
    found = em.posterior(problem, logits, label, em.Gibbs(penalty=3.0)).marginals
    near, far = ((x - exact).abs().sum(-1).mean() / 2 for x in (found, torch.softmax(logits, -1)))
    assert near < 0.4 * far


@pytest.mark.parametrize("sweeps", [1, 2, 9])
def test_pairs_that_must_differ_have_the_chains_of_their_kernels(sweeps: int) -> None:
    """The draws are the same up to rounding in 2^-23 of the uniform numbers, so that not one of these differs."""

    def pairs(z: Tensor, y: Tensor) -> Tensor:
        a, b, c, d = z.unbind(-1)
        return (a != b).long() + (b != c) + (a != c) + (c != d)

    logits, label = draw_logits(em.AllDifferent([(0, 1)], 4, 5), batch=6), torch.ones(6, dtype=torch.int64)
    as_groups = em.AllDifferent([(0, 1, 2), (2, 3)], n_variables=4, cardinality=5)
    as_scores = em.BlackBox(pairs, latent_shape=(4,), cardinality=5, n_constraints=4)
    engine = em.Gibbs(chains=3, sweeps=sweeps, penalty=1.5, seed=4, first_row=2**32 - 3)
    post, expected = (em.posterior(problem, logits, label, engine) for problem in (as_scores, as_groups))
    torch.testing.assert_close(post.marginals, expected.marginals, rtol=1e-5, atol=1e-6)
    assert torch.equal(post.log_evidence, expected.log_evidence)
    assert torch.equal(post.info["satisfied"], expected.info["satisfied"])


@pytest.mark.parametrize(
    "form", [{"label": ADDITION.label}, {"score": equal_digits, "n_constraints": 3}], ids=lambda form: next(iter(form))
)
def test_black_boxes_have_the_chains_of_addition(form: dict) -> None:
    logits = draw_logits(ADDITION, batch=3)
    label = ADDITION.label(logits.argmax(-1))
    engine = em.Gibbs(chains=3, sweeps=7, seed=2**62 + 5, first_row=2**32 - 1)
    post, expected = (em.posterior(p, logits, label, engine) for p in (em.BlackBox(**form, **SHAPE), ADDITION))
    assert torch.equal(post.marginals, expected.marginals)
    assert torch.equal(post.log_evidence, expected.log_evidence)
    assert torch.equal(post.info["satisfied"], expected.info["satisfied"])


@pytest.mark.parametrize(
    "problem",
    [
        em.ShortestPath(6, 5),
        em.ShortestPath(3, 4, costs=(0.0, 0.1, 0.1, 3.0)),
        em.ShortestPath(4, costs=[0.1 * (v + 1) for v in range(32)]),
        em.ShortestPath(3, costs=(0.1, 9000.0)),
    ],
    ids=lambda problem: f"{problem.height}x{problem.width}-{problem.cardinality}",
)
@pytest.mark.parametrize(
    "engine",
    [em.Gibbs(3, 4, 1.0, first_row=2**32 - 3), em.Gibbs(1, 1, 0.0), em.Gibbs(7, 5, 0.3, seed=2**62 + 5)],
    ids=["annealed", "prior", "weak"],
)
def test_the_kernel_for_paths_has_the_chains_of_plain_torch(monkeypatch, problem, engine: em.Gibbs) -> None:
    """Five classes leave lanes without a chain, 32 one chain a block, and large costs do not fit 16 bits."""
    logits = draw_logits(problem, batch=5, sd=2.0)
    label = problem.label(logits.argmax(-1), start=(1, 0), goal=torch.tensor([[2, 2], [0, 1], [2, 1], [1, 0], [2, 2]]))
    logits[0, 0, 0, 1:] = NEG_INF
    fused = em.posterior(problem, logits, label, engine)
    monkeypatch.setattr(shortest_path, "backend_for", lambda device: "reference")
    plain = em.posterior(problem, logits, label, engine)
    assert torch.equal(fused.marginals, plain.marginals)
    assert torch.equal(fused.log_evidence, plain.log_evidence)
    assert torch.equal(fused.info["satisfied"], plain.info["satisfied"])


def test_threads_change_no_chain_of_paths() -> None:
    problem, threads = em.ShortestPath(8), torch.get_num_threads()
    logits = draw_logits(problem, batch=41)
    label, engine = problem.label(logits.argmax(-1)), em.Gibbs(chains=2, sweeps=3)
    try:
        torch.set_num_threads(1)
        one = em.posterior(problem, logits, label, engine)
        torch.set_num_threads(3)
        three = em.posterior(problem, logits, label, engine)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.marginals, three.marginals)
    assert torch.equal(one.log_evidence, three.log_evidence)


@pytest.mark.parametrize("chunk", [10, 70, 1000])
@pytest.mark.parametrize("problem", [SMALL, scored(), em.ShortestPath(3)], ids=str)
def test_neither_chunks_nor_the_batch_change_a_bit(monkeypatch, problem: em.Problem, chunk: int) -> None:
    logits = draw_logits(problem, batch=7)
    label = torch.ones(7, *problem.label_shape, dtype=torch.int64)
    together = em.posterior(problem, logits, label, em.Gibbs(chains=5, sweeps=6, seed=9))
    monkeypatch.setattr(weighted_samples, "SYMBOLS_AT_A_TIME", chunk)
    parts = [
        em.posterior(problem, logits[rows], label[rows], em.Gibbs(5, 6, seed=9, first_row=rows.start))
        for rows in (slice(0, 1), slice(1, 7))
    ]
    assert torch.equal(torch.cat([part.marginals for part in parts]), together.marginals)
    assert torch.equal(torch.cat([part.log_evidence for part in parts]), together.log_evidence)
    other = em.posterior(problem, logits, label, em.Gibbs(chains=5, sweeps=6, seed=10))
    assert not torch.equal(other.marginals, together.marginals)


def test_memory_is_bounded_in_rows_chains_and_values() -> None:
    sizes = []

    def score(z: Tensor, y: Tensor) -> Tensor:
        sizes.append(z.numel())
        return z.sum(-1) == y

    problem = em.BlackBox(score, latent_shape=(5,), cardinality=2000)
    logits, label = draw_logits(problem, batch=3), torch.tensor([1, 2, 3])
    em.posterior(problem, logits, label, em.Gibbs(chains=100, sweeps=1))
    assert weighted_samples.SYMBOLS_AT_A_TIME / 2 < max(sizes) <= weighted_samples.SYMBOLS_AT_A_TIME


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_without_anything_to_satisfy_the_conditionals_are_the_prior(penalty: float) -> None:
    """Without a penalty, or with constraints that always hold. Conditionals are rounded to 2^-24 of the largest."""
    problem = em.BlackBox(lambda z, y: torch.full(z.shape[:2], 1 if penalty else 0), latent_shape=(3,), cardinality=4)
    logits = draw_logits(problem, batch=2, sd=3.0)
    post = em.posterior(problem, logits, torch.tensor([1, 1]), em.Gibbs(2, 4, penalty))
    torch.testing.assert_close(post.marginals, torch.softmax(logits, -1), rtol=1e-5, atol=2**-23)
    assert post.log_evidence.tolist() == [0.0, 0.0]
    assert post.info["satisfied"].tolist() == [float(penalty > 0)] * 2


@pytest.mark.parametrize("penalty", [3.0, 1e6])
def test_hard_zeros_stay_zero(penalty: float) -> None:
    """Also where they leave no sum with the label, and however much a violation costs."""
    logits = 1e3 * draw_logits(SMALL, batch=4)
    logits[:, 0, 0, 2], logits[:, 1, 0, :2] = NEG_INF, NEG_INF
    post = em.posterior(SMALL, logits, torch.tensor([[0, 0, 1]]).expand(4, 3), em.Gibbs(4, 10, penalty))
    assert (post.marginals[:, 0, 0, 2] == 0).all()
    assert (post.marginals[:, 1, 0, 2] == 1).all()
    torch.testing.assert_close(post.marginals.sum(-1), torch.ones(4, 2, 2))
    assert post.log_evidence.isfinite().all()
    assert (post.info["satisfied"] == 0).all()


def test_a_large_penalty_ends_in_the_label() -> None:
    logits = draw_logits(em.Addition(1), batch=50)
    label = em.Addition(1).label(logits.argmax(-1))
    post = em.posterior(em.Addition(1), logits, label, em.Gibbs(8, 20, penalty=20.0))
    assert post.info["satisfied"].mean() > 0.99


def test_inputs_without_a_posterior() -> None:
    logits, label = draw_logits(SMALL, batch=2), torch.tensor([[0, 0, 1], [0, 0, 3]])
    with pytest.raises(ValueError, match=r"label\[1"):
        em.posterior(SMALL, logits, label, em.Gibbs(2, 4))
    logits[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"logits\[1"):
        em.posterior(
            scored(), logits.view(2, 4, 3)[:, :3].repeat(1, 1, 2)[..., :4], torch.tensor([0, 1]), em.Gibbs(2, 4)
        )
    found = em.posterior(SMALL, logits, label, em.Gibbs(2, 4), check=False)
    alone = em.posterior(SMALL, logits[:1], label[:1], em.Gibbs(2, 4))
    assert torch.equal(found.marginals[0], alone.marginals[0])


@pytest.mark.parametrize(
    ("score", "error"), [(lambda z, y: z.sum(-1), ValueError), (lambda z, y: 1.0 * z[..., 0], TypeError)]
)
def test_scores_that_count_no_constraints(score, error: type[Exception]) -> None:
    problem = em.BlackBox(score, latent_shape=(3,), cardinality=4)
    with pytest.raises(error, match="score"):
        em.posterior(problem, draw_logits(problem), torch.tensor([1]), em.Gibbs(1, 2))


def test_labels_that_are_no_masks_of_paths_are_refused_by_chains_too() -> None:
    problem = em.ShortestPath(2)
    label = torch.tensor([[[1, 0], [0, 1]], [[1, 2], [0, 1]]])
    with pytest.raises(ValueError, match=r"label\[1\] must be a mask"):
        em.posterior(problem, draw_logits(problem, batch=2), label, em.Gibbs(1, 2))


@pytest.mark.parametrize("problem", [SMALL, scored(), em.ShortestPath(2)], ids=str)
def test_an_empty_batch(problem: em.Problem) -> None:
    label = torch.zeros(0, *problem.label_shape, dtype=torch.int64)
    logits = draw_logits(problem)[:0]
    assert em.posterior(problem, logits, label, em.Gibbs()).marginals.shape == logits.shape
