"""Supervised training in the form of an engine, for comparison with EM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.engines import WrappedEngine


class TrueClasses(WrappedEngine):
    """The true classes of a batch in place of the posterior of another engine: supervised training, for comparison.

    The training sets ``classes``, integers [batch, *latent_shape], before every step.
    """

    def __init__(self, engine: em.Engine) -> None:
        super().__init__(engine)
        self.classes: Tensor | None = None

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Return one-hot marginals with a log evidence of 0."""
        assert self.classes is not None, "classes must be set before an E-step"
        known = nn.functional.one_hot(self.classes.long(), problem.cardinality).to(logits.dtype)
        zeros = torch.zeros(len(logits), dtype=logits.dtype, device=logits.device)
        return em.Posterior(known, zeros, torch.ones_like(zeros, dtype=torch.bool))
