"""What a formula is: a tree of connectives over constraints, each with a meaning on arrays and a small automaton."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.logic.automata import Places, Reader, counting, different_values, one_of, sum_within, whole
from emnesy_gpu.logic.clauses import Encoder
from emnesy_gpu.logic.compile import to_graph

if TYPE_CHECKING:
    from emnesy_gpu.circuits.graph import Graph
    from emnesy_gpu.logic.symbols import Symbol, Universe

Columns = Mapping[int, NDArray[np.int64]]
"""The values of each symbol, by its number, for many assignments."""

Truth = NDArray[np.bool_]

A_FORMULA = "a formula of formulas"


class Operators:
    """The operators of formulas, also for symbols with two values."""

    def as_formula(self) -> Formula:
        raise NotImplementedError

    def __and__(self, other: Any) -> Formula:
        return Count.all_of([self, other], "an operand of &")

    def __or__(self, other: Any) -> Formula:
        return Count.any_of([self, other], "an operand of |")

    def __xor__(self, other: Any) -> Formula:
        return Parity([self, other], "an operand of ^")

    def __invert__(self) -> Formula:
        return Not.of(self, "the operand of ~")

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is neither true nor false before its symbols have values: write &, | and ~ in place of and, or "
            "and not, and no chains such as a < b < c"
        )


def as_formula(value: Any, name: str) -> Formula:
    """A formula, a symbol with two values, or a bool. Raises TypeError for anything else; name: of the argument."""
    if isinstance(value, Operators):
        return value.as_formula()
    if isinstance(value, (bool, np.bool_)):
        return TRUE if value else FALSE
    raise TypeError(f"{name} must be a formula, a symbol or a bool, got {value!r}")


class Formula(Operators, ABC):
    """What may hold of symbols; ``em.Circuit(formula)`` makes a problem of it."""

    def as_formula(self) -> Formula:
        return self

    @cached_property
    @abstractmethod
    def mentioned(self) -> dict[int, Symbol]:
        """The symbols that the formula speaks of, by their numbers."""

    @abstractmethod
    def truth(self, values: Columns) -> Truth:
        """Whether it holds for each assignment."""

    @abstractmethod
    def reader(self, places: Places) -> Reader:
        """Its automaton over the symbols at these places."""

    def literal(self, encoder: Encoder) -> int:
        """A literal that is true where the formula holds; its definition goes into the clauses of the encoder."""
        return encoder.automaton(self.reader(encoder.places))

    def demand(self, encoder: Encoder) -> list[list[int]]:
        """Clauses of which all hold where the formula holds."""
        return [[encoder.literal(self)]]

    @cached_property
    def universes(self) -> list[Universe]:
        found = {symbol.universe.symbols[0].number: symbol.universe for symbol in self.mentioned.values()}
        return [found[number] for number in sorted(found)]

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols that were made together with those of the formula."""
        return tuple(symbol for universe in self.universes for symbol in universe.symbols)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """That of the symbols where one call made them all, else (number of symbols,)."""
        return self.universes[0].shape if len(self.universes) == 1 else (len(self.symbols),)

    @property
    def cardinality(self) -> int:
        return max(symbol.cardinality for symbol in self.symbols)

    def holds(self, z: Any) -> Any:
        """Whether the formula holds: integers [..., *latent_shape] -> bool [...], an array or a tensor as z is.

        >>> from emnesy_gpu import logic
        >>> a, b = logic.symbols("a b", cardinality=3)
        >>> (a + b == 2).holds(np.array([[0, 2], [2, 2]])).tolist()
        [True, False]
        """
        try:
            array = z.cpu().numpy() if isinstance(z, torch.Tensor) else np.asarray(z)
        except (TypeError, ValueError) as error:  # lists of different lengths, sparse tensors
            raise TypeError(f"z must be an array of integers: {error}") from error
        lead = array.ndim - len(self.latent_shape)
        if lead < 0 or array.shape[lead:] != self.latent_shape or array.dtype.kind not in "iu":
            shape = ", ".join(["...", *map(str, self.latent_shape)])
            raise ValueError(f"z must be integers of shape [{shape}], got {array.dtype} {list(array.shape)}")
        columns = array.reshape(*array.shape[:lead], len(self.symbols)).astype(np.int64)
        values = {symbol.number: columns[..., index] for index, symbol in enumerate(self.symbols)}
        truth = np.broadcast_to(self.truth(values), array.shape[:lead]).copy()
        return torch.from_numpy(truth).to(z.device) if isinstance(z, torch.Tensor) else truth

    @cached_property
    def _in_order(self) -> Reader:
        return whole(self.reader({symbol.number: place for place, symbol in enumerate(self.symbols)}))

    @property
    def start(self) -> Hashable:
        """The state before the first of ``symbols``, for ``step_at``."""
        return self._in_order.start

    def step_at(self, state: Hashable, value: int, position: int) -> Hashable:
        """The state after one more of ``symbols`` in their order: True and False where it is decided.

        >>> from emnesy_gpu import logic
        >>> a, b = logic.symbols("a b")
        >>> both = a & b
        >>> both.step_at(both.start, 0, 0), both.step_at(both.step_at(both.start, 1, 0), 1, 1)
        (False, True)
        """
        return self._in_order.step(state, value, position)

    def graph(self, **settings: Any) -> Graph:
        """The circuit of the formula; settings as for ``logic.to_graph``."""
        return to_graph(self, **settings).graph


