"""Constraints and connectives as functions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.automata.machine import Machine
from emnesy_gpu.automata.regex import checked_alphabet, regex_step
from emnesy_gpu.logic.automata import Language, Places, Reader, language, listed
from emnesy_gpu.logic.formulas import FALSE, TRUE, AllDifferent, Columns, Count, Formula, Not, Parity, Truth, as_formula
from emnesy_gpu.logic.symbols import Expression, Symbol, Symbols, as_expression


def not_(formula: Any) -> Formula:
    """That a formula does not hold: ~formula."""
    return Not.of(formula, "formula")


def all_of(*formulas: Any) -> Formula:
    """That all formulas hold: a & b & ...; lists of formulas count as their members."""
    return Count.all_of(_flat(formulas))


def any_of(*formulas: Any) -> Formula:
    """That at least one formula holds: a | b | ..."""
    return Count.any_of(_flat(formulas))


def xor(*formulas: Any) -> Formula:
    """That an odd number of formulas hold: a ^ b ^ ...

    >>> from emnesy_gpu import logic
    >>> bits = logic.symbols(3)
    >>> logic.xor(bits).holds(np.array([[1, 1, 1], [1, 1, 0]])).tolist()
    [True, False]
    """
    return Parity(_flat(formulas))


def implies(condition: Any, conclusion: Any) -> Formula:
    """That the conclusion holds where the condition does: ~condition | conclusion."""
    return Count.any_of([Not.of(condition, "condition"), as_formula(conclusion, "conclusion")])


def iff(a: Any, b: Any) -> Formula:
    """That both formulas hold or none of them."""
    return Not(Parity([as_formula(a, "a"), as_formula(b, "b")]))


def exactly(k: int, formulas: Iterable[Any]) -> Formula:
    """That k of some formulas hold.

    >>> from emnesy_gpu import logic
    >>> z = logic.symbols(4, cardinality=10)
    >>> logic.exactly(2, z == 7).holds(np.array([7, 1, 7, 2])).tolist()
    True
    """
    checks.is_integer("k", k, 0, None)
    parts = _flat([formulas])
    return Count(parts, k, k) if k <= len(parts) else FALSE


def at_least(k: int, formulas: Iterable[Any]) -> Formula:
    """That k of some formulas hold, or more."""
    checks.is_integer("k", k, 0, None)
    parts = _flat([formulas])
    return Count(parts, k, len(parts)) if k <= len(parts) else FALSE


def at_most(k: int, formulas: Iterable[Any]) -> Formula:
    """That k of some formulas hold, or fewer."""
    checks.is_integer("k", k, 0, None)
    return Count(_flat([formulas]), 0, k)


def _flat(members: Iterable[Any], name: str = "formulas") -> list[Any]:
    """The members of an argument, and those of its lists."""
    found: list[Any] = []
    for member in checks.items(name, members, "formulas, symbols or bools"):
        if isinstance(member, Symbols):
            found += member.flat()
        elif isinstance(member, Iterable) and not isinstance(member, (str, bytes)):
            found += _flat(member, name)
        else:
            found.append(member)
    return found


def all_different(terms: Iterable[Any]) -> Formula:
    """That symbols have different values; also symbols times an integer plus an integer, such as z[i] + i.

    States of its automaton: a set of values, so at most 2^(different values).

    >>> from emnesy_gpu import logic
    >>> z = logic.symbols(3, cardinality=3)
    >>> logic.all_different(z).holds(np.array([[0, 2, 1], [0, 2, 0]])).tolist()
    [True, False]
    """
    found = []
    for term in _flat([terms], "terms"):
        expression = as_expression(term, "a term of terms")
        if len(expression.weights) != 1:
            raise ValueError(f"a term of terms must be a symbol, times an integer and plus one, got {expression!r}")
        ((symbol, weight),) = expression.weights.items()
        found.append((symbol, weight, expression.constant))
    return AllDifferent(found) if found else TRUE


def linear(weights: Sequence[int], symbols: Iterable[Any]) -> Expression:
    """The sum of integer weights times symbols; comparisons of it are formulas: linear([2, 3], z) <= 7."""
    terms, factors = _flat([symbols], "symbols"), checks.integers("weights", weights, -(2**40), 2**40)
    if len(factors) != len(terms):
        raise ValueError(f"weights must have one integer for each of {len(terms)} symbols, got {len(factors)}")
    products = (
        as_expression(term, "a symbol of symbols") * weight for weight, term in zip(factors, terms, strict=True)
    )
    return sum(products, Expression({}))


def table(symbols: Iterable[Symbol], rows: Iterable[Sequence[Any]]) -> Formula:
    """That the symbols have the values of one of some rows.

    >>> from emnesy_gpu import logic
    >>> a, b = logic.symbols("a b", cardinality=3)
    >>> logic.table([a, b], [(0, 1), (2, 2)]).holds(np.array([[2, 2], [1, 2]])).tolist()
    [True, False]
    """
    columns = _symbols(symbols)
    found = []
    for row in checks.items("rows", rows, "sequences of values"):
        if not isinstance(row, Sequence):
            raise TypeError(f"rows must be sequences of values, got the row {row!r}")
        if len(row) != len(columns):
            raise ValueError(f"rows of the table must have {len(columns)} values, got {row!r}")
        found.append(tuple(symbol.index(value) for symbol, value in zip(columns, row, strict=True)))
    return Table(columns, found)


def regular(symbols: Iterable[Symbol], rule: Any, alphabet: str | None = None) -> Formula:
    """That the values of the symbols, one after the other, are a word of a language.

    Args:
        symbols: in the order of the word, all different.
        rule: a regular expression over the characters of the alphabet (needs interegular); or an ``em.Automaton`` over
            as many symbols, whose label 0 or 1 says whether the word is in the language; or (step, start, accepts)
            with step(state, value) -> the next state or None, and accepts(last state) -> bool.
        alphabet: a character for each value.

    >>> from emnesy_gpu import logic
    >>> z = logic.symbols(4, cardinality=2)
    >>> logic.regular(z, "a*b*", alphabet="ab").holds(np.array([[0, 0, 1, 1], [0, 1, 0, 0]])).tolist()
    [True, False]
    """
    columns = _symbols(symbols)
    if len({symbol.number for symbol in columns}) < len(columns):
        raise ValueError("regular reads each symbol once: the symbols must be different")
    if isinstance(rule, str):
        if alphabet is None:
            raise TypeError("a regular expression needs an alphabet: a character for each value")
        step, start, accepts = regex_step(rule, checked_alphabet(alphabet))
        largest = max(symbol.cardinality for symbol in columns)
        if len(alphabet) != largest:
            raise ValueError(f"alphabet must have {largest} characters, one for each value, got {alphabet!r}")
        return Regular(columns, Language(step, start, accepts))
    machine = getattr(rule, "machine", None)
    if isinstance(machine, Machine):
        return Regular(columns, _language(machine, len(columns)))
    if not isinstance(rule, tuple) or len(rule) != 3 or not callable(rule[0]) or not callable(rule[2]):
        raise TypeError(f"rule must be a pattern, an em.Automaton or (step, start, accepts), got {rule!r}")
    return Regular(columns, Language(*rule))


def _symbols(symbols: Iterable[Symbol]) -> list[Symbol]:
    found = _flat([symbols], "symbols")
    for symbol in found:
        checks.is_instance("a symbol of symbols", symbol, Symbol, "one that logic.symbols made")
    if not found:
        raise ValueError("symbols must hold at least one symbol, got none")
    return found


def _language(machine: Machine, n_symbols: int) -> Language:
    """The words of an automaton with a label 0 or 1 after its last symbol. States: (position, number)."""
    n = len(machine.layer_of)
    seen = list(machine.observed.items())
    deterministic = all(layer.deterministic for layer in machine.layers) and np.count_nonzero(machine.start) == 1
    if n != n_symbols or not deterministic or len(seen) != 1 or seen[0][0] != n - 1:
        raise ValueError(f"the automaton must read {n_symbols} symbols, with one label after the last and no weights")
    labels, weights = seen[0][1].labels, seen[0][1].weights
    if not set(labels) <= {0, 1}:
        raise ValueError(f"the label of the automaton must be 0 or 1, or a bool, got {labels}")
    accepted = {s for label, row in zip(labels, weights, strict=True) if label for s in np.flatnonzero(row).tolist()}
    tables = [layer.successors(machine.n_values).tolist() for layer in machine.layers]

    def step(state: tuple[int, int], value: int) -> tuple[int, int] | None:
        position, number = state
        after = tables[machine.layer_of[position]][number][value]
        return (position + 1, after) if after >= 0 else None

    return Language(step, (0, int(np.flatnonzero(machine.start)[0])), lambda state: state[1] in accepted)


class Table(Formula):
    """That some symbols have the values of one of some rows of indices."""

    def __init__(self, columns: Sequence[Symbol], rows: Sequence[tuple[int, ...]]) -> None:
        self.columns, self.rows = list(columns), list(rows)

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {symbol.number: symbol for symbol in self.columns}

    def truth(self, values: Columns) -> Truth:
        found = np.stack([values[symbol.number] for symbol in self.columns], -1)
        truth = np.zeros(found.shape[:-1], bool)
        for row in self.rows:
            truth |= (found == row).all(-1)
        return truth

    def reader(self, places: Places) -> Reader:
        positions = sorted(places[number] for number in self.mentioned)
        rows = set()
        for row in self.rows:
            value_at: dict[int, int] = {}
            pairs = [(places[symbol.number], value) for symbol, value in zip(self.columns, row, strict=True)]
            if all(value_at.setdefault(position, value) == value for position, value in pairs):
                rows.add(tuple(value_at[position] for position in positions))
        return listed(positions, sorted(rows))

    def __repr__(self) -> str:
        return f"table({self.columns}, {len(self.rows)} rows)"


class Regular(Formula):
    """That the values of some symbols are a word of a language."""

    def __init__(self, columns: Sequence[Symbol], words: Language) -> None:
        self.columns, self.words = list(columns), words

    @cached_property
    def mentioned(self) -> dict[int, Symbol]:
        return {symbol.number: symbol for symbol in self.columns}

    def truth(self, values: Columns) -> Truth:
        found = np.stack([values[symbol.number] for symbol in self.columns], -1)
        rows = found.reshape(-1, len(self.columns)).tolist()
        return np.array([self._accepts(row) for row in rows], bool).reshape(found.shape[:-1])

    def _accepts(self, word: Sequence[int]) -> bool:
        state: Hashable | None = self.words.start
        for value in word:
            state = self.words.step(state, value)
            if state is None:
                return False
        return bool(self.words.accepts(state))

    def reader(self, places: Places) -> Reader:
        return language([places[symbol.number] for symbol in self.columns], self.words)

    def __repr__(self) -> str:
        return f"regular({self.columns})"
