"""What a factor says about its variables once their numbers of values are known: a table, a chain, or a parity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.compile import compile_step_at
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.automata.machine import Machine, is_ambiguous
from emnesy_gpu.factor_graphs.chains import Chain, Floats, chain_of_machine, chain_of_table, table_of_chain

Sizes = tuple[int, ...]
"""The number of values of each variable of a factor."""

MAX_STATES = 1 << 20
"""States of a factor after any of its variables."""

MOST_LISTED = 1 << 14
"""Assignments of a factor that are listed one by one."""


@dataclass(frozen=True)
class Table:
    """Weights of all assignments of one or two variables, float64 [k_1] or [k_1, k_2]."""

    weights: Floats


@dataclass(frozen=True)
class Layers:
    """A chain."""

    chain: Chain


@dataclass(frozen=True)
class Parity:
    """The sum of variables with two values, modulo 2."""

    remainder: int


Potential = Table | Layers | Parity


class Rule(NamedTuple):
    """An automaton: step_at(state, value, position) -> state or None, and the weight of each last state, or a bool."""

    step_at: Callable[[Any, int, int], Any]
    start: Any
    weight: Callable[[Any], float | bool]


class Observed(NamedTuple):
    """The labels 0..n - 1 of a factor, and the rule that gives those of symbols; None if there is none.

    has_sum: the factor has a further label n, whose weights are the sums of those of all labels. It stands for a label
    that is not given where symbols may have several, so that a search weighs symbols and not symbols with a label.
    """

    n: int
    rule: Any
    has_sum: bool = False

    def n_digits(self, base: int) -> int:
        """How many symbols with ``base`` values, at least 2, tell the labels apart."""
        digits = 1
        while base**digits < self.n + self.has_sum:
            digits += 1
        return digits


class Factor:
    """A factor that can be added to a graph, for any variables that it fits: ``em.factors`` makes them.

    name: as it was written, for errors. make: the sizes of the variables -> a potential; it raises ValueError for
    sizes that it does not fit. hard: whether every weight is 0 or 1. reads: the order in which the variables of a scope
    are read, where it is another one. observed: what is said of its label, if that is data: then the digits of the
    label are read after the variables of the scope.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Sizes], Potential],
        *,
        hard: bool,
        reads: Sequence[int] | None = None,
        observed: Observed | None = None,
    ) -> None:
        self.name, self.hard, self.reads, self.observed = name, hard, reads, observed
        self._make, self._made = make, dict[Sizes, Potential]()

    def __repr__(self) -> str:
        return f"em.factors.{self.name}"

    def bind(self, sizes: Sizes) -> Potential:
        """The potential of variables of these sizes."""
        if sizes not in self._made:
            found = small(self._make(sizes), sizes)
            if not (found.weights.any() if isinstance(found, Table) else isinstance(found, Parity) or found.chain):
                raise ValueError(f"{self!r} forbids every assignment of variables with {sizes} values")
            self._made[sizes] = found
        return self._made[sizes]


def small(potential: Potential, sizes: Sizes) -> Potential:
    """One or two variables have a table, whatever the factor is."""
    if len(sizes) > 2 or isinstance(potential, Table):
        return potential
    if isinstance(potential, Layers):
        return Table(table_of_chain(potential.chain, sizes)) if potential.chain else potential
    sums = np.indices(sizes).sum(0)
    return Table((sums % 2 == potential.remainder).astype(np.float64))


def of_one_path(potential: Potential, sizes: Sequence[int]) -> Potential:
    """The same weights, where an assignment takes several paths of a chain by one path; as it is where it need not.

    Chains of more than ``MOST_LISTED`` assignments are left as they are.
    """
    if not isinstance(potential, Layers) or prod(sizes) > MOST_LISTED:
        return potential
    ends = np.ones(1, bool)
    several = is_ambiguous(potential.chain, ends, ends)
    return Layers(chain_of_table(table_of_chain(potential.chain, sizes))) if several else potential


def of_rule(rule: Rule, sizes: Sizes) -> Potential:
    """The trimmed and minimal chain of a rule."""

    def label(state: Any) -> dict[bool, float] | None:
        weight = float(rule.weight(state))
        return {True: weight} if weight > 0 else None

    try:
        machine = compile_step_at(rule.step_at, rule.start, sizes, Observer(label, None, (True,)), MAX_STATES)
    except ValueError as error:
        if "forbids every" in str(error):
            return Layers(())
        raise
    return Layers(chain_of_machine(machine, label_weights(machine, 0)))


def label_weights(machine: Machine, label: int) -> Floats:
    """float64 [S]: the weight of each last state given a label, by its index."""
    return machine.observed[len(machine.layer_of) - 1].weights[label]


def of_table(weights: NDArray[np.float64], sizes: Sizes, name: str) -> Potential:
    if weights.shape != sizes:
        raise ValueError(f"{name} has the shape {weights.shape}, but its variables have {sizes} values")
    return Table(weights) if len(sizes) <= 2 else Layers(chain_of_table(weights))


def arity_is(name: str, sizes: Sizes, arity: int) -> None:
    """Raise ValueError for a scope of another length."""
    if len(sizes) != arity:
        raise ValueError(f"{name} takes {arity} variables, got a scope of {len(sizes)}")


def checked_weights(name: str, weights: Any) -> Floats:
    """A float64 array of its own; raises TypeError and ValueError for what is no table of weights >= 0, one above 0."""
    try:
        array = np.asarray(weights, np.float64).copy()
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from error
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must have an axis for each variable, and values on each, got shape {array.shape}")
    wrong = ~((array >= 0) & (array < np.inf))
    if wrong.any():
        where = tuple(int(index[0]) for index in np.nonzero(wrong))
        raise ValueError(f"{name}{list(where)} must be a finite number >= 0, got {array[where]}")
    if not (array > 0).any():
        raise ValueError(f"{name} must have a weight above 0")
    return array


def is_hard(weights: Floats) -> bool:
    return bool(np.isin(weights, (0.0, 1.0)).all())


def checked_scopes(name: str, scopes: Any, n_variables: int) -> NDArray[np.int64]:
    """int64 [number of scopes, arity] from one scope or many of equal length."""
    try:
        array = np.asarray(scopes)
    except ValueError as error:
        raise ValueError(
            f"the scopes of {name} must have one length: add scopes of each length by themselves"
        ) from error
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.size == 0:
        raise TypeError(f"the scope of {name} must be variables, or a list of scopes, got {_shown(scopes)}")
    array = array.reshape(-1, array.shape[-1]).astype(np.int64)
    outside = (array < 0) | (array >= n_variables)
    if outside.any():
        raise ValueError(f"the scope of {name} must be variables in 0..{n_variables - 1}, got {array[outside][0]}")
    ordered = np.sort(array, 1)
    again = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if again.any():
        raise ValueError(f"the scope of {name} must have different variables, got {array[again][0].tolist()}")
    return array


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
