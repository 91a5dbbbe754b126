"""Weighted samples from the prior: enumeration with computed standard errors, and equal bits on every back end."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.benchmarks.measure import peak_bytes
from emnesy_gpu.inference import importance
from tests.backends import Backend

NEG_INF = float("-inf")
SIGMAS = 5.0
VALID, INVALID = torch.tensor([1]), torch.tensor([0])


def small_problem(constraints: str = "groups") -> em.AllDifferent:
    """Five symbols in overlapping groups, and one in none."""
    return em.AllDifferent([(0, 1, 2), (2, 3), (1, 3, 4)], n_variables=6, cardinality=3, constraints=constraints)


def draw_logits(problem: em.Problem, batch: int = 1, seed: int = 0, sd: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sd * torch.randn(batch, *problem.latent_shape, problem.cardinality, generator=generator)


def drawn(logits: Tensor, samples: int, seed: int) -> Tensor:
    return torch.ops.emnesy_gpu.abc_sampling_draw(logits, samples, seed, 0, 0)


def draw_far_out(logits: Tensor) -> Tensor:
    """Rows and samples whose indices take more than 32 bits, and nearly as many."""
    return torch.ops.emnesy_gpu.abc_sampling_draw(logits, 70, 11, 2**32 - 1, 2**31 - 80)


def weights_of_all(problem: em.AllDifferent, engine: em.ABC, z: Tensor, label: int) -> Tensor:
    """The weight of every assignment [M] for each symbol, from the definition: [M, N]."""
    groups = problem.groups
    if problem.constraints == "pairs":
        groups = sorted({(a, b) for group in groups for a in group for b in group if a < b})
    holds = torch.tensor([[len({int(row[i]) for i in group}) == len(group) for group in groups] for row in z])
    if label == 0:
        return (~holds.all(1)).double()[:, None].expand(len(z), z.shape[1])
    touches = torch.tensor([[engine.scope == "global" or i in group for group in groups] for i in range(z.shape[1])])
    satisfied, every = holds.double() @ touches.double().T, touches.sum(1).double()
    if engine.weighting == "exponential":
        return torch.exp(-engine.sharpness * (every - satisfied))
    return torch.where(every > 0, satisfied / every, 1.0) ** engine.sharpness


def limit(problem: em.AllDifferent, engine: em.ABC, logits: Tensor, label: int) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals in the limit of many samples, variance times samples of their estimates, log E[w] of each symbol."""
    z = torch.tensor(list(product(range(problem.cardinality), repeat=problem.n_variables)))
    log_prior = torch.log_softmax(logits[0].double(), -1)
    prior = log_prior.gather(1, z.T).sum(0).exp()
    weight = weights_of_all(problem, engine, z, label)
    has = torch.nn.functional.one_hot(z, problem.cardinality).double()
    mean = (prior[:, None] * weight).sum(0)
    marginals = torch.einsum("m,mn,mnk->nk", prior, weight, has) / mean[:, None]
    variance = torch.einsum("m,mn,mnk->nk", prior, weight**2, (has - marginals) ** 2) / mean[:, None] ** 2
    return marginals, variance, mean.log()


ENGINES = [
    em.ABC(samples=20_000, weighting=weighting, sharpness=sharpness, scope=scope, seed=3)
    for weighting, sharpness in (("fraction", 1.0), ("fraction", 3.0), ("exponential", 1.5), ("exponential", 0.0))
    for scope in ("global", "local")
]


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("constraints", ["groups", "pairs"])
@pytest.mark.parametrize("label", [1, 0])
def test_converges_to_the_weighted_average_over_all_assignments(engine: em.ABC, constraints: str, label: int) -> None:
    problem = small_problem(constraints)
    logits = draw_logits(problem)
    expected, variance, log_mean = limit(problem, engine, logits, label)
    post = em.posterior(problem, logits, torch.tensor([label]), engine)
    error = (post.marginals[0].double() - expected).abs()
    assert (error <= SIGMAS * (variance / engine.samples).sqrt() + 1e-6).all()
    assert abs(post.log_evidence.item() - log_mean.mean().item()) < 0.1


