"""The engines of training on visual Sudoku."""

from __future__ import annotations

from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.engines import WrappedEngine
from emnesy_gpu.tasks.core.engines import engine_by_name
from emnesy_gpu.tasks.core.sampling_engines import Sampling
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings


class Sharpened(WrappedEngine):
    """Another engine on the prior raised to a power: a greater power makes every belief more certain.

    A net that has just been initialised believes nearly the same of every symbol, and the uniform belief is a fixed
    point of EM; sharpening leaves it sooner. The training sets ``power``.
    """

    def __init__(self, engine: em.Engine) -> None:
        super().__init__(engine)
        self.power = 1.0

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Infer from the sharpened prior."""
        return self.engine.infer(problem, self.power * logits, label, check)


def engine_of(settings: SudokuSettings, problem: em.Sudoku) -> em.Engine:
    """Return the engine that the settings name, by default the best one for the size of the boards."""
    if settings.hard and settings.engine is not None:
        raise ValueError(f"hard=True means engine=em.MAP(): give one of them, got engine={settings.engine!r}")
    messages = em.BeliefPropagation(settings.sweeps, factors=settings.factors)
    return engine_by_name(_engine_name(settings), problem, messages, Sampling(settings.seed, "local"))


def _engine_name(settings: SudokuSettings) -> str:
    if settings.hard:
        return "map"
    if settings.engine is not None:
        return settings.engine
    return "exact" if settings.size == 4 else "bp"
