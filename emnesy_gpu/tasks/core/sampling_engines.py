"""Sampling engines in training: new samples at every step, the same ones when a run is continued."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

import emnesy_gpu as em

SAMPLES = 1024
REJECTION_SAMPLES = 4096
EFFECTIVE_SAMPLES = 64.0
"""The sharpness of every row is annealed to this effective sample size: as the net learns, it grows by itself."""

DIGIT_PENALTY = 3.0
"""Of Gibbs chains on addition: nearest to the exact posterior, over several priors and one and two digits."""

NAMES = ("abc", "gibbs", "rejection")


class Reseeded(em.Engine):
    """A sampling engine whose seed is made of the run's seed, the epoch, and the number of the call within it."""

    def __init__(self, engine: Any, run_seed: int) -> None:
        self.engine, self.run_seed = engine, run_seed
        self.inference = engine.inference  # type: ignore[misc]
        self.start_epoch(1)

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.calls = epoch, 0

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        seed = ((self.run_seed + 1) << 40) + (self.epoch << 24) + self.calls
        self.calls += 1
        return replace(self.engine, seed=seed % 2**63).infer(problem, logits, label, check)

    def __repr__(self) -> str:
        return repr(self.engine)


def sampling_engine(name: str, scope: str, run_seed: int, penalty: float = em.Gibbs.penalty) -> Reseeded:
    """ "abc" (weights exp(-sharpness * violated constraints), global or local), "gibbs" or "rejection"."""
    engines = {
        "abc": em.ABC(SAMPLES, kernel="exponential", scope=scope, target_ess=EFFECTIVE_SAMPLES),
        "gibbs": em.Gibbs(penalty=penalty),
        "rejection": em.Rejection(REJECTION_SAMPLES),
    }
    return Reseeded(engines[name], run_seed)
