"""Random wrong calls: each must be a TypeError or a ValueError that says what it got, or return sound results."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu import logic
from tests.robustness.valid_calls import draw

LEAST_LETTERS = 10

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    -(2**70),
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    "text",
    "\0",
    b"bytes",
    (),
    [],
    {},
    [[1, 2], [3]],
    object(),
    int,
    lambda z: z,
    torch.tensor(1.0),
    np.zeros(3),
)


def wrong_tensor(tensor: torch.Tensor, random: np.random.Generator) -> Any:
    """Return a tensor of another shape, dtype, device or layout, with bad values, or no tensor at all."""
    changes: tuple[Callable[[], Any], ...] = (
        lambda: tensor[None],
        lambda: tensor[..., :0],
        lambda: tensor[..., None],
        lambda: tensor[0] if tensor.ndim else tensor,
        lambda: torch.cat([tensor, tensor]),
        lambda: tensor.to(torch.complex64),
        lambda: tensor.to(torch.int8) if tensor.is_floating_point() else tensor.double(),
        lambda: tensor.bool(),
        lambda: tensor.to("meta"),
        lambda: tensor.to_sparse(),
        lambda: tensor.numpy(),
        lambda: tensor.tolist(),
        lambda: tensor * torch.nan if tensor.is_floating_point() else tensor - 10**6,
        lambda: tensor + torch.inf if tensor.is_floating_point() else tensor + 2**40,
        lambda: torch.full_like(tensor, -torch.inf) if tensor.is_floating_point() else tensor * 0 - 1,
        lambda: VALUES[random.integers(len(VALUES))],
    )
    return changes[random.integers(len(changes))]()


def wrong_call(random: np.random.Generator) -> bool:
    """Make one wrong call; returns whether it was refused. AssertionError for what the contract does not have."""
    call = draw(random)
    value = VALUES[random.integers(len(VALUES))]
    problem: Any = call.world.problem
    logits, label = call.logits, call.label
    name = str(
        random.choice(
            ["logits", "label", "problem", "engine", "n_samples", "seed", "setting", "constructor", "baseline"]
        )
    )
    if name == "logits":
        logits = wrong_tensor(logits, random)
    elif name == "label":
        label = wrong_tensor(label, random)
    attempts: dict[str, Callable[[], Any]] = {
        "logits": lambda: em.posterior(problem, logits, label),
        "label": lambda: em.fused_em_loss(problem, logits, label),
        "problem": lambda: em.posterior(value, logits, label),
        "baseline": lambda: _baseline(problem, logits, label, value, random),
        "engine": lambda: em.posterior(problem, logits, label, value),
        "n_samples": lambda: em.sample_posterior(problem, logits, label, value, seed=0),
        "seed": lambda: em.sample_posterior(problem, logits, label, 1, seed=value),
        "setting": lambda: _engine(value, random),
        "constructor": lambda: _problem(value, random),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = attempts[name]()
    except (TypeError, ValueError) as error:
        if len(str(error)) < LEAST_LETTERS:
            raise AssertionError(f"{name}: {error!r} says too little") from error
        return True
    except Exception as error:
        raise AssertionError(
            f"{name} = {_words(value, logits, label, name)}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(result, em.Posterior):
        assert result.marginals.isfinite().all(), f"{name}: a posterior that is not finite"
    return False


def _baseline(problem: Any, logits: Any, label: Any, value: Any, random: np.random.Generator) -> Any:
    """One of the losses to compare with, with one odd argument."""
    losses = [em.baselines.rloo_loss, em.baselines.indecater_loss, em.bp_std_loss, em.baselines.top_k_proofs_loss]
    losses += [em.baselines.nesydm_loss]
    arguments = [problem, logits, label, "mean"]
    arguments[random.integers(4)] = value
    return losses[random.integers(len(losses))](*arguments)


def _engine(value: Any, random: np.random.Generator) -> Any:
    settings = [(em.ABC, "samples"), (em.ABC, "seed"), (em.ABC, "sharpness"), (em.ABC, "target_ess")]
    settings += [(em.BeliefPropagation, "tolerance"), (em.BeliefPropagation, "schedule"), (em.Options, "impossible")]
    settings += [(em.Gibbs, "sweeps"), (em.Gibbs, "chains"), (em.Gibbs, "penalty"), (em.BeliefPropagation, "damping")]
    engine, name = settings[random.integers(len(settings))]
    return engine(**{name: value})


def _problem(value: Any, random: np.random.Generator) -> Any:
    makers: list[Callable[[], Any]] = [
        lambda: em.Addition(value),
        lambda: em.Addition(1, base=value),
        lambda: em.Sudoku(value),
        lambda: em.AllDifferent(value, 3, 3),
        lambda: em.AllDifferent([[0, 1]], value, 3),
        lambda: em.BlackBox(value, (2,), 3),
        lambda: em.BlackBox(lambda z: z.sum(-1), value, 3),
        lambda: em.ShortestPath(value) if not isinstance(value, int) or value < 100 else em.ShortestPath("x"),
        lambda: em.Automaton.from_regex(value, "ab", 3),
        lambda: em.FactorGraph(value if not isinstance(value, int) or value < 100 else "x", 2),
        lambda: em.FactorGraph(3, value),
        lambda: em.factors.exactly(value),
        lambda: em.factors.at_most(1, value),
        lambda: em.factors.linear(value, 2),
        lambda: em.factors.noisy_or(value),
        lambda: em.factors.noisy_or([0.5], value),
        lambda: em.factors.allowed(value),
        lambda: em.factors.automaton(value),
        lambda: em.factors.regular(value),
        lambda: em.rules.count(3, 2, value),
        lambda: em.rules.count(3, value, [1]),
        lambda: em.rules.weighted_sum(value, 2),
        lambda: em.rules.lexicon(value, "ab"),
        lambda: em.rules.modulo(2, 3, value),
        lambda: em.logic.exactly(value, logic.symbols(3)),
        lambda: em.logic.exactly(1, value),
        lambda: em.logic.all_different(value),
        lambda: em.logic.linear(value, logic.symbols(2)),
        lambda: em.logic.table(logic.symbols(2), value),
        lambda: em.Circuit(value),
    ]
    return makers[random.integers(len(makers))]()


def _words(value: Any, logits: Any, label: Any, name: str) -> str:
    return repr({"logits": logits, "label": label}.get(name, value))[:200]
