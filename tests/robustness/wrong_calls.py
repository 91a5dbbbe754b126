"""Random wrong calls: each must be a TypeError or a ValueError that says what it got, or return sound results."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import emnesy_gpu as em
from tests.robustness.valid_calls import draw

LEAST_LETTERS = 10

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    -(2**70),
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
    name = str(random.choice(["logits", "label", "problem", "engine", "n_samples", "seed", "setting", "constructor"]))
    if name == "logits":
        logits = wrong_tensor(logits, random)
    elif name == "label":
        label = wrong_tensor(label, random)
    attempts: dict[str, Callable[[], Any]] = {
        "logits": lambda: em.posterior(problem, logits, label),
        "label": lambda: em.fused_em_loss(problem, logits, label),
        "problem": lambda: em.posterior(value, logits, label),
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


def _engine(value: Any, random: np.random.Generator) -> Any:
    settings = [(em.ABC, "samples"), (em.ABC, "seed"), (em.ABC, "sharpness"), (em.ABC, "target_ess")]
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
    ]
    return makers[random.integers(len(makers))]()


def _words(value: Any, logits: Any, label: Any, name: str) -> str:
    return repr({"logits": logits, "label": label}.get(name, value))[:200]
