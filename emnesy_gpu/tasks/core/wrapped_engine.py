"""The base class of engines that change what another engine is given or what it returns."""

from __future__ import annotations

from typing import Any

import emnesy_gpu as em


class Wrapped(em.Engine):
    """An engine around another one; it works for the same problems and shows itself as the engine inside.

    A subclass defines ``infer``, which calls ``self.engine.infer`` or takes its place.

    Args:
        engine: the engine inside.
    """

    def __init__(self, engine: em.Engine) -> None:
        self.engine: Any = engine
        self.inference = engine.inference  # type: ignore[misc]

    def supports(self, problem: em.Problem) -> bool:
        """Whether the engine inside works for a problem."""
        return problem.supports(self.engine.inference)

    def __repr__(self) -> str:
        return repr(self.engine)
