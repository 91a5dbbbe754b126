"""What problems read of the settings of an engine. The engines themselves are these settings."""

from __future__ import annotations

from typing import Protocol


class LoopySettings(Protocol):
    """How loopy belief propagation is run: see ``em.BeliefPropagation``."""

    @property
    def iterations(self) -> int: ...
    @property
    def damping(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def factors(self) -> str: ...
    @property
    def tolerance(self) -> float: ...


class SamplingSettings(Protocol):
    """How samples are drawn and weighted: see ``em.ABC`` and ``em.Rejection``.

    weighting: "fraction", "exponential", "exact" (only samples that have the label count), or None for what suits the
    problem.
    """

    @property
    def samples(self) -> int: ...
    @property
    def weighting(self) -> str | None: ...
    @property
    def sharpness(self) -> float: ...
    @property
    def scope(self) -> str: ...
    @property
    def target_ess(self) -> float | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def first_row(self) -> int: ...


class ChainSettings(Protocol):
    """How Gibbs chains are run: see ``em.Gibbs``."""

    @property
    def chains(self) -> int: ...
    @property
    def sweeps(self) -> int: ...
    @property
    def penalty(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def first_row(self) -> int: ...
