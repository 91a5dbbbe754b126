"""What functions that are too large to try all assignments are refused, and which engine they are given."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.errors import UnsupportedInference
from tests.black_box_engines import READS, TASKS, variations

REMEDY = r"about 1e8 assignments, and at most 65536 are tried.*em\.Automaton.*em\.Gibbs\(\)"


def no_function(z: Tensor) -> Tensor:
    raise AssertionError("a function of 10^8 assignments is not tried")


def large() -> em.BlackBox:
    return em.BlackBox(label=no_function, latent_shape=(8,), cardinality=10)


@pytest.mark.parametrize(
    "call",
    [
        lambda *row: em.fused_em_loss(*row),
        lambda *row: em.sample_posterior(*row, n_samples=2, seed=0),
        lambda problem, *row: problem.exact_marginals(*row, True),
        lambda problem, *row: problem.map_assignment(*row, True),
    ],
    ids=["fused_em_loss", "sample_posterior", "exact_marginals", "map_assignment"],
)
def test_too_many_assignments_are_refused_with_the_limit_and_a_remedy(call) -> None:
    with pytest.raises(UnsupportedInference, match=REMEDY):
        call(large(), torch.zeros(1, 8, 10), torch.tensor([3]))


@pytest.mark.parametrize("engine", [em.Exact(), em.MAP()], ids=str)
def test_engines_that_try_all_assignments_say_why_they_do_not(engine: em.Engine) -> None:
    with pytest.raises(em.UnsupportedEngineError, match=REMEDY):
        em.posterior(large(), torch.zeros(1, 8, 10), torch.tensor([3]), engine)


def test_symbols_that_nobody_counts_have_no_limit() -> None:
    many = em.BlackBox(label=no_function, latent_shape=(10**5,), cardinality=3)
    assert not many.tractable
    assert em.BlackBox(label=no_function, latent_shape=(16,), cardinality=2).limit == ""


class Coin(em.Problem):
    """Heads (1) or tails, with exact marginals and nothing else."""

    latent_shape, cardinality, label_shape = (1,), 2, ()

    def label(self, z: Tensor) -> Tensor:
        return z[..., 0]

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> em.Marginals:
        prior = logits.softmax(-1)
        evidence = prior[:, 0].gather(1, label[:, None].clamp(0, 1))[:, 0] * (label < 2)
        one_hot = torch.nn.functional.one_hot(label.clamp(0, 1), 2)[:, None].to(prior)
        possible = evidence > 0
        return em.Marginals(torch.where(possible[:, None, None], one_hot, prior), evidence.log(), possible)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_exact_marginals_are_enough_for_the_fused_loss(reduction: str) -> None:
    logits = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label = torch.tensor([0, 1, 2])
    loss = em.fused_em_loss(Coin(), logits, label, reduction)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    known = -torch.log_softmax(logits[:2, 0], -1).gather(1, label[:2, None]).sum()
    (expected,) = torch.autograd.grad(known, logits)
    torch.testing.assert_close(gradient, expected / (3 if reduction == "mean" else 1))
    assert (gradient[2] == 0).all()
    assert loss.flatten()[-1] == float("inf")


class LargeCoin(Coin):
    tractable = False


class Opaque(em.Problem):
    latent_shape, cardinality, label_shape = (1,), 2, ()


@pytest.mark.parametrize("problem", [LargeCoin(), Opaque()])
def test_problems_without_exact_inference_have_no_fused_loss_or_samples(problem: em.Problem) -> None:
    row = torch.zeros(1, 1, 2), torch.tensor([0])
    with pytest.raises(UnsupportedInference, match=r"no exact EM gradient.*Give an engine"):
        em.fused_em_loss(problem, *row)
    with pytest.raises(UnsupportedInference, match=r"no exact samples: use the marginals of em\.posterior"):
        em.sample_posterior(problem, *row, n_samples=1, seed=0)


def bits(n: int) -> em.BlackBox:
    """Whether all of n bits are 1."""
    return em.BlackBox(label=lambda z: z.all(-1), latent_shape=(n,), cardinality=2)


def parts(n: int) -> em.BlackBox:
    """How many of n bits are 1, as n constraints of which a sample satisfies half."""
    return em.BlackBox(lambda z, y: z.sum(-1) + y[None] * 0, latent_shape=(n,), cardinality=2, n_constraints=n)


@pytest.mark.parametrize(
    ("problem", "engine", "reason"),
    [
        (bits(40), None, "no sample counts in 4 of 4 rows"),
        (bits(40), em.Rejection(100), "no sample counts in 4 of 4 rows"),
        (parts(200), em.ABC(200), "nearly all of 200 samples weigh the same in 4 of 4 rows"),
        (bits(20), em.Gibbs(4, 4), "no change of one symbol settles a conflict that counts in 4 of 4 rows"),
    ],
    ids=["default", "rejection", "flat weights", "chains"],
)
def test_samples_that_say_nothing_warn_once(problem: em.BlackBox, engine: em.Engine | None, reason: str) -> None:
    row = torch.zeros(4, *problem.latent_shape, 2), torch.ones(4, dtype=torch.int64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            em.posterior(problem, *row, engine)
    (warning,) = [one for one in caught if one.category is em.InferenceWarning]
    assert reason in str(warning.message)
    assert warning.filename == __file__


def test_samples_that_say_something_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", em.InferenceWarning)
        em.posterior(bits(20), torch.full((4, 20, 2), 0.0), torch.tensor([0, 0, 0, 1]))  # most rows are explained
        em.posterior(bits(20), torch.zeros(4, 20, 2), torch.ones(4, dtype=torch.int64), em.Rejection(9), check=False)
        em.posterior(bits(20), torch.zeros(0, 20, 2), torch.zeros(0, dtype=torch.int64))
        em.posterior(bits(3), torch.zeros(1, 3, 2), torch.tensor([2]))  # exact: an impossible label is an answer
        em.posterior(bits(20), torch.zeros(4, 20, 2), torch.zeros(4, dtype=torch.int64), em.Gibbs(2, 4))  # no bit alone
        em.posterior(em.Addition(4), torch.zeros(2, 2, 4, 10), torch.full((2, 5), 1), em.Gibbs(2, 4))


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("rule", ["parity of 12 bits", "exactly 5 of 16", "0*1+2*, 10 symbols"])
@pytest.mark.parametrize("how_much", READS)
def test_the_default_engine_is_closer_to_the_posterior_than_the_earlier_one(rule: str, how_much: str) -> None:
    found = variations(TASKS[rule], how_much, rows=6)
    assert found["default"] < 0.8 * found["em.ABC()"]
    assert found["default"] < found["em.Gibbs()"]


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("how_much", ["half", "most"])
def test_the_default_engine_reads_a_row_of_kakuro(how_much: str) -> None:
    found = variations(TASKS["Kakuro, 5 cells"], how_much, rows=6)
    assert found["default"] < 0.7 * min(found["the prior"], found["em.ABC()"])
