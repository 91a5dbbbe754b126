"""Sampling engines in training: new samples at every step, and the same ones when a run is resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.engines import WrappedEngine, layers

SAMPLES = 1024
REJECTION_SAMPLES = 4096
EFFECTIVE_SAMPLES = 64.0
"""The sharpness of every row is set to give this effective sample size, so that it grows as the net learns."""

SAMPLERS = ("abc", "gibbs", "rejection")
"""The names that ``sampling_engine`` knows."""


class Reseeded(WrappedEngine):
    """A sampling engine whose seed is made of the run's seed, the epoch, and the number of the call within it."""

    rows_before = 0

    def __init__(self, engine: em.Engine, run_seed: int) -> None:
        super().__init__(engine)
        self.run_seed = run_seed
        self.start_epoch(1)

    def start_epoch(self, epoch: int) -> None:
        """Begin the seeds of an epoch, counted from 1."""
        self.epoch, self.calls = epoch, 0

    def at_step(self, step: int, rows_before: int = 0) -> Reseeded:
        """The engine itself, whose seeds are its own, with the rows that stand before the next batch."""
        self.rows_before = rows_before
        return self

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Infer with a new seed at every call."""
        seed = ((self.run_seed + 1) << 40) + (self.epoch << 24) + self.calls
        self.calls += 1
        engine = replace(self.engine, seed=seed % 2**63).after_rows(self.rows_before)
        return engine.infer(problem, logits, label, check)


def start_epoch(engine: em.Engine, epoch: int, calls: int = 0) -> None:
    """Tell the sampling engine inside ``engine``, if there is one, which epoch begins or goes on after some calls."""
    for sampler in layers(engine):
        if isinstance(sampler, Reseeded):
            sampler.start_epoch(epoch)
            sampler.calls = calls


def calls_of_epoch(engine: em.Engine) -> int:
    """Return how often the sampling engine inside ``engine`` was called in its epoch; 0 where there is none."""
    return sum(sampler.calls for sampler in layers(engine) if isinstance(sampler, Reseeded))


@dataclass(frozen=True)
class Sampling:
    """What a task sets about its sampling engines.

    run_seed: the seed of the run. scope: that of ``em.ABC``. penalty: that of ``em.Gibbs``.
    """

    run_seed: int
    scope: str = "global"
    penalty: float = em.Gibbs.penalty


def sampling_engine(name: str, sampling: Sampling) -> Reseeded:
    """Return the engine "abc" (weights exp(-sharpness * violated constraints)), "gibbs" or "rejection"."""
    engines: dict[str, em.Engine] = {
        "abc": em.ABC(SAMPLES, weighting="exponential", scope=sampling.scope, target_ess=EFFECTIVE_SAMPLES),
        "gibbs": em.Gibbs(penalty=sampling.penalty),
        "rejection": em.Rejection(REJECTION_SAMPLES),
    }
    return Reseeded(engines[name], sampling.run_seed)
