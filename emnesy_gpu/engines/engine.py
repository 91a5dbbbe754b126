"""The base class of all engines, and the posterior that they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from emnesy_gpu.problems import Problem

P = TypeVar("P")
"""The protocol of the methods that an engine asks of a problem; the file of the engine defines it."""


@dataclass
class Posterior:
    """The result of an E-step; every tensor is a constant (``requires_grad`` is False).

    Attributes:
        marginals: [batch, *latent_shape, cardinality], q_i(v) = p(z_i = v | y, x) or the engine's estimate, float32
            (float64 for float64 logits), probabilities that sum to 1 over the last axis. Where ``possible`` is False
            they are the prior softmax(logits), so that the EM gradient is exactly 0.
        log_evidence: [batch], log p(y | x) in nats, or the engine's estimate or bound; -inf for an impossible label.
        possible: bool [batch], False where the engine finds no assignment of positive probability with this label.
        info: further results by name, most of them tensors [batch]: see the engine.

    >>> import torch, emnesy_gpu as em
    >>> post = em.posterior(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[1, 9]]))   # 9 + 9 = 18
    >>> post.possible.tolist(), post.log_evidence.tolist(), round(post.marginals[0, 0, 0, 0].item(), 3)
    ([False], [-inf], 0.1)
    """

    marginals: Tensor
    log_evidence: Tensor
    possible: Tensor
    info: dict[str, Any] = field(default_factory=dict)


class Engine(ABC, Generic[P]):
    """An E-step strategy.

    A subclass names the methods that it asks of a problem, as a protocol, and turns what they return into a posterior.

    Attributes:
        asks: a protocol without attributes, decorated with ``typing.runtime_checkable``. The engine works for the
            problems whose class has its methods.

    >>> import torch, emnesy_gpu as em
    >>> class Prior(em.Engine):
    ...     asks = object
    ...     def infer(self, problem, logits, label, check):
    ...         possible = torch.ones(len(logits), dtype=torch.bool)
    ...         return em.Posterior(torch.softmax(logits, -1), torch.zeros(len(logits)), possible)
    >>> post = em.posterior(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]), Prior())
    >>> round(post.marginals.max().item(), 3)
    0.1
    """

    asks: ClassVar[type]

    def supports(self, problem: Problem) -> bool:
        """Whether the engine works for this problem."""
        return issubclass(type(problem), self.asks)

    @abstractmethod
    def infer(self, problem: P, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        """Compute the posterior of every row.

        Args:
            problem: one that ``supports`` accepts.
            logits: float [batch, *latent_shape, cardinality], detached, of the right shape, any strides.
            label: int64 [batch, *label_shape] on the same device.
            check: raise ValueError for values that are not allowed: NaN and +inf logits, symbols without a finite
                logit, labels out of range. Without it memory stays safe, and such rows are unspecified.

        Returns:
            ``Posterior``, detached from autograd, on the device of the logits.

        Raises ValueError or UnsupportedEngineError for settings that the problem does not support.
        """

    def __repr__(self) -> str:
        return f"em.{type(self).__name__}()"


class WrappedEngine(Engine[Any]):
    """An engine that changes the arguments or the result of another engine, and works for the same problems."""

    def __init__(self, engine: Engine[Any]) -> None:
        self.engine: Any = engine

    def supports(self, problem: Problem) -> bool:
        return bool(self.engine.supports(problem))

    def infer(self, problem: Any, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        post: Posterior = self.engine.infer(problem, logits, label, check)
        return post

    def __repr__(self) -> str:
        return repr(self.engine)