@pytest.mark.parametrize("weighting", ["fraction", "exponential"])
def test_mean_weight_estimates_its_expectation(weighting: str) -> None:
    """Unbiased, so the average over many rows is within five of its own standard errors."""
    problem, rows = small_problem(), 400
    engine = em.ABC(samples=50, weighting=weighting, sharpness=2.0)
    logits = draw_logits(problem)
    post = em.posterior(problem, logits.expand(rows, -1, -1), VALID.expand(rows), engine)
    estimates = post.log_evidence.double().exp()
    expected = limit(problem, engine, logits, 1)[2][0].exp()
    assert abs(estimates.mean() - expected) < SIGMAS * estimates.std() / rows**0.5


def test_rejection_converges_to_the_exact_posterior_of_sudoku() -> None:
    problem = em.Sudoku(4)
    board = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    logits = draw_logits(problem) + 4.0 * torch.nn.functional.one_hot(board, 4)
    samples = 40_000
    post = em.posterior(problem, logits, VALID, em.Rejection(samples))
    exact = em.posterior(problem, logits, VALID, em.Exact())
    evidence, hits = exact.log_evidence.double().exp(), post.info["acceptance"].double() * samples
    assert (hits - evidence * samples).abs() < SIGMAS * (samples * evidence * (1 - evidence)).sqrt()
    q = exact.marginals.double()
    # Rare values have Poisson counts, for which a normal bound needs about one count more.
    assert ((post.marginals - q).abs() <= SIGMAS * (q * (1 - q) / hits).sqrt() + SIGMAS / hits).all()
    torch.testing.assert_close(post.log_evidence, post.info["acceptance"].log())


@pytest.mark.parametrize("engine", [em.Rejection(200_000, seed=1), em.ABC(200_000, sharpness=60.0, seed=1)], ids=str)
def test_addition_converges_to_the_exact_posterior(engine: em.Engine) -> None:
    """A missed digit of three costs a factor (2/3) ** 60 = 3e-11."""
    problem = em.Addition(2)
    logits = draw_logits(problem, sd=2.0)
    label = torch.tensor([[1, 0, 3]])
    exact = em.posterior(problem, logits, label)
    post = em.posterior(problem, logits, label, engine)
    hits = post.info["acceptance"].double() * 200_000
    q = exact.marginals.double()
    assert hits > 1000
    assert ((post.marginals - q).abs() <= SIGMAS * (q * (1 - q) / hits).sqrt() + SIGMAS / hits).all()


def test_closed_form_of_the_fraction_of_pairs() -> None:
    """E[satisfied pairs | z_i = v] is a sum over pairs of 1 - sum_d p(d) p(d), and of 1 - p_j(v) for neighbours j."""
    problem = em.Sudoku(9, constraints="pairs")
    logits = draw_logits(problem, sd=2.0)
    first, second = problem.tables(torch.device("cpu")).pairs
    prior = torch.softmax(logits.double(), -1).view(81, 9)
    differ = 1.0 - (prior[first] * prior[second]).sum(-1)
    touching, own = torch.zeros(81, dtype=torch.float64), torch.zeros(81, 9, dtype=torch.float64)
    for here, there in ((first, second), (second, first)):
        touching.index_add_(0, here, differ)
        own.index_add_(0, here, 1.0 - prior[there])
    expected = prior * (differ.sum() - touching[:, None] + own)
    expected /= expected.sum(-1, keepdim=True)
    samples = 60_000
    post = em.posterior(problem, logits, VALID, em.ABC(samples, sharpness=1.0))
    assert post.info["ess"].item() > 0.99 * samples
    error = (post.marginals.double().view(81, 9) - expected).abs()
    ess = post.info["ess"].double()
    assert (error <= SIGMAS * (expected * (1 - expected) / ess).sqrt() + SIGMAS / ess).all()


def test_variance_falls_as_one_over_the_number_of_samples() -> None:
    """The variance over 500 rows is within 5 standard errors, sqrt(2 / 499) of it each, of that of the limit."""
    problem, rows = small_problem(), 500
    logits = draw_logits(problem)
    for samples in (100, 1600):
        engine = em.ABC(samples, sharpness=2.0, seed=5)
        _, variance, _ = limit(problem, engine, logits, 1)
        post = em.posterior(problem, logits.expand(rows, -1, -1), VALID.expand(rows), engine)
        ratio = post.marginals.double().var(0) * samples / variance
        # The O(1 / S) terms of a self-normalised estimate add about as much at 100 samples.
        assert ((ratio - 1).abs() < SIGMAS * (2 / (rows - 1)) ** 0.5 + 10 / samples).all()


