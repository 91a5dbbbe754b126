"""What every E-step strategy returns and offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from emnesy_gpu.problems import Problem


class UnsupportedEngineError(ValueError):
    """This engine cannot be used for this problem; the message names the engines that can."""


@dataclass
class Posterior:
    """The result of an E-step; every tensor is a constant (``requires_grad`` is False).

    Attributes:
        marginals: q(z_i = v) = p(z_i = v | label, logits), the shape of the logits, float32 (float64 for float64
            logits), probabilities that sum to 1 over the last axis. Where ``possible`` is False they are the prior
            softmax(logits), so that the EM gradient vanishes.
        log_evidence: [batch] log p(label | logits), or what the engine can say of it; -inf for an impossible label.
        possible: [batch] bool, whether some assignment of positive probability has this label.
        info: whatever else the engine knows.
    """

    marginals: Tensor
    log_evidence: Tensor
    possible: Tensor
    info: dict[str, Any] = field(default_factory=dict)


class Engine:
    """An E-step strategy. ``inference`` names the method of ``Problem`` that it builds on."""

    inference: ClassVar[str]

    def infer(self, problem: Problem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"em.{type(self).__name__}()"
