"""A factor graph as the kernels of every back end receive it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables

PAIR = 0
"""A factor of two variables, with a table."""

CHAIN = 1
"""A factor that reads its variables in order: layers of an automaton that starts and ends in state 0."""

PARITY = 2
"""A factor of variables with two values, whose sum modulo 2 is given."""


SERIAL, FLOODING, RESIDUAL = "serial", "flooding", "residual"
"""Schedules: factors in their order, all at once, or each time the one whose incoming messages changed most."""


class FactorGraphTables(NamedTuple):
    """Everything on one device. n variables of K values at most, F factors, E edges, T tables, U updates.

    An edge joins a factor and one of its variables; those of a factor are consecutive.

    size: int32 [n], the values of each variable; values beyond do not exist. unary: float64 [n, K], weights of
    values, the largest of each variable 1, and 0 for values that do not exist. log_scale: float64 [1], the logarithm of
    what was divided out of unary weights and pairs.
    kind: int32 [F], PAIR, CHAIN or PARITY. first: int32 [F + 1], the first edge of each factor. variable: int32 [E].
    which: int32 [F], of a PAIR its table, of a CHAIN the position of its first edge among ``layer`` of the automata, of
    a PARITY the sum modulo 2. pairs: float64 [T, K, K], weights by the values of the first and the second variable, the
    largest 1, and 0 for values that do not exist.
    incident: int32 [E], the edges in the order of their variables. incident_first: int32 [n + 1].
    order: int32 [U], the factors as a serial sweep renews them: each once, or from the leaves of a tree to its root and
    back.

    For kernels that renew many factors at once: waves: int32 [W, T], the same updates in rows of factors of one kind
    that share no variable, -1 behind the last; a row after the other gives the messages of ``order``. T is a power of
    two. flood: int32 [V, T], all factors once, in rows of one kind. wave_sizes, flood_sizes: int32 [W, 4], [V, 4], of
    each row the kind, the most variables of a factor, the most factors of a variable, and the most edges of a layer.
    arities: int32 [A + 1], how many factors have 0, 1, ..., A variables.

    For the residual schedule: owner: int32 [E], the factor of each edge. factor_sizes: int32 [F, 4], of each factor
    what wave_sizes have of a wave.
    """

    size: Tensor
    unary: Tensor
    log_scale: Tensor
    kind: Tensor
    first: Tensor
    variable: Tensor
    which: Tensor
    pairs: Tensor
    incident: Tensor
    incident_first: Tensor
    order: Tensor
    waves: Tensor
    wave_sizes: Tensor
    flood: Tensor
    flood_sizes: Tensor
    arities: Tensor
    owner: Tensor
    factor_sizes: Tensor


class Compiled(NamedTuple):
    """A graph, and the layers of its chains: one automaton whose positions are the edges of all chains in order."""

    graph: FactorGraphTables
    chains: AutomatonTables

    @classmethod
    def from_list(cls, tables: Sequence[Tensor]) -> Compiled:
        """From all tensors in one list, as operators receive them."""
        n = len(FactorGraphTables._fields)
        return cls(FactorGraphTables(*tables[:n]), AutomatonTables(*tables[n:]))

    def to_list(self) -> list[Tensor]:
        return [*self.graph, *self.chains]

    def to(self, device: torch.device) -> Compiled:
        return Compiled(FactorGraphTables(*(table.to(device) for table in self.graph)), self.chains.to(device))


class LabelDigits(NamedTuple):
    """Symbols that hold digits of labels: int64 [E], of each the entry, how many labels that has, the power of K."""

    entry: Tensor
    n_labels: Tensor
    power: Tensor
    base: int  # K

    def values(self, label: Tensor) -> Tensor:
        """int64 [..., E] of labels [..., P]; those of labels that are not given are unspecified."""
        return label[..., self.entry] // self.power % self.base

    def is_known(self, label: Tensor) -> Tensor:
        """Which labels exist, or are not given (-1): bool [..., E]."""
        found = label[..., self.entry]
        return (found >= -1) & (found < self.n_labels)


BROKEN = 2
"""What a label that is neither 1 (all factors hold) nor -1 (not given) becomes: it is out of range."""


def held(label: Tensor) -> Tensor:
    """int64 [batch]: 1 for the labels that a graph has, which mean the same, and BROKEN for others."""
    return torch.where((label == 1) | (label == -1), 1, BROKEN)
