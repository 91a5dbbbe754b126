"""Sudoku and all-different groups on every back end: enumeration, then the float64 reference, then properties."""

from __future__ import annotations

from itertools import permutations, product

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import emnesy_gpu as em
from tests.boards import PUZZLES, filled_board, parse_puzzle, soft_logits

VALID, INVALID = 1, 0
BP = em.BeliefPropagation


def labels(batch: int, value: int) -> Tensor:
    return torch.full((batch,), value)


def all_assignments(problem: em.AllDifferent) -> Tensor:
    return torch.tensor(list(product(range(problem.cardinality), repeat=problem.n_variables)))


def enumerated(problem: em.AllDifferent, logits: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Marginals and log evidence in float64 by a sum over every assignment that has the label."""
    symbols = logits.flatten(1, -2).double()
    z = all_assignments(problem)
    z = z[problem.label(z.view(-1, *problem.latent_shape)) == label]
    log_prior = torch.log_softmax(symbols, -1)
    log_p = sum(log_prior[:, i, z[:, i]] for i in range(problem.n_variables))
    weights = torch.softmax(log_p, -1)
    one_hot = torch.nn.functional.one_hot(z, problem.cardinality).double()
    marginals = torch.einsum("bm,mnk->bnk", weights, one_hot)
    return marginals.view(logits.shape), torch.logsumexp(log_p, -1)


SMALL = {
    "permutation": em.AllDifferent([(0, 1, 2, 3)], 4, 4),
    "latin square": em.AllDifferent([(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8)], 9, 3),
    "colouring": em.AllDifferent([(0, 1), (1, 2), (2, 3), (3, 0)], 5, 3),
    "more values than members": em.AllDifferent([(0, 1, 2), (2, 3)], 4, 5),
}
TREES = {
    "one group": em.AllDifferent([(0, 1, 2, 3)], 4, 4),
    "chain": em.AllDifferent([(0, 1, 2), (2, 3), (3, 4, 5)], 7, 4),
    "star": em.AllDifferent([(0, 1), (0, 2), (0, 3)], 4, 3),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("label", [VALID, INVALID])
def test_exact_equals_enumeration(backend, name: str, label: int) -> None:
    problem = SMALL[name]
    logits = 2 * torch.randn(3, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    post = backend.run(em.posterior, problem, logits, labels(3, label), em.Exact())
    marginals, log_evidence = enumerated(problem, logits, label)
    torch.testing.assert_close(post.marginals.double(), marginals, atol=1e-6, rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, atol=1e-5, rtol=1e-6)
    assert post.possible.all()


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("factors", ["all_different", "pairwise"])
def test_messages_are_exact_on_trees(backend, name: str, factors: str) -> None:
    problem = TREES[name]
    if factors == "pairwise" and name != "star":
        pytest.skip("pairs within a group of three form a cycle")
    logits = 2 * torch.randn(3, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(1))
    engine = BP(iterations=8, factors=factors)
    post = backend.run(em.posterior, problem, logits, labels(3, VALID), engine)
    marginals, log_evidence = enumerated(problem, logits, VALID)
    torch.testing.assert_close(post.marginals.double(), marginals, atol=2e-6, rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, atol=1e-5, rtol=1e-6)


ENGINES = {
    "serial": BP(iterations=3),
    "damped flooding": BP(iterations=3, damping=0.5, schedule="flooding"),
    "tolerance": BP(iterations=20, tolerance=1e-2),
    "pairwise": BP(iterations=3, factors="pairwise"),
    "pairwise flooding": BP(iterations=3, damping=0.3, schedule="flooding", factors="pairwise"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [4, 9])
def test_belief_propagation_equals_the_reference(backend, engine: str, size: int) -> None:
    if size == 9 and backend.name == "interpreter":
        pytest.skip("minutes a board; the simulator runs the kernels at this size")
    problem, batch = em.Sudoku(size), 3 if size == 4 else 2
    z = filled_board(size).expand(batch, -1, -1)
    logits = soft_logits(z, gain=1.5, seed=0)
    label = labels(batch, VALID)
    post = backend.run(em.posterior, problem, logits, label, ENGINES[engine])
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label, ENGINES[engine])
    # Messages of a soft 9x9 board amplify float32 rounding by about a hundred in three sweeps.
    torch.testing.assert_close(post.marginals.double(), expected.marginals, atol=3e-5, rtol=0)
    torch.testing.assert_close(post.log_evidence.double(), expected.log_evidence, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(post.info["change"].double(), expected.info["change"], atol=3e-5, rtol=1e-3)
    assert torch.equal(post.info["iterations"], expected.info["iterations"])
    assert post.possible.all()


@pytest.mark.parametrize(("gain", "bound"), [(1.0, 0.25), (2.0, 0.02), (4.0, 1e-3)])
def test_total_variation_of_beliefs_on_4x4(gain: float, bound: float) -> None:
    """Loopy beliefs against the exact posterior: about .19, .012 and below 1e-4 at these priors."""
    problem, z = em.Sudoku(4), filled_board(4).expand(256, -1, -1)
    logits = soft_logits(z, gain, seed=3)
    exact = em.posterior(problem, logits, labels(256, VALID), em.Exact()).marginals
    loopy = em.posterior(problem, logits, labels(256, VALID), BP(iterations=20)).marginals
    assert (exact - loopy).abs().sum(-1).mean() / 2 < bound


def test_a_prior_of_070_becomes_099_in_five_sweeps() -> None:
    problem, z = em.Sudoku(9), filled_board(9).expand(64, -1, -1)
    logits = soft_logits(z, gain=2.0, seed=4)
    post = em.posterior(problem, logits, labels(64, VALID), BP(iterations=5))
    assert 0.65 < (logits.argmax(-1) == z).float().mean() < 0.75
    assert (post.marginals.argmax(-1) == z).float().mean() >= 0.99


@pytest.mark.parametrize("size", [4, 9])
def test_symmetries(size: int) -> None:
    """Relabelling symbols, exchanging bands and transposing permutes the marginals.

    The order in which a serial sweep takes rows and columns is not symmetric: beliefs are compared after convergence.
    """
    problem, side = em.Sudoku(size), int(size**0.5)
    logits = soft_logits(filled_board(size)[None], gain=3.0, seed=5)
    engine = None if size == 4 else BP(iterations=60, tolerance=1e-7)
    marginals = em.posterior(problem, logits, labels(1, VALID), engine).marginals
    relabelled = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    bands = torch.arange(size).view(side, side).flip(0).flatten()
    moves = [lambda x: x[..., relabelled], lambda x: x[:, bands], lambda x: x.transpose(1, 2)]
    for move in moves:
        moved = em.posterior(problem, move(logits), labels(1, VALID), engine).marginals
        torch.testing.assert_close(moved, move(marginals), atol=2e-5, rtol=0)


def test_rows_do_not_depend_on_their_batch(backend) -> None:
    rows = 5 if backend.name == "interpreter" else 19  # a program of a Triton kernel has one board
    for problem, engine in ((em.Sudoku(4), None), (em.Sudoku(4), BP(iterations=2))):
        logits = soft_logits(filled_board(4).expand(rows, -1, -1), gain=1.0, seed=6)
        label = torch.arange(rows) % 2
        batch = backend.run(em.posterior, problem, logits, label, engine)
        for row in (0, rows // 2, rows - 1):
            one = backend.run(em.posterior, problem, logits[row : row + 1], label[row : row + 1], engine)
            assert torch.equal(one.marginals[0], batch.marginals[row])
            assert torch.equal(one.log_evidence[0], batch.log_evidence[row])


def hard(logits: Tensor, cells: dict[tuple[int, int], int]) -> Tensor:
    """Hard zeros: cells [row, column] whose symbol is given."""
    logits = logits.clone()
    for (row, column), symbol in cells.items():
        given_logits = torch.full(logits.shape[-1:], float("-inf"))
        given_logits[symbol] = 0.5
        logits[:, row, column] = given_logits
    return logits


@pytest.mark.parametrize("engine", [None, BP(), BP(factors="pairwise")], ids=["default", "groups", "pairs"])
@pytest.mark.parametrize("size", [4, 9])
def test_contradictory_givens_are_impossible(backend, engine, size: int) -> None:
    if size == 9 and backend.name == "interpreter":
        pytest.skip("size 4 takes the same branches in a tenth of the time")
    logits = torch.randn(2, size, size, size, generator=torch.Generator().manual_seed(7))
    logits[1] = hard(logits[1:], {(0, 0): 1, (0, 2): 1})[0]
    post = backend.run(em.posterior, em.Sudoku(size), logits, labels(2, VALID), engine)
    assert post.possible.tolist() == [True, False]
    assert post.log_evidence[1] == float("-inf")
    torch.testing.assert_close(post.marginals[1], torch.softmax(logits[1], -1))
    assert post.marginals.isfinite().all()


def test_hard_zeros_are_kept(backend) -> None:
    logits = hard(torch.zeros(1, 4, 4, 4), {(0, 0): 0, (0, 1): 1, (1, 0): 2})
    for engine in (em.Exact(), BP(iterations=10)):
        post = backend.run(em.posterior, em.Sudoku(4), logits, labels(1, VALID), engine)
        assert post.marginals[0, 1, 1, 3] == pytest.approx(1.0, abs=1e-6)
        assert post.marginals[0, 0, 0].tolist() == [pytest.approx(1.0, abs=1e-6), 0.0, 0.0, 0.0]


def test_extreme_logits(backend) -> None:
    problem, deviations = em.Sudoku(4), torch.tensor([30.0, 1e3, 1e4])
    drawn = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(8))
    logits = (deviations.view(3, 1, 1, 1, 1) * drawn).flatten(0, 1)
    for engine in (em.Exact(), BP(iterations=4)):
        post = backend.run(em.posterior, problem, logits, labels(6, VALID), engine)
        with em.backend("reference"):
            expected = em.posterior(problem, logits.double(), labels(6, VALID), engine)
        assert post.possible.all()
        torch.testing.assert_close(post.log_evidence.double(), expected.log_evidence, atol=1e-4, rtol=1e-5)
        # A logit of size L is known to L * 2^-24; sixteen of them add up in the weight of a board.
        known = 16 * logits.abs().amax((1, 2, 3)) * 2.0**-24
        distance = (post.marginals.double() - expected.marginals).abs().amax((1, 2, 3))
        assert (distance <= 1e-5 + known).all()


def test_invalid_boards_with_negligible_evidence_get_the_prior(backend) -> None:
    size = 4 if backend.name == "interpreter" else 9
    logits = (
        torch.zeros(1, size, size, size)
        if size == 9
        else 12.0 * torch.eye(4).view(1, 1, 1, 16)[..., :4].expand(1, 4, 4, 4)
    )
    post = backend.run(em.posterior, em.Sudoku(size), logits, labels(1, INVALID), BP())
    torch.testing.assert_close(post.marginals, torch.softmax(logits, -1))
    assert post.log_evidence[0] == pytest.approx(0.0, abs=1e-6)
    assert post.possible.all()
    assert post.info["iterations"].tolist() == [0]


def test_a_board_known_to_be_valid_cannot_be_invalid(backend) -> None:
    z = filled_board(4)
    logits = torch.where(torch.nn.functional.one_hot(z, 4) == 1, 0.0, float("-inf"))[None]
    post = backend.run(em.posterior, em.Sudoku(4), logits, labels(1, INVALID))
    assert not post.possible.any()
    assert torch.equal(post.marginals, torch.softmax(logits, -1))


@pytest.mark.parametrize("label", [VALID, INVALID])
@pytest.mark.parametrize("name", SMALL)
def test_map_equals_enumeration(backend, name: str, label: int) -> None:
    problem = SMALL[name]
    logits = torch.randn(5, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(9))
    post = backend.run(em.posterior, problem, logits, labels(5, label), em.MAP())
    z = all_assignments(problem)
    z = z[problem.label(z) == label]
    log_prior = torch.log_softmax(logits.double(), -1)
    best, index = sum(log_prior[:, i, z[:, i]] for i in range(problem.n_variables)).max(1)
    assert torch.equal(post.info["assignment"], z[index])
    assert post.info["valid"].all()
    torch.testing.assert_close(post.log_evidence.double(), best, atol=1e-5, rtol=1e-6)


def test_decimation_finds_the_board_behind_soft_logits() -> None:
    problem, z = em.Sudoku(9), filled_board(9).expand(8, -1, -1)
    post = em.posterior(problem, soft_logits(z, gain=2.5, seed=10), labels(8, VALID), em.MAP())
    assert post.info["valid"].all()
    assert torch.equal(problem.label(post.info["assignment"]), labels(8, 1))


@pytest.mark.parametrize("puzzle", PUZZLES)
def test_easy_printed_puzzles_are_solved(puzzle: str) -> None:
    logits = parse_puzzle(puzzle)
    post = em.posterior(em.Sudoku(9), logits, labels(1, VALID), em.MAP())
    assert post.info["valid"].all()
    assert (torch.softmax(logits, -1).gather(-1, post.info["assignment"][..., None]) > 0).all()


def test_samples_follow_the_exact_posterior(backend) -> None:
    problem, n_samples = em.Sudoku(4), 300
    logits = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(11))
    z = backend.run(em.sample_posterior, problem, logits, labels(2, VALID), n_samples, seed=5)
    assert (problem.label(z) == VALID).all()
    marginals = em.posterior(problem, logits, labels(2, VALID)).marginals
    frequency = torch.nn.functional.one_hot(z, 4).float().mean(0)
    sd = (marginals * (1 - marginals) / n_samples).sqrt()
    assert ((frequency - marginals).abs() <= 5 * sd + 1e-6).all()
    part = backend.run(em.sample_posterior, problem, logits[1:], labels(1, VALID), 7, seed=5, first_row=1)
    assert torch.equal(part[:, 0], z[:7, 1])


@pytest.mark.parametrize("name", ["permutation", "latin square"])
def test_samples_given_invalid(name: str) -> None:
    """Frequencies of single values and of pairs of values, within five standard errors of enumeration."""
    problem, n_samples = SMALL[name], 2000
    logits = torch.randn(1, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(15))
    logits += 2.0 * torch.nn.functional.one_hot(
        problem.tables(logits.device).assignments[:1].long(), problem.cardinality
    )
    z = em.sample_posterior(problem, logits, labels(1, INVALID), n_samples, seed=3)[:, 0]
    assert (problem.label(z) == INVALID).all()
    every = all_assignments(problem)
    every = every[problem.label(every) == INVALID]
    log_prior = torch.log_softmax(logits[0].double(), -1)
    weights = torch.softmax(sum(log_prior[i, every[:, i]] for i in range(problem.n_variables)), 0)
    for i, j in ((0, 1), (1, 2), (0, 3)):
        codes = [x[:, i] * problem.cardinality + x[:, j] for x in (every, z)]
        expected, frequency = (torch.nn.functional.one_hot(code, 16).double() for code in codes)
        expected, frequency = weights @ expected, frequency.mean(0)
        sd = (expected * (1 - expected) / n_samples).sqrt()
        assert ((frequency - expected).abs() <= 5 * sd + 1e-9).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), gain=st.floats(0, 6), shift=st.integers(-50, 50), label=st.integers(0, 1))
def test_marginals_are_distributions_and_shifts_do_not_matter(seed, gain, shift, label) -> None:
    # In steps of 2^-10 the shift is exact: sweeps can make much of a rounding.
    logits = (1024 * soft_logits(filled_board(4)[None], gain, seed)).round() / 1024
    for engine in (em.Exact(), BP()):
        post = em.posterior(em.Sudoku(4), logits, labels(1, label), engine)
        torch.testing.assert_close(post.marginals.sum(-1), torch.ones(1, 4, 4), atol=1e-5, rtol=0)
        shifted = em.posterior(em.Sudoku(4), logits + shift, labels(1, label), engine)
        torch.testing.assert_close(shifted.marginals, post.marginals, atol=1e-6, rtol=0)


@pytest.mark.parametrize("label", [VALID, INVALID])
def test_the_em_gradient_is_the_gradient_of_the_evidence(label: int) -> None:
    """Theorem 3.1, on an exactly enumerable problem."""
    problem = SMALL["latin square"]
    logits = torch.randn(2, 9, 3, dtype=torch.float64).requires_grad_()
    z = all_assignments(problem)
    z = z[problem.label(z) == label]
    log_prior = torch.log_softmax(logits, -1)
    evidence = torch.logsumexp(sum(log_prior[:, i, z[:, i]] for i in range(9)), -1)
    (expected,) = torch.autograd.grad(-evidence.sum(), logits)
    for loss in (em.fused_em_loss, lambda p, x, y, r: em.em_loss(x, em.posterior(p, x, y), r)):
        (gradient,) = torch.autograd.grad(loss(problem, logits, labels(2, label), "sum"), logits)
        torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=0)


def test_bp_std_has_the_gradient_of_converged_belief_propagation() -> None:
    """The Bethe evidence is stationary in the messages at a fixed point, so only the prior's path is left."""
    problem = em.Sudoku(4)
    logits = soft_logits(filled_board(4).expand(3, -1, -1), gain=3.0, seed=12).double().requires_grad_()
    loss = em.bp_std_loss(problem, logits, labels(3, VALID), "none", iterations=40)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    post = em.posterior(problem, logits, labels(3, VALID), BP(iterations=40))
    torch.testing.assert_close(-loss.detach(), post.log_evidence, atol=1e-9, rtol=0)
    torch.testing.assert_close(gradient, torch.softmax(logits, -1) - post.marginals, atol=1e-6, rtol=0)


def test_labels_of_latin_squares() -> None:
    problem = em.Sudoku(4)
    board = filled_board(4)
    assert int(problem.label(board)) == VALID
    assert problem.label(torch.stack([board, board.roll(1, 0), torch.zeros_like(board)])).tolist() == [1, 0, 0]
    rows = torch.tensor(list(permutations(range(3))))
    assert em.AllDifferent([(0, 1, 2)], 3, 3).label(rows).all()


MISTAKES = [
    (lambda: em.Sudoku(5), ValueError, r"size must be one of \(4, 9, 16\), got 5"),
    (lambda: em.AllDifferent([], 3, 3), ValueError, "at least one group"),
    (lambda: em.AllDifferent([(0, 1, 2)], 3, 2), ValueError, r"groups\[0\] must have 2..2 members"),
    (lambda: em.AllDifferent([(0, 0)], 3, 3), ValueError, r"groups\[0\] must name every variable once"),
    (lambda: em.AllDifferent([(0, 3)], 3, 3), ValueError, r"groups\[0\] must hold variables in 0..2"),
    (lambda: em.AllDifferent([(0, 1.0)], 3, 3), TypeError, r"groups\[0\] must hold integers"),
    (
        lambda: em.AllDifferent([(0, 1), (1, 2), (0, 2)], 3, 2),
        ValueError,
        "at least one valid assignment, got 3 groups that no assignment of 2 values to 3 variables satisfies",
    ),
    (lambda: em.AllDifferent([(0, 1)], 2, 65), ValueError, "cardinality must be an integer in 2..64, got 65"),
    (lambda: BP(iterations=-1), ValueError, "iterations must be an integer in 0..9223372036854775807, got -1"),
    (lambda: BP(damping=1.0), ValueError, r"damping must be a number in \[0, 1\), got 1.0"),
    (lambda: BP(schedule="random"), ValueError, "schedule must be one of"),
    (lambda: BP(factors="triples"), ValueError, "factors must be one of"),
    (lambda: BP(tolerance=float("nan")), ValueError, "tolerance must be a finite number >= 0"),
    (lambda: em.Sudoku(4).label(torch.full((4, 4), 4)), ValueError, "z must hold values in 0..3, got 4..4"),
    (lambda: em.Sudoku(4).label(torch.zeros(4, 5).long()), ValueError, r"z must have shape \[..., 4, 4\]"),
    (
        lambda: em.posterior(em.AllDifferent([(0, 1)] + [(i, i + 1) for i in range(40)], 41, 20),
                             torch.zeros(1, 41, 20), labels(1, 1)),
        ValueError,
        "at most 16 values, got 20.*pairwise",
    ),
    (
        lambda: em.posterior(em.Sudoku(9), torch.zeros(1, 9, 9, 9), labels(1, 1), em.Exact()),
        em.UnsupportedEngineError,
        r"em.Exact\(\) does not work for Sudoku\(size=9\); engines that do: em.BeliefPropagation\(\)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


VALUES = [
    ("nan", r"logits\[1, 2, 3, 1\] must be finite or -inf, got nan"),
    ("inf", r"logits\[1, 2, 3, 1\] must be finite or -inf, got inf"),
    ("empty", r"logits\[1, 2, 3\] must have at least one finite value"),
    ("label", r"label\[1\] must be 1 \(valid\) or 0 \(invalid\), got 2"),
]


@pytest.mark.parametrize(("kind", "message"), VALUES)
@pytest.mark.parametrize("engine", [em.Exact(), BP(iterations=1), BP(iterations=1, factors="pairwise"), em.MAP()])
def test_wrong_values(backend, kind: str, message: str, engine) -> None:
    logits, label = torch.zeros(3, 4, 4, 4), labels(3, VALID)
    if kind == "label":
        label[1] = 2
    else:
        logits[1, 2, 3, ... if kind == "empty" else 1] = -float("inf") if kind == "empty" else float(kind)
    with pytest.raises(ValueError, match=message):
        backend.run(em.posterior, em.Sudoku(4), logits, label, engine)
    post = backend.run(em.posterior, em.Sudoku(4), logits, label, engine, check=False)
    expected = backend.run(em.posterior, em.Sudoku(4), logits[:1], label[:1], engine)
    assert torch.equal(post.marginals[[0, 2]], expected.marginals.expand(2, -1, -1, -1))
    assert not post.possible[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(backend, dtype: torch.dtype) -> None:
    logits = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(13)).to(dtype)
    for engine in (em.Exact(), BP(iterations=2), BP(iterations=2, factors="pairwise")):
        post = backend.run(em.posterior, em.Sudoku(4), logits, labels(2, VALID), engine)
        with em.backend("reference"):
            expected = em.posterior(em.Sudoku(4), logits.double(), labels(2, VALID), engine)
        double = dtype == torch.float64
        assert post.marginals.dtype == post.log_evidence.dtype == (torch.float64 if double else torch.float32)
        atol = 1e-11 if double else 1e-5
        torch.testing.assert_close(post.marginals.double(), expected.marginals, atol=atol, rtol=0)


def test_an_empty_batch(backend) -> None:
    logits, label = torch.zeros(0, 4, 4, 4), labels(0, VALID)
    for engine in (em.Exact(), BP(), BP(factors="pairwise"), em.MAP()):
        post = backend.run(em.posterior, em.Sudoku(4), logits, label, engine)
        assert post.marginals.shape == logits.shape
        assert post.log_evidence.shape == post.possible.shape == (0,)


def test_size_16_on_a_cpu() -> None:
    """65,536 subsets a group: about 0.1 s a board and sweep."""
    problem, z = em.Sudoku(16), filled_board(16)[None]
    logits = soft_logits(z, gain=3.0, seed=14)
    for engine in (BP(iterations=2), BP(iterations=10, factors="pairwise")):
        post = em.posterior(problem, logits, labels(1, VALID), engine)
        before = (logits.argmax(-1) == z).float().mean()
        assert (post.marginals.argmax(-1) == z).float().mean() > max(before, 0.97)
