"""The rules of the task, each an automaton, and what their labels say about the digits.

A rule identifies the digits if no exchange of classes keeps the label of every row. All rules here do, with one
exception: parity with an even number of images stays the same when 0 and 1 are swapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import emnesy_gpu as em

N_DIGITS = 10


class Rule(NamedTuple):
    """One rule of the task."""

    automaton: Callable[[int], em.Automaton]
    """Symbols -> the problem."""
    symbols: int
    """Symbols by default."""
    fixed: bool = False
    """Whether it has no other number of symbols."""


def sort(n_symbols: int) -> em.Automaton:
    """The digits in ascending order: (2, 2, 7) for 7, 2, 2.

    The label says which digits a row has, and not where. How every digit stands to the one before it, <, = or >, needs
    fewer states and identifies the digits too. But in trials EM on it ended where two classes were merged and another
    was split, which keeps the order of most pairs.
    """
    return em.Automaton(lambda state, digit: tuple(sorted((*state, digit))), (), tuple, n_symbols, N_DIGITS)


def multiply_add(n_symbols: int) -> em.Automaton:
    """The number a * b + c of three digits."""

    def step(state: int, digit: int, position: int) -> int:
        return state * digit if position == 1 else state + digit

    return em.Automaton(step_at=step, label=lambda state: state, n_symbols=n_symbols, cardinality=N_DIGITS)


KNOWN_RULES = {
    "maximum": Rule(lambda n: em.rules.maximum(n, N_DIGITS), symbols=2),
    "parity": Rule(em.rules.parity, symbols=3),
    "sort": Rule(sort, symbols=3),
    "multiply-add": Rule(multiply_add, symbols=3, fixed=True),
}
"""Name on the command line -> rule; the command takes the first by default."""


def automaton(rule: str, n_symbols: int) -> em.Automaton:
    """Return the problem of a rule; raises ValueError for a number of symbols that the rule cannot have."""
    found = KNOWN_RULES[rule]
    if found.fixed and n_symbols != found.symbols:
        raise ValueError(f"rule {rule} needs {found.symbols} symbols, got {n_symbols}: leave out --symbols")
    return found.automaton(n_symbols)
