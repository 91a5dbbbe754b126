"""Gibbs chains: against enumeration of the tempered distribution with standard errors over independent rows."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.annealing import annealed_factors
from emnesy_gpu.reference import gibbs
from tests.backends import Backend
from tests.test_abc import draw_logits, small_problem

NEG_INF = float("-inf")
SIGMAS = 5.0
CPU = torch.device("cpu")


def tempered(problem: em.AllDifferent, logits: Tensor, penalty: float) -> tuple[Tensor, float]:
    """Marginals of prior(z) exp(-penalty * conflicts), and the prior mean of that factor, over all assignments."""
    z = torch.tensor(list(product(range(problem.cardinality), repeat=problem.n_variables)))
    prior = torch.log_softmax(logits[0].double(), -1).gather(1, z.T).sum(0).exp()
    pairs = [(a, b) for group in problem.groups for a in group for b in group if a < b]
    conflicts = sum((z[:, a] == z[:, b]).double() for a, b in pairs)
    weight = prior * torch.exp(-penalty * conflicts)
    has = torch.nn.functional.one_hot(z, problem.cardinality).double()
    return torch.einsum("m,mnk->nk", weight, has) / weight.sum(), float(weight.sum())


@pytest.mark.parametrize("penalty", [0.5, 2.0])
def test_converges_to_the_tempered_distribution(penalty: float) -> None:
    problem, rows = small_problem(), 800
    logits = draw_logits(problem)
    engine = em.Gibbs(chains=1, sweeps=60, penalty=penalty, seed=1)
    post = em.posterior(problem, logits.expand(rows, -1, -1), torch.ones(rows, dtype=torch.int64), engine)
    expected, _ = tempered(problem, logits, penalty)
    estimates = post.marginals.double()
    assert ((estimates.mean(0) - expected).abs() <= SIGMAS * estimates.std(0) / rows**0.5 + 1e-6).all()


@pytest.mark.parametrize(("chains", "sweeps"), [(1, 1), (1, 20), (4, 6)])
def test_annealed_importance_sampling_is_unbiased(chains: int, sweeps: int) -> None:
    problem, rows = small_problem(), 2000
    logits = draw_logits(problem)
    engine = em.Gibbs(chains, sweeps, penalty=1.5, seed=2)
    post = em.posterior(problem, logits.expand(rows, -1, -1), torch.ones(rows, dtype=torch.int64), engine)
    estimates = post.log_evidence.double().exp()
    assert abs(estimates.mean() - tempered(problem, logits, 1.5)[1]) < SIGMAS * estimates.std() / rows**0.5


def test_approaches_the_exact_posterior_of_sudoku() -> None:
    """What is left at penalty 4 is the weight of boards with conflicts, exp(-8) at least for two of them."""
    problem, rows = em.Sudoku(4), 64
    board = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    logits = draw_logits(problem) + 2.0 * torch.nn.functional.one_hot(board, 4)
    exact = em.posterior(problem, logits, torch.tensor([1]))
    many = em.Gibbs(chains=8, sweeps=200, penalty=4.0)
    post = em.posterior(problem, logits.expand(rows, -1, -1, -1), torch.ones(rows, dtype=torch.int64), many)
    error = (post.marginals.double().mean(0) - exact.marginals[0]).abs()
    assert (error <= SIGMAS * post.marginals.double().std(0) / rows**0.5 + 0.01).all()
    assert post.info["satisfied"].mean() > 0.9
    assert abs(post.log_evidence.double().exp().mean().log() - exact.log_evidence[0]) < 0.1


def test_reads_boards_that_the_net_reads_badly() -> None:
    """9x9, 7 of 10 cells right before: Gibbs with 8 chains of 20 sweeps gets nearly all of them."""
    problem = em.Sudoku(9)
    cells = [(row // 3 + 3 * row + column) % 9 for row in range(9) for column in range(9)]
    board = torch.tensor(cells).view(9, 9)
    logits = draw_logits(problem, batch=16) + 2.0 * torch.nn.functional.one_hot(board, 9)
    post = em.posterior(problem, logits, torch.ones(16, dtype=torch.int64), em.Gibbs(chains=8, sweeps=20))
    before, after = ((x.argmax(-1) == board).double().mean().item() for x in (logits, post.marginals))
    assert before < 0.75
    assert after > 0.95


CASES = [
    (em.Sudoku(4), em.Gibbs(chains=3, sweeps=2, seed=2**62 + 5, first_row=2**32 - 1)),
    (small_problem(), em.Gibbs(chains=2, sweeps=4, penalty=50.0)),
    (small_problem(), em.Gibbs(chains=1, sweeps=1)),
    (em.AllDifferent([(0, 1), (1, 2)], 3, 20), em.Gibbs(chains=2, sweeps=3)),
]


@pytest.mark.parametrize(("problem", "engine"), CASES, ids=str)
def test_same_chains_on_every_back_end(backend: Backend, problem: em.AllDifferent, engine: em.Gibbs) -> None:
    """The states are equal to the bit; the marginals up to the order in which a few float32 are added."""
    logits = draw_logits(problem, batch=3)
    logits[0].flatten(0, -2)[0, 0] = NEG_INF
    label = torch.tensor([1, 0, 1])
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, engine)
    post = backend.run(em.posterior, problem, logits, label, engine)
    torch.testing.assert_close(post.marginals, expected.marginals, rtol=1e-5, atol=1e-7)
    assert torch.equal(post.log_evidence, expected.log_evidence)
    assert torch.equal(post.info["satisfied"], expected.info["satisfied"])


def test_more_conflicts_than_a_table_in_registers_has_entries() -> None:
    problem, label = em.AllDifferent([range(36)], 36, 36), torch.tensor([1, 1])
    logits, engine = draw_logits(problem, batch=2, sd=5.0), em.Gibbs(chains=2, sweeps=2)
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, engine)
    post = em.posterior(problem, logits, label, engine)
    torch.testing.assert_close(post.marginals, expected.marginals, rtol=1e-5, atol=1e-7)
    assert torch.equal(post.log_evidence, expected.log_evidence)


def chain_steps(logits: Tensor, label: Tensor, factors: Tensor, memberships: Tensor) -> tuple[Tensor, ...]:
    """Marginals, log evidence, share of satisfied chains and status, of 5 chains whose 3 last sweeps are recorded."""
    return kernels_for("gibbs", logits.device).posterior(logits, label, factors, memberships, 3, 5, 3, 11, 7, 0.4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_of_all_kinds_are_those_of_the_specification(dtype: torch.dtype) -> None:
    problem = small_problem()
    logits = (draw_logits(problem, batch=60) * 20).to(dtype)
    logits[0, 0], logits[1, 1, 1], logits[2, 2, 2], logits[3, 0, :2] = NEG_INF, math.nan, math.inf, NEG_INF
    label = torch.arange(60) % 4 - 1
    tables = problem._score_tables_on(CPU)
    factors = annealed_factors(6, 3, 2.0, tables.most_conflicts, CPU)
    with em.backend("reference"):
        expected = chain_steps(logits, label, factors, tables.memberships)
    found = chain_steps(logits, label, factors, tables.memberships)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert torch.equal(found[2], expected[2])
    assert torch.equal(found[3], expected[3])


@pytest.mark.parametrize("backend", ["interpreter", pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)
def test_final_states_are_equal_to_the_bit(backend: Backend) -> None:
    problem = small_problem()
    prior, _ = gibbs.prior(draw_logits(problem, batch=2), None)
    tables = problem._score_tables_on(CPU)
    factors, memberships = annealed_factors(6, 3, 2.0, tables.most_conflicts, CPU), tables.memberships
    with em.backend("reference"):
        expected = run_chains(prior, factors, memberships)
    found = backend.run(run_chains, prior, factors, memberships)
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[2], expected[2])


def run_chains(prior: Tensor, factors: Tensor, memberships: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return kernels_for("gibbs", prior.device).run(prior, factors, memberships, 3, 5, 3, 11, 7)


@pytest.mark.parametrize("chains", [1, 5, 40])
def test_a_row_depends_on_its_index_and_not_on_its_batch(chains: int) -> None:
    problem = em.Sudoku(4)
    logits = draw_logits(problem, batch=7)
    label = torch.ones(7, dtype=torch.int64)
    together = em.posterior(problem, logits, label, em.Gibbs(chains, 6))
    for row in range(7):
        alone = em.posterior(problem, logits[row : row + 1], label[:1], em.Gibbs(chains, 6, first_row=row))
        assert torch.equal(alone.marginals[0], together.marginals[row])
        assert torch.equal(alone.log_evidence[0], together.log_evidence[row])


def test_without_a_penalty_the_conditionals_are_the_prior() -> None:
    logits = draw_logits(small_problem(), batch=2, sd=3.0)
    post = em.posterior(small_problem(), logits, torch.tensor([1, 1]), em.Gibbs(2, 4, penalty=0.0))
    torch.testing.assert_close(post.marginals, torch.softmax(logits, -1), rtol=1e-5, atol=1e-7)
    assert post.log_evidence.tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_hard_zeros_stay_zero(size: float) -> None:
    problem = small_problem()
    logits = size * draw_logits(problem, batch=4)
    logits[:, 0, 2], logits[:, 1, :2] = NEG_INF, NEG_INF
    post = em.posterior(problem, logits, torch.ones(4, dtype=torch.int64), em.Gibbs(4, 10))
    assert (post.marginals[:, 0, 2] == 0).all()
    assert (post.marginals[:, 1, 2] == 1).all()
    torch.testing.assert_close(post.marginals.sum(-1), torch.ones(4, 6))


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    logits = draw_logits(small_problem(), batch=2).double()
    one, other = (
        em.posterior(small_problem(), logits + shift, torch.tensor([1, 1]), em.Gibbs(2, 6)) for shift in (0.0, 64.0)
    )
    torch.testing.assert_close(one.marginals, other.marginals)


def test_given_invalid_the_posterior_is_what_valid_boards_leave() -> None:
    problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=2)
    logits = draw_logits(problem, batch=300)
    exact = em.posterior(problem, logits, torch.zeros(300, dtype=torch.int64))
    post = em.posterior(problem, logits, torch.zeros(300, dtype=torch.int64), em.Gibbs(64, 40, penalty=8.0))
    assert (post.marginals - exact.marginals).abs().mean() < 0.05
    assert (post.log_evidence.exp() - exact.log_evidence.exp()).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chains": 0}, "chains"),
        ({"sweeps": 0}, "sweeps"),
        ({"sweeps": 65_536}, "sweeps"),
        ({"penalty": -1.0}, "penalty"),
        ({"penalty": math.inf}, "penalty"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        em.Gibbs(**arguments)


def test_inputs_without_a_posterior() -> None:
    logits = draw_logits(small_problem(), batch=2)
    logits[1, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"logits\[1"):
        em.posterior(small_problem(), logits, torch.tensor([1, 1]), em.Gibbs())
    post = em.posterior(small_problem(), logits, torch.tensor([1, 7]), em.Gibbs(2, 4), check=False)
    alone = em.posterior(small_problem(), logits[:1], torch.tensor([1]), em.Gibbs(2, 4))
    assert post.possible.tolist() == [True, False]
    assert torch.equal(post.marginals[0], alone.marginals[0])


def test_an_empty_batch() -> None:
    label = torch.zeros(0, dtype=torch.int64)
    assert em.posterior(small_problem(), torch.zeros(0, 6, 3), label, em.Gibbs()).marginals.shape == (0, 6, 3)