class Constant(Formula):
    """True or False."""

    def __init__(self, value: bool) -> None:
        self.value = value

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {}

    def truth(self, values: Columns) -> Truth:
        return np.array(self.value)

    def reader(self, places: Places) -> Reader:
        return Reader((), self.value, lambda state, value, position: state)

    def literal(self, encoder: Encoder) -> int:
        return encoder.constant(self.value)

    def __repr__(self) -> str:
        return str(self.value)


TRUE, FALSE = Constant(True), Constant(False)


class Not(Formula):
    """That a formula does not hold."""

    def __init__(self, part: Formula) -> None:
        self.part = part

    @classmethod
    def of(cls, value: Any, name: str) -> Formula:
        part = as_formula(value, name)
        if isinstance(part, Constant):
            return FALSE if part.value else TRUE
        return part.part if isinstance(part, Not) else cls(part)

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return self.part.mentioned

    def truth(self, values: Columns) -> Truth:
        return ~self.part.truth(values)

    def reader(self, places: Places) -> Reader:
        inner = self.part.reader(places)

        def step(state: Hashable, value: int, position: int) -> Hashable:
            after = inner.step(state, value, position)
            return not after if isinstance(after, bool) else after

        start = not inner.start if isinstance(inner.start, bool) else inner.start
        return Reader(inner.positions, start, step)

    def literal(self, encoder: Encoder) -> int:
        return -encoder.literal(self.part)

    def __repr__(self) -> str:
        return f"~{_in_brackets(self.part)}"


class Several(Formula):
    """A connective of several formulas; name: what errors call one of them."""

    def __init__(self, parts: Iterable[Any], name: str = A_FORMULA) -> None:
        self.parts = [as_formula(part, name) for part in parts]

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {number: symbol for part in self.parts for number, symbol in part.mentioned.items()}

    def n_true(self, values: Columns) -> NDArray[np.int64]:
        total = np.zeros((), np.int64)
        for part in self.parts:
            total = total + part.truth(values)
        return total


class Count(Several):
    """That between low and high of some formulas hold: all of them, one of them, ..."""

    def __init__(self, parts: Iterable[Any], low: int, high: int) -> None:
        super().__init__(parts)
        self.low, self.high = max(low, 0), min(high, len(self.parts))

    @classmethod
    def all_of(cls, parts: Iterable[Any], name: str = A_FORMULA) -> Formula:
        found = [as_formula(part, name) for part in parts]
        flat = [inner for part in found for inner in (part.parts if _is_all(part) else [part])]  # type: ignore[attr-defined]
        return cls(flat, len(flat), len(flat))

    @classmethod
    def any_of(cls, parts: Iterable[Any], name: str = A_FORMULA) -> Formula:
        found = [as_formula(part, name) for part in parts]
        flat = [inner for part in found for inner in (part.parts if _is_any(part) else [part])]  # type: ignore[attr-defined]
        return cls(flat, 1, len(flat))

    def truth(self, values: Columns) -> Truth:
        n_true = self.n_true(values)
        return (n_true >= self.low) & (n_true <= self.high)

    def reader(self, places: Places) -> Reader:
        def decided(n_true: int, n_open: int) -> bool | None:
            if n_true > self.high or n_true + n_open < self.low:
                return False
            return True if n_true >= self.low and n_true + n_open <= self.high else None

        return counting([part.reader(places) for part in self.parts], decided)

    def literal(self, encoder: Encoder) -> int:
        literals = [encoder.literal(part) for part in self.parts]
        if self.low == len(literals):
            return -encoder.either([-literal for literal in literals])
        if self.low <= 1 and self.high == len(literals):
            return encoder.either(literals) if self.low else encoder.constant(True)
        return encoder.count(literals, self.low, self.high)

    def demand(self, encoder: Encoder) -> list[list[int]]:
        if self.low == len(self.parts):
            return [clause for part in self.parts for clause in part.demand(encoder)]
        if self.low == 1 and self.high == len(self.parts):
            return [[encoder.literal(part) for part in self.parts]]
        return super().demand(encoder)

    def __repr__(self) -> str:
        if _is_all(self) or _is_any(self):
            return (" & " if _is_all(self) else " | ").join(map(_in_brackets, self.parts)) or str(_is_all(self))
        return f"{self.low} <= count({', '.join(map(repr, self.parts))}) <= {self.high}"


