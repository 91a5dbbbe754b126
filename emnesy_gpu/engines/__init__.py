"""E-step strategies: how a posterior is computed for a problem that allows it."""

from emnesy_gpu.engines.abc import ABC
from emnesy_gpu.engines.belief_propagation import BeliefPropagation
from emnesy_gpu.engines.engine import Engine, Posterior, UnsupportedEngineError
from emnesy_gpu.engines.exact import Exact
from emnesy_gpu.engines.gibbs import Gibbs
from emnesy_gpu.engines.map import MAP
from emnesy_gpu.engines.rejection import Rejection
from emnesy_gpu.problems import Problem

ENGINES: tuple[type[Engine], ...] = (Exact, BeliefPropagation, ABC, Gibbs, Rejection, MAP)
"""Best first: the order in which an engine is chosen when the caller names none."""

__all__ = [
    "ABC",
    "ENGINES",
    "MAP",
    "BeliefPropagation",
    "Engine",
    "Exact",
    "Gibbs",
    "Posterior",
    "Rejection",
    "UnsupportedEngineError",
    "choose_engine",
]


def choose_engine(problem: Problem, engine: Engine | None) -> Engine:
    """The given engine, or the best one for the problem; raises where the pair makes no sense."""
    if engine is None:
        for cls in ENGINES:
            if problem.supports(cls.inference):
                return cls()
        raise UnsupportedEngineError(f"no engine works for {problem!r}")
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be an Engine such as em.Exact(), or None, got {engine!r}")
    if not problem.supports(engine.inference):
        names = ", ".join(f"em.{cls.__name__}()" for cls in ENGINES if problem.supports(cls.inference)) or "none"
        raise UnsupportedEngineError(f"{engine!r} does not work for {problem!r}; engines that do: {names}")
    return engine
