"""The settings that problems read from an engine. The engines themselves implement these protocols.

``Passing``, ``Sampling`` and ``Chaining`` are the same settings without their engine, inside an operator.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class LoopySettings(Protocol):
    """Settings of loopy belief propagation: see ``em.BeliefPropagation``."""

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
    """Settings of weighted samples: see ``em.ABC`` and ``em.Rejection``.

    weighting: "fraction", "exponential", "exact" (weight 1 for samples that have the label, else 0), or None for the
    one that suits the problem.
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
    """Settings of Gibbs chains: see ``em.Gibbs``."""

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


class Passing(NamedTuple):
    """``LoopySettings`` by themselves."""

    iterations: int
    damping: float
    schedule: str
    factors: str
    tolerance: float


class Sampling(NamedTuple):
    """``SamplingSettings`` by themselves."""

    samples: int
    weighting: str | None
    sharpness: float
    scope: str
    target_ess: float | None
    seed: int
    first_row: int


class Chaining(NamedTuple):
    """``ChainSettings`` by themselves."""

    chains: int
    sweeps: int
    penalty: float
    seed: int
    first_row: int