@pytest.mark.parametrize(
    ("problem", "engine"),
    [
        (em.Sudoku(4), em.ABC(samples=37, sharpness=2.0, seed=2**62 + 5)),
        (
            em.Sudoku(4, constraints="pairs"),
            em.ABC(samples=40, weighting="exponential", scope="local", first_row=2**32 - 1),
        ),
        (small_problem(), em.ABC(samples=130, weighting="exponential", sharpness=1e3)),
        (small_problem(), em.ABC(samples=33, target_ess=9.0, scope="local")),
        (small_problem(), em.Rejection(samples=65)),
        (em.Addition(2), em.ABC(samples=50, sharpness=3.0)),
    ],
    ids=str,
)
def test_same_bits_on_every_back_end(backend: Backend, problem: em.Problem, engine: em.Engine) -> None:
    logits = draw_logits(problem, batch=3)
    logits[0].flatten(0, -2)[0, 0] = NEG_INF
    z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, 1, 9, 0, 0)[0]
    label = problem.label(z)
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, engine)
    post = backend.run(em.posterior, problem, logits, label, engine)
    assert torch.equal(post.marginals, expected.marginals)
    assert torch.equal(post.log_evidence, expected.log_evidence)
    assert torch.equal(post.possible, expected.possible)
    assert all(torch.equal(post.info[name], value) for name, value in expected.info.items())


def test_draws_are_the_same_on_every_back_end(backend: Backend) -> None:
    logits = draw_logits(em.BlackBox(label=torch.sum, latent_shape=(3, 3), cardinality=40), batch=2, sd=3.0)
    with em.backend("reference"):
        expected = draw_far_out(logits)
    assert torch.equal(backend.run(draw_far_out, logits), expected)


@pytest.mark.parametrize("problem", [em.Sudoku(9), em.Addition(1)], ids=str)
def test_a_row_depends_on_its_index_and_not_on_its_batch(problem: em.Problem) -> None:
    logits = draw_logits(problem, batch=5)
    label = problem.label(logits.argmax(-1))
    together = em.posterior(problem, logits, label, em.ABC(200))
    for row in range(5):
        alone = em.posterior(problem, logits[row : row + 1], label[row : row + 1], em.ABC(200, first_row=row))
        assert torch.equal(alone.marginals[0], together.marginals[row])
        assert torch.equal(alone.log_evidence[0], together.log_evidence[row])


def test_samples_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[[0.0, 1.0, -2.0, 3.0, NEG_INF]]])
    samples = 100_000
    share = torch.bincount(drawn(logits, samples, 0).flatten(), minlength=5) / samples
    p = torch.softmax(logits[0, 0].double(), -1)
    assert ((share - p).abs() <= SIGMAS * (p * (1 - p) / samples).sqrt()).all()


@pytest.mark.parametrize("value", range(4))
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_hard_zeros_and_certain_values_are_never_missed(value: int, size: float) -> None:
    logits = torch.full((1, 1, 4), NEG_INF)
    logits[..., value] = size
    words = torch.tensor([0, 1, 2**30, 2**31 - 1])
    assert ((words[:, None] > importance.thresholds(logits)[0, 0]).sum(-1) == value).all()


def test_one_sample_is_its_own_posterior() -> None:
    problem = em.Sudoku(9)
    logits = draw_logits(problem, sd=0.1)
    post = em.posterior(problem, logits, VALID, em.ABC(1, weighting="exponential", seed=8))
    assert torch.equal(post.marginals.argmax(-1), drawn(logits, 1, 8)[0])
    assert torch.equal(post.marginals.amax(-1), torch.ones(1, 9, 9))
    assert post.info["ess"].item() == 1.0