def _is_all(formula: Formula) -> bool:
    return isinstance(formula, Count) and formula.low == len(formula.parts) != 1


def _is_any(formula: Formula) -> bool:
    return isinstance(formula, Count) and formula.low == 1 and formula.high == len(formula.parts) != 1


class Parity(Several):
    """That an odd number of some formulas hold."""

    def truth(self, values: Columns) -> Truth:
        return self.n_true(values) % 2 == 1

    def reader(self, places: Places) -> Reader:
        def decided(n_true: int, n_open: int) -> bool | None:
            return None if n_open else n_true % 2 == 1

        return counting([part.reader(places) for part in self.parts], decided, modulus=2)

    def literal(self, encoder: Encoder) -> int:
        return encoder.parity([encoder.literal(part) for part in self.parts])

    def __repr__(self) -> str:
        return " ^ ".join(map(_in_brackets, self.parts)) or "False"


class OneOf(Formula):
    """That a symbol has one of some values, given by their indices."""

    def __init__(self, symbol: Symbol, indices: Iterable[int]) -> None:
        self.symbol, self.indices = symbol, frozenset(indices)

    @classmethod
    def of(cls, symbol: Symbol, indices: Iterable[int]) -> Formula:
        """The constraint; it mentions the symbol even where all values or none of them are allowed."""
        return cls(symbol, indices)

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {self.symbol.number: self.symbol}

    def truth(self, values: Columns) -> Truth:
        return np.isin(values[self.symbol.number], list(self.indices))

    def reader(self, places: Places) -> Reader:
        return one_of(places[self.symbol.number], self.indices, self.symbol.cardinality)

    def literal(self, encoder: Encoder) -> int:
        return encoder.one_of(self.symbol.number, self.indices)

    def __repr__(self) -> str:
        names = [repr(self.symbol.universe.values[index]) for index in sorted(self.indices)]
        return f"{self.symbol} == {names[0]}" if len(names) == 1 else f"{self.symbol} in {{{', '.join(names)}}}"


class SumWithin(Formula):
    """low <= weights[0] z_0 + weights[1] z_1 + ... <= high; None: no bound."""

    def __init__(self, weights: Mapping[Symbol, int], low: int | None, high: int | None) -> None:
        self.weights, self.low, self.high = dict(weights), low, high

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {symbol.number: symbol for symbol in self.weights}

    def truth(self, values: Columns) -> Truth:
        total = sum(weight * values[symbol.number] for symbol, weight in self.weights.items())
        truth = np.ones(np.shape(total), bool)
        if self.low is not None:
            truth &= total >= self.low
        if self.high is not None:
            truth &= total <= self.high
        return truth

    def reader(self, places: Places) -> Reader:
        terms = sorted((places[symbol.number], weight, symbol.cardinality) for symbol, weight in self.weights.items())
        return sum_within(terms, self.low, self.high)

    def __repr__(self) -> str:
        total = " + ".join(
            f"{'' if weight == 1 else f'{weight} * '}{symbol}" for symbol, weight in self.weights.items()
        )
        if self.low == self.high:
            return f"{total} == {self.low}"
        below, above = f" <= {self.high}" if self.high is not None else "", f"{self.low} <= " * (self.low is not None)
        return f"{above}{total}{below}"


class AllDifferent(Formula):
    """That weight * z + constant is different for all of some symbols."""

    def __init__(self, terms: Sequence[tuple[Symbol, int, int]]) -> None:
        self.terms = list(terms)

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {symbol.number: symbol for symbol, _, _ in self.terms}

    def truth(self, values: Columns) -> Truth:
        found = [weight * values[symbol.number] + constant for symbol, weight, constant in self.terms]
        table = np.sort(np.stack(found, -1), -1)
        return (np.diff(table, axis=-1) != 0).all(-1)

    def reader(self, places: Places) -> Reader:
        return different_values(
            sorted(
                (places[symbol.number], [weight * value + constant for value in range(symbol.cardinality)])
                for symbol, weight, constant in self.terms
            )
        )

    def demand(self, encoder: Encoder) -> list[list[int]]:
        values: dict[int, list[int]] = {}
        for symbol, weight, constant in self.terms:
            for index in range(symbol.cardinality):
                literal = encoder.one_of(symbol.number, frozenset([index]))
                values.setdefault(weight * index + constant, []).append(literal)
        return [[-a, -b] for literals in values.values() for a, b in combinations(literals, 2)]

    def __repr__(self) -> str:
        return f"all_different({', '.join(map(str, self.mentioned.values()))})"


def _in_brackets(formula: Formula) -> str:
    return repr(formula) if isinstance(formula, (Not, Constant, AllDifferent)) else f"({formula!r})"
