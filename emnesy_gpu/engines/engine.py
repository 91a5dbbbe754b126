"""The base classes of all engines."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.philox import seed_of_step
from emnesy_gpu.problems import Problem

if TYPE_CHECKING:
    from typing_extensions import Self

P = TypeVar("P")
"""The protocol of the methods that an engine asks of a problem; the file of the engine defines it."""


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

    def obstacle(self, problem: Problem) -> str:
        """Why the engine does not work for this problem, for errors; "" where nothing more is known."""
        return f"The problem is too large for exact inference: {problem.limit}" if problem.limit else ""

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

    def at_step(self, step: int, rows_before: int = 0) -> Self:
        """The engine for one step of training: with samples of its own, where it draws samples; otherwise itself.

        step: counted from 0. rows_before: rows of the same step that stand before this batch, on other ranks.
        """
        return self

    def after_rows(self, rows: int) -> Self:
        """The engine for a batch behind so many rows of a larger one: it draws the samples of its rows there."""
        return self

    def __repr__(self) -> str:
        return f"em.{type(self).__name__}()"


class SeededEngine(Engine[P]):
    """An engine that is a dataclass with the fields ``seed`` and ``first_row``."""

    seed: int
    first_row: int

    def _check_stream(self) -> None:
        """Raise TypeError or ValueError unless the seed and the first row are integers in 0..2**63-1."""
        checks.is_integer("seed", self.seed, 0, checks.LARGEST_SEED)
        checks.is_integer("first_row", self.first_row, 0, checks.LARGEST_SEED)

    def at_step(self, step: int, rows_before: int = 0) -> Self:
        """The same engine with the seed of a step, ``philox.seed_of_step(seed, step)``, and its first row moved on.

        >>> import emnesy_gpu as em
        >>> first, second = (em.Gibbs(seed=1).at_step(step) for step in (0, 1))
        >>> first.seed != second.seed, first == em.Gibbs(seed=1).at_step(0)
        (True, True)
        """
        checks.is_integer("step", step, 0, checks.LARGEST_SEED)
        checks.is_integer("rows_before", rows_before, 0, checks.LARGEST_SEED)
        moved: Self = replace(self, seed=seed_of_step(self.seed, step))  # type: ignore[type-var]
        return moved.after_rows(rows_before)

    def after_rows(self, rows: int) -> Self:
        checks.is_integer("rows", rows, 0, checks.LARGEST_SEED)
        return replace(self, first_row=self.first_row + rows)  # type: ignore[type-var]


class WrappedEngine(Engine[Any]):
    """An engine that changes the arguments or the result of another engine, and works for the same problems."""

    def __init__(self, engine: Engine[Any]) -> None:
        checks.is_instance("engine", engine, Engine, "an Engine such as em.Exact()")
        self.engine: Any = engine

    def supports(self, problem: Problem) -> bool:
        return bool(self.engine.supports(problem))

    def obstacle(self, problem: Problem) -> str:
        return str(self.engine.obstacle(problem))

    def at_step(self, step: int, rows_before: int = 0) -> Self:
        return self._around(self.engine.at_step(step, rows_before))

    def after_rows(self, rows: int) -> Self:
        return self._around(self.engine.after_rows(rows))

    def _around(self, engine: Engine[Any]) -> Self:
        if engine is self.engine:
            return self
        moved = copy.copy(self)
        moved.engine = engine
        return moved

    def infer(self, problem: Any, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        post: Posterior = self.engine.infer(problem, logits, label, check)
        return post

    def __repr__(self) -> str:
        return repr(self.engine)


def layers(engine: Engine[Any]) -> list[Engine[Any]]:
    """The engine, and those inside of it where it is a ``WrappedEngine``, the outermost first."""
    found = [engine]
    while isinstance(found[-1], WrappedEngine):
        found.append(found[-1].engine)
    return found