@pytest.mark.parametrize("sharpness", [40.0, 1e3, 1e30])
def test_weights_that_underflow_are_relative_to_the_best_sample(sharpness: float) -> None:
    problem = em.Sudoku(9, constraints="pairs")
    logits = draw_logits(problem)
    post = em.posterior(problem, logits, VALID, em.ABC(500, weighting="exponential", sharpness=sharpness))
    z = drawn(logits, 500, 0).flatten(1)
    first, second = problem.tables(torch.device("cpu")).pairs
    violated = (z[:, first] == z[:, second]).sum(1)
    best = z[violated == violated.min()]
    expected = torch.nn.functional.one_hot(best, 9).float().mean(0).view(1, 9, 9, 9)
    torch.testing.assert_close(post.marginals, expected, rtol=0, atol=1e-6)
    assert post.info["ess"].item() == pytest.approx(len(best))
    mean = torch.tensor(len(best) / 500).log().item()
    assert post.log_evidence.item() == pytest.approx(mean - sharpness * int(violated.min()), rel=1e-6)
    assert post.possible.all()


@pytest.mark.parametrize("engine", [em.Rejection(64), em.ABC(64, sharpness=1.0)], ids=str)
def test_without_a_hit_the_posterior_is_the_prior(engine: em.Engine) -> None:
    problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=2)
    logits = torch.tensor([[[0.0, NEG_INF], [1.0, NEG_INF]], [[0.0, 1.0], [1.0, NEG_INF]]])
    post = em.posterior(problem, logits, torch.tensor([1, 1]), engine)
    assert post.possible.tolist() == [False, True]
    assert post.log_evidence[0] == NEG_INF
    assert torch.equal(post.marginals[0], torch.softmax(logits[0], -1))
    assert post.marginals[1].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert post.info["acceptance"][0] == 0.0


def test_rejection_is_reinforce_divided_by_the_evidence() -> None:
    """mean of [hit] d log p(z) / d logits = -(hits / samples) (softmax - q), from the same samples."""
    problem, samples = em.Addition(1), 3000
    logits = draw_logits(problem).double().requires_grad_()
    label = torch.tensor([[0, 9]])
    z = drawn(logits.detach(), samples, 0)[:, 0]
    hit = (problem.label(z) == label).all(-1).double()
    log_p = torch.log_softmax(logits[0], -1).expand(samples, -1, -1, -1).gather(-1, z[..., None]).sum((1, 2, 3))
    (reinforce,) = torch.autograd.grad((hit * log_p).mean(), logits)
    post = em.posterior(problem, logits, label, em.Rejection(samples))
    em_gradient = torch.softmax(logits.detach(), -1) - post.marginals
    torch.testing.assert_close(reinforce, -post.info["acceptance"].double() * em_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weighting", ["fraction", "exponential"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_sharpness_for_a_target_effective_sample_size(weighting: str, scope: str) -> None:
    problem = em.Sudoku(9, constraints="pairs")
    logits = draw_logits(problem, batch=4) * torch.tensor([0.5, 1.0, 2.0, 3.0]).view(4, 1, 1, 1)
    post = em.posterior(problem, logits, VALID.expand(4), em.ABC(1000, weighting, scope=scope, target_ess=100.0))
    torch.testing.assert_close(post.info["ess"], torch.full((4,), 100.0), rtol=1e-3, atol=0)
    assert len(set(post.info["sharpness"].tolist())) == 4
    one = em.ABC(1000, weighting, post.info["sharpness"][2].item(), scope, first_row=2)
    again = em.posterior(problem, logits[2:3], VALID, one)
    torch.testing.assert_close(again.marginals[0], post.marginals[2], rtol=1e-3, atol=1e-5)


def test_given_invalid_valid_samples_are_rejected() -> None:
    problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=2)
    logits = draw_logits(problem, batch=2)
    post = em.posterior(problem, logits, torch.tensor([0, 0]), em.ABC(500, seed=4))
    z = drawn(logits, 500, 4)
    kept = z[:, 0, 0] == z[:, 0, 1]
    assert post.marginals[0, 0, 1].item() == pytest.approx(z[kept][:, 0, 0].double().mean().item())
    assert post.info["acceptance"][0].item() == pytest.approx(kept.double().mean().item())
    assert post.info["ess"][0].item() == kept.sum().item()


def test_more_values_than_the_fused_kernels_take() -> None:
    problem = em.AllDifferent([(0, 1), (1, 2)], n_variables=3, cardinality=20)
    logits = draw_logits(problem, batch=2)
    label = torch.tensor([1, 0])
    engine = em.ABC(4000, weighting="exponential", sharpness=3.0)
    post = em.posterior(problem, logits, label, engine)
    z = drawn(logits, 4000, 0)
    violated = (z[..., 0] == z[..., 1]).double() + (z[..., 1] == z[..., 2])
    weight = torch.stack([torch.exp(-3.0 * violated[:, 0]), (violated[:, 1] > 0).double()], 1)
    has = torch.nn.functional.one_hot(z, 20).double()
    expected = torch.einsum("sb,sbnk->bnk", weight, has) / weight.sum(0)[:, None, None]
    torch.testing.assert_close(post.marginals.double(), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="16 values"):
        em.posterior(problem, logits, label, em.ABC(scope="local"))


