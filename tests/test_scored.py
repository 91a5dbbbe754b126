"""Samples and chains whose score is compiled into a kernel: the results of the CPU, and draws equal to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from tests.black_boxes import ADDITION, SHAPE, compiled_posterior, equal_digits
from tests.factor_graphs import hard_tree
from tests.test_abc import draw_logits

pytest.importorskip("triton", reason="needs triton")

ENGINES = [
    em.ABC(70, sharpness=3.0, seed=5, first_row=2**32 - 1),
    em.ABC(70, weighting="exponential", target_ess=20.0),
    em.Rejection(70),
    em.Gibbs(3, 3, seed=5, first_row=2**32 - 1),
]

DIFFERENT = em.Automaton(lambda s, v: None if s == v else v, start=3, label=lambda s: s, n_symbols=4, cardinality=3)
"""No two neighbours are equal; the label is the last symbol."""

PROBLEMS = [
    em.Addition(2, base=4),
    em.rules.compare(2, base=3),
    em.BlackBox(equal_digits, n_constraints=3, **SHAPE),
    DIFFERENT,
    em.Circuit.from_automaton(DIFFERENT),
    hard_tree(),
]

NAMES = ["addition", "with an order", "black box", "forbids", "circuit", "factors"]


def inputs_of(problem: em.Problem) -> tuple[Tensor, Tensor]:
    """The label of an assignment in most rows; in the last one that of another row, or none."""
    logits = draw_logits(problem, batch=4)
    label = (ADDITION if isinstance(problem, em.BlackBox) else problem).label(logits.argmax(-1))
    label[-1] = label[0] if problem.label_shape else -1
    return logits, label


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize("problem", PROBLEMS, ids=NAMES)
def test_results_are_those_of_the_cpu(problem: em.Problem, engine: em.Engine, interpreter: Callable[..., Any]) -> None:
    logits, label = inputs_of(problem)
    expected = em.posterior(problem, logits, label, engine)
    found = interpreter(em.posterior, problem, logits, label, engine)
    torch.testing.assert_close(found.marginals, expected.marginals, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.possible, expected.possible)
    for name, values in expected.info.items():
        torch.testing.assert_close(found.info[name], values, rtol=1e-6, atol=0.0)


def test_chains_of_paths_are_those_of_the_cpu(interpreter: Callable[..., Any]) -> None:
    """The second label has marked ends, the third one is no path."""
    problem, engine = em.ShortestPath(2), em.Gibbs(3, 1, seed=5, first_row=2**32 - 1)
    logits = draw_logits(problem, batch=3)
    label = torch.tensor([[[1, 0], [0, 1]], [[0, 3], [5, 0]], [[0, 1], [1, 0]]])
    expected = em.posterior(problem, logits, label, engine)
    found = interpreter(em.posterior, problem, logits, label, engine)
    torch.testing.assert_close(found.marginals, expected.marginals, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.info["satisfied"], expected.info["satisfied"])


def test_a_function_of_the_user_is_compiled_into_chains_too(interpreter: Callable[..., Any]) -> None:
    logits, label = inputs_of(PROBLEMS[2])
    expected = em.posterior(PROBLEMS[2], logits, label, em.Gibbs(2, 2))
    found = interpreter(compiled_posterior, logits, label, em.Gibbs(2, 2))
    torch.testing.assert_close(found.marginals, expected.marginals, rtol=1e-6, atol=1e-7)
    assert torch.equal(found.info["satisfied"], expected.info["satisfied"])


@pytest.mark.parametrize("engine", [em.ABC(20_000), em.Rejection(20_000)], ids=lambda engine: type(engine).__name__)
def test_what_a_rule_forbids_does_not_count_without_a_label(engine: em.Engine) -> None:
    logits = draw_logits(DIFFERENT, batch=8) / 2
    label = torch.full((8,), -1)
    expected, found = em.posterior(DIFFERENT, logits, label), em.posterior(DIFFERENT, logits, label, engine)
    # Six standard errors of a share of the accepted samples.
    error = (0.25 / (20_000 * found.info["acceptance"].min())).sqrt() * 6
    assert (found.marginals - expected.marginals).abs().max() < error < 0.1
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=0.0, atol=0.1)
