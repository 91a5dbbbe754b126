"""What every E-step strategy returns and offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from emnesy_gpu.problems import Problem

P = TypeVar("P")
"""What an engine asks of a problem: a protocol that the file of the engine defines."""


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


class Engine(ABC, Generic[P]):
    """An E-step strategy.

    A subclass names what it asks of a problem, as a protocol of methods, and turns what they return into a posterior.

    Attributes:
        asks: a protocol without attributes, decorated with ``typing.runtime_checkable``. The engine works for the
            problems whose class has its methods.
    """

    asks: ClassVar[type]

    def supports(self, problem: Problem) -> bool:
        """Whether the engine works for this problem."""
        return issubclass(type(problem), self.asks)

    @abstractmethod
    def infer(self, problem: P, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        """The posterior of every row.

        Args:
            problem: one that ``supports`` accepts.
            logits: float [batch, *latent_shape, cardinality], detached, of the right shape, any strides.
            label: int64 [batch, *label_shape] on the same device.
            check: raise ValueError for values that are not allowed: NaN and +inf logits, symbols without a finite
                logit, labels out of range. Without it memory stays safe, and such rows are unspecified.
        """

    def __repr__(self) -> str:
        return f"em.{type(self).__name__}()"


class WrappedEngine(Engine[Any]):
    """An engine that changes what another one is given or returns; it works for the same problems."""

    def __init__(self, engine: Engine[Any]) -> None:
        self.engine: Any = engine

    def supports(self, problem: Problem) -> bool:
        return bool(self.engine.supports(problem))

    def infer(self, problem: Any, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        post: Posterior = self.engine.infer(problem, logits, label, check)
        return post

    def __repr__(self) -> str:
        return repr(self.engine)