def sampling_peaks() -> list[int | None]:
    torch.set_num_threads(1)
    problem = em.Sudoku(9)
    logits = draw_logits(problem, batch=4)
    return [
        peak_bytes(lambda: em.posterior(problem, logits, VALID.expand(4), em.ABC(samples)), torch.device("cpu"))  # noqa: B023
        for samples in (256, 256, 65_536)
    ]


def test_memory_does_not_grow_with_the_samples() -> None:
    """2 MB would be four rows of 65,536 samples at half a bit a symbol."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        _, few, many = pool.apply(sampling_peaks)
    if few is None:
        pytest.skip("peak memory cannot be read here")
    assert many < few + (1 << 19)
    assert many < 1 << 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples"),
        ({"weighting": "gaussian"}, "weighting"),
        ({"scope": "row"}, "scope"),
        ({"sharpness": -1.0}, "sharpness"),
        ({"sharpness": float("inf")}, "sharpness"),
        ({"target_ess": 0.0}, "target_ess"),
        ({"target_ess": 2000.0}, "target_ess"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        em.ABC(**arguments)


def test_inputs_without_a_posterior() -> None:
    problem = em.Sudoku(4)
    logits = draw_logits(problem, batch=2)
    with pytest.raises(ValueError, match="label"):
        em.posterior(problem, logits, torch.tensor([1, 2]), em.ABC())
    logits[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"logits\[1"):
        em.posterior(problem, logits, torch.tensor([1, 1]), em.ABC())
    post = em.posterior(problem, logits, torch.tensor([1, 1]), em.ABC(100), check=False)
    alone = em.posterior(problem, logits[:1], torch.tensor([1]), em.ABC(100))
    assert post.possible.tolist() == [True, False]
    assert torch.equal(post.marginals[0], alone.marginals[0])
    with pytest.raises(ValueError, match="scope"):
        em.posterior(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]), em.ABC(scope="local"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_and_an_empty_batch(dtype: torch.dtype) -> None:
    problem = em.Sudoku(4)
    logits = draw_logits(problem, batch=2).to(dtype)
    post = em.posterior(problem, logits, VALID.expand(2), em.ABC(100))
    wide = em.posterior(problem, logits.double(), VALID.expand(2), em.ABC(100))
    assert post.marginals.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(post.marginals.double(), wide.marginals, rtol=1e-6, atol=0)
    for none in (em.ABC(10), em.Rejection(10)):
        assert em.posterior(problem, logits[:0], VALID[:0], none).marginals.shape == (0, 4, 4, 4)
        empty = em.posterior(em.Addition(1), torch.zeros(0, 2, 1, 10), torch.zeros(0, 2, dtype=torch.int64), none)
        assert empty.marginals.shape == (0, 2, 1, 10)


@pytest.mark.parametrize(
    "engine", [em.ABC(60, "exponential"), em.ABC(60, scope="local", target_ess=9.0), em.Rejection(60), em.Gibbs(2, 4)]
)
def test_inside_a_compiled_graph(engine: em.Engine) -> None:
    problem = em.Sudoku(4)
    logits, label = draw_logits(problem, batch=3), torch.tensor([1, 0, 1])

    def marginals(logits: Tensor, label: Tensor) -> Tensor:
        return em.posterior(problem, logits, label, engine).marginals

    compiled = torch.compile(marginals, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(logits, label), marginals(logits, label))


def test_the_earlier_name_of_the_weighting_still_works() -> None:
    engine = em.ABC(kernel="exponential", seed=3)
    assert engine == em.ABC(weighting="exponential", seed=3)
    assert engine.kernel == "exponential"
    assert replace(engine, seed=4) == em.ABC(weighting="exponential", seed=4)
    with pytest.raises(TypeError, match="kernel is the earlier name of weighting"):
        em.ABC(weighting="fraction", kernel="exponential")
