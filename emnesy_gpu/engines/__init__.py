"""Engines, the strategies of the E-step."""

from __future__ import annotations

from typing import Any

import torch

from emnesy_gpu import checks
from emnesy_gpu.engines.abc import ABC
from emnesy_gpu.engines.belief_propagation import BeliefPropagation
from emnesy_gpu.engines.engine import Engine, WrappedEngine, layers
from emnesy_gpu.engines.exact import Exact
from emnesy_gpu.engines.gibbs import Gibbs
from emnesy_gpu.engines.map import MAP
from emnesy_gpu.engines.partial import Partial
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.engines.rejection import Rejection
from emnesy_gpu.errors import UnsupportedEngineError
from emnesy_gpu.problems import BlackBox, FactorGraph, Problem

ENGINES: dict[str, type[Engine[Any]]] = {
    "exact": Exact,
    "bp": BeliefPropagation,
    "abc": ABC,
    "gibbs": Gibbs,
    "rejection": Rejection,
    "map": MAP,
}
"""Name on the command line -> engine, best first: ``choose_engine`` takes the first that supports the problem."""

DEFAULTS: list[Engine[Any]] = [cls() for cls in ENGINES.values()]
"""The same with their default settings, made once: engines do not change."""

torch.serialization.add_safe_globals(list(ENGINES.values()))

A_PROBLEM = "a Problem such as em.Addition(n_digits=4)"

SETTINGS: dict[type[Problem], Engine[Any]] = {
    BlackBox: ABC(samples=4096, target_ess=100.0),
    FactorGraph: BeliefPropagation(iterations=50, tolerance=1e-4),
}
"""What ``engine=None`` takes where the default settings of an engine are not the best ones: see the problem."""

__all__ = [
    "ABC",
    "A_PROBLEM",
    "ENGINES",
    "MAP",
    "SETTINGS",
    "BeliefPropagation",
    "Engine",
    "Exact",
    "Gibbs",
    "Partial",
    "Posterior",
    "Rejection",
    "UnsupportedEngineError",
    "WrappedEngine",
    "choose_engine",
    "layers",
]


def choose_engine(problem: Problem, engine: Engine[Any] | None) -> Engine[Any]:
    """Return the engine if it supports the problem; for None, the first of ``ENGINES`` that does.

    It has its default settings, or those of ``SETTINGS``. Raises UnsupportedEngineError if it does not support the
    problem, and TypeError for what is no engine.
    """
    checks.is_instance("problem", problem, Problem, A_PROBLEM)
    if engine is None:
        for candidate in DEFAULTS:
            if candidate.supports(problem):
                chosen = SETTINGS.get(type(problem))
                return chosen if isinstance(chosen, type(candidate)) else candidate
        raise UnsupportedEngineError(
            f"no engine works for {problem!r}: its class has no method that an engine asks for"
        )
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be an Engine such as em.Exact(), or None, got {engine!r}")
    if not engine.supports(problem):
        names = ", ".join(f"em.{cls.__name__}()" for cls in ENGINES.values() if cls().supports(problem)) or "none"
        obstacle = engine.obstacle(problem)
        reason = f". {obstacle}" if obstacle else ""
        raise UnsupportedEngineError(f"{engine!r} does not work for {problem!r}; engines that do: {names}{reason}")
    return engine
