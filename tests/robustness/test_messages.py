"""Wrong calls: a TypeError or a ValueError that names the argument, what was expected and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import emnesy_gpu as em

ADDITION = em.Addition(n_digits=2)
LOGITS, LABEL = torch.zeros(1, 2, 2, 10), torch.zeros(1, 3, dtype=torch.int64)
POST = em.posterior(ADDITION, LOGITS, LABEL)
PARITY, SYMBOL = em.rules.parity(3), em.logic.symbols(1)[0]
MODEL = torch.nn.Linear(1, 1)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
A_PROBLEM = r"problem must be a Problem such as em\.Addition\(n_digits=4\), got "
A_SEED = "must be an integer in 0..9223372036854775807, got"


def black_box(**changes: Any) -> em.BlackBox:
    arguments = {"label": lambda z: z.sum(-1), "latent_shape": (2,), "cardinality": 3}
    return em.BlackBox(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: em.posterior(None, LOGITS, LABEL), TypeError, A_PROBLEM + "None"),
        (lambda: em.posterior(em.Addition, LOGITS, LABEL), TypeError, A_PROBLEM + "the class Addition"),
        (lambda: em.fused_em_loss("sums", LOGITS, LABEL), TypeError, A_PROBLEM + "'sums'"),
        (lambda: em.sample_posterior(None, LOGITS, LABEL, 1, seed=0), TypeError, A_PROBLEM + "None"),
        (lambda: em.EM(MODEL, None, OPTIMIZER), TypeError, A_PROBLEM + "None"),
        (lambda: em.EM(None, ADDITION, OPTIMIZER), TypeError, "model must be a function of x .* got None"),
        (lambda: em.EM(MODEL, ADDITION, None), TypeError, r"optimizer must be a torch.optim.Optimizer .* got None"),
        (lambda: em.EM(MODEL, ADDITION, OPTIMIZER, m_steps=1.5), TypeError, "m_steps must be an integer >= 1, got 1.5"),
        (lambda: em.posterior(ADDITION, LOGITS, LABEL, em.Exact), TypeError, "engine must be an Engine such as"),
        (lambda: em.posterior(ADDITION, LOGITS, LABEL, "exact"), TypeError, "engine must be an Engine .* got 'exact'"),
        (lambda: em.em_loss(LOGITS, None), TypeError, "post must be the Posterior that em.posterior returns, got None"),
        (lambda: em.em_loss(None, None), TypeError, "logits must be a torch.Tensor, got NoneType"),
        (
            lambda: em.posterior(ADDITION, LOGITS.to_sparse(), LABEL),
            TypeError,
            "logits must be a dense tensor, got l",
        ),
        (lambda: em.sample_posterior(ADDITION, LOGITS, LABEL, 2.5, seed=0), TypeError, "n_samples must be an integer"),
        (lambda: em.sample_posterior(ADDITION, LOGITS, LABEL, 1, seed="0"), TypeError, f"seed {A_SEED} '0'"),
        (lambda: em.sample_posterior(ADDITION, LOGITS, LABEL, 1, seed=2**63), ValueError, f"seed {A_SEED} {2**63}"),
        (
            lambda: em.sample_posterior(ADDITION, LOGITS, LABEL, 1, seed=0, first_row=2**63),
            ValueError,
            f"first_row {A_SEED} {2**63}",
        ),
        (lambda: em.ABC(samples="10"), TypeError, "samples must be an integer in 1..9223372036854775807, got '10'"),
        (lambda: em.Gibbs(sweeps="10"), TypeError, "sweeps must be an integer in 1..65535, got '10'"),
        (lambda: em.BeliefPropagation(damping="0.5"), TypeError, r"damping must be a number in \[0, 1\), got '0.5'"),
        (lambda: em.Gibbs(penalty="2"), TypeError, "penalty must be a finite number >= 0, got '2'"),
        (lambda: em.ABC(sharpness=None), TypeError, "sharpness must be a finite number >= 0, got None"),
        (lambda: black_box(latent_shape=()), ValueError, r"latent_shape must have at least one axis, got \(\)"),
        (lambda: black_box(latent_shape=2), TypeError, "latent_shape must be a tuple of integers, got 2"),
        (lambda: black_box(label="z"), TypeError, "label must be a function, got 'z'"),
        (
            lambda: black_box(cardinality=2.5),
            TypeError,
            "cardinality must be an integer or a sequence .* got 2.5",
        ),
        (lambda: em.AllDifferent(None, 3, 3), TypeError, "groups must hold sequences of variables, .* got None"),
        (
            lambda: em.AllDifferent([[0, 1]], 2**63, 3),
            ValueError,
            r"n_variables must be an integer in 1\.\.1048576, got",
        ),
        (
            lambda: em.sample_posterior(ADDITION, LOGITS, LABEL, 2**63, seed=0),
            ValueError,
            "n_samples must be an integer",
        ),
        (lambda: em.AllDifferent([0, 1], 3, 3), TypeError, "groups must hold sequences of variables, .* got .0, 1."),
        (lambda: em.factors.allowed(3), TypeError, "tuples must be sequences of integers, got 3"),
        (lambda: em.factors.allowed([(0, "1")]), TypeError, r"tuples\[0\]\[1\] must be an integer >= 0, got '1'"),
        (lambda: em.factors.exactly(1, None), TypeError, "values must be integers, got None"),
        (lambda: em.factors.linear("12", 3), TypeError, "weights must be integers, got '12'"),
        (lambda: em.factors.noisy_or([0.5, "1"]), TypeError, r"probabilities\[1\] must be a number in .0, 1., got '1'"),
        (lambda: em.factors.noisy_or([0.5], leak=None), TypeError, r"leak must be a number in \[0, 1\], got None"),
        (lambda: em.factors.automaton(None), TypeError, r"rule must be an em\.Automaton, got None"),
        (lambda: em.factors.automaton(PARITY, torch.zeros(2)), ValueError, "has no label tensor"),
        (lambda: em.factors.regular(None), TypeError, "pattern must be a string, got None"),
        (lambda: em.FactorGraph(3, None), TypeError, "cardinality must be integers, got None"),
        (lambda: em.FactorGraph(2**63, 2), ValueError, "n_variables must be an integer in 1..16777216, got 9223"),
        (lambda: em.FactorGraph(3, 2, latent_shape=True), TypeError, "latent_shape must be a tuple .* got True"),
        (lambda: em.rules.parity(2**63), ValueError, "n_symbols must be an integer in 1..16777216, got 9223"),
        (lambda: em.rules.count(None, 2, [1]), TypeError, "n_symbols must be an integer .* got None"),
        (lambda: em.rules.count(3, "2", [1]), TypeError, "cardinality must be an integer .* got '2'"),
        (lambda: em.rules.count(3, 2, [1.0]), TypeError, r"values\[0\] must be an integer >= 0, got 1.0"),
        (lambda: em.rules.modulo(2, 3, base=None), TypeError, "base must be an integer .* got None"),
        (lambda: em.rules.sorted_order(3, 4, strict=torch.ones(2)), TypeError, "strict must be True or False"),
        (lambda: em.rules.lexicon(["ab", 3], "ab"), TypeError, "a word of words must be a string, got 3"),
        (lambda: em.rules.lexicon(["ab"], "ab", "2"), TypeError, "n_symbols must be an integer .* got '2'"),
        (lambda: em.rules.balanced_brackets(4, max_depth=1.5), TypeError, "max_depth must be an integer >= 0, got 1.5"),
        (lambda: em.logic.symbols(b"ab"), TypeError, "names must be a tuple of integers, got b'ab'"),
        (lambda: em.logic.exactly(1, "ab"), TypeError, "a formula of formulas must be a formula, .* got 'ab'"),
        (lambda: em.logic.linear(None, [SYMBOL]), TypeError, "weights must be integers, got None"),
        (lambda: em.logic.table([SYMBOL], [3]), TypeError, "rows must be sequences of values, got the row 3"),
        (lambda: em.em_loss(LOGITS, POST, reduction=torch.zeros(2)), ValueError, "reduction must be one of mean, sum"),
        (lambda: em.ABC(weighting=torch.zeros(2)), ValueError, "weighting must be one of"),
        (lambda: em.EM(MODEL, ADDITION, OPTIMIZER, hard=torch.ones(2)), TypeError, "hard must be True or False"),
        (
            lambda: em.EM(MODEL, ADDITION, OPTIMIZER).step(None, [1]),
            TypeError,
            "label must be a torch.Tensor, got list",
        ),
        (lambda: em.bp_std_loss(ADDITION, None, LABEL), TypeError, "logits must be a torch.Tensor, got NoneType"),
        (lambda: em.baselines.rloo_loss(None, LOGITS, LABEL), TypeError, A_PROBLEM + "None"),
        (lambda: em.baselines.indecater_loss(ADDITION, LOGITS, LABEL[:, 1:]), ValueError, "label must have shape"),
        (lambda: em.baselines.top_k_proofs_loss(ADDITION, LOGITS, None), TypeError, "label must be a torch.Tensor"),
        (lambda: em.baselines.exal_loss(ADDITION, LOGITS, LABEL, None), TypeError, "explanations must be a torch.T"),
        (lambda: em.baselines.SumPredictor(None), TypeError, r"problem must be an em\.Addition, got None"),
        (lambda: em.Addition(True), TypeError, "n_digits must be an integer in 1..1048576, got True"),
        (lambda: em.Sudoku("9"), ValueError, "size must be one of .* got '9'"),
    ],
)
def test_wrong_calls(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_nested_tensors_are_refused() -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2, 2, 10)], layout=torch.jagged)
    with pytest.raises(TypeError, match="logits must be a dense tensor, got a nested one"):
        em.posterior(ADDITION, nested, LABEL)


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(lambda: em.Sudoku(9), id="sudoku"),
        pytest.param(lambda: em.ShortestPath(4, 4), id="paths"),
        pytest.param(lambda: black_box(latent_shape=(40,), cardinality=10), id="large black box"),
    ],
)
def test_what_a_problem_does_not_support_names_a_remedy(problem: Callable[[], em.Problem]) -> None:
    intractable = problem()
    logits = torch.zeros(1, *intractable.latent_shape, intractable.cardinality, requires_grad=True)
    label = torch.ones(1, *intractable.label_shape, dtype=torch.int64)
    with pytest.raises(em.UnsupportedEngineError, match=r"Give an engine, such as engine=em\.ABC"):
        em.fused_em_loss(intractable, logits, label)
    with pytest.raises(em.UnsupportedEngineError, match=r"em\.posterior"):
        em.sample_posterior(intractable, logits, label, 1, seed=0)
    with pytest.raises(em.UnsupportedEngineError, match=r"engines that do: em\."):
        em.posterior(intractable, logits, label, em.Exact())


@pytest.mark.parametrize(
    "engine", [None, em.Exact(), em.ABC(samples=8), em.Gibbs(sweeps=2), em.Rejection(8), em.MAP()], ids=repr
)
@pytest.mark.parametrize("latent_shape", [(2,), (40,)], ids=["small", "large"])
def test_an_empty_batch_of_a_black_box(engine: em.Engine | None, latent_shape: tuple[int, ...]) -> None:
    problem = black_box(latent_shape=latent_shape)
    if isinstance(engine, (em.Exact, em.MAP)) and not problem.tractable:
        pytest.skip("too large for exact inference")
    post = em.posterior(problem, torch.zeros(0, *latent_shape, 3), torch.zeros(0, dtype=torch.int64), engine)
    assert post.marginals.shape == (0, *latent_shape, 3)
    assert post.log_evidence.shape == post.possible.shape == (0,)
