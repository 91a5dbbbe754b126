"""Formulas as clauses, for knowledge compilers: every new variable is a function of the symbols.

That makes new variables harmless: each assignment of the symbols has one extension to them, so they count 1 in sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emnesy_gpu.automata.compile import compile_step_at
from emnesy_gpu.automata.explore import MAX_STATES
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.automata.machine import DEAD
from emnesy_gpu.logic.automata import Places, Reader, counting, one_of

if TYPE_CHECKING:
    from emnesy_gpu.logic.formulas import Formula

NAMES = (False, True)


class Encoder:
    """Clauses that define literals. Variables: one for each value of each symbol, or one for a bit; then new ones.

    places: the position of each symbol, by its number. cardinalities: of the symbol at each position.
    """

    def __init__(self, places: Places, cardinalities: Sequence[int]) -> None:
        self.places = places
        self.clauses: list[list[int]] = []
        self.meaning: dict[int, tuple[int, int]] = {}
        self.values = [self._values(position, k, max(cardinalities)) for position, k in enumerate(cardinalities)]
        self.n_variables = len(self.meaning)
        self._known: dict[int, tuple[Formula, int]] = {}
        self._constant = 0

    def _values(self, position: int, n_values: int, largest: int) -> list[int]:
        """The literals that say which value a symbol has."""
        first = len(self.meaning) + 1
        if largest <= 2:
            self.meaning[first] = (position, 1)
            return [-first, first][:n_values]
        self.meaning |= {first + value: (position, value) for value in range(n_values)}
        return list(range(first, first + n_values))

    def literal(self, formula: Formula) -> int:
        """A literal that is true where the formula holds; the same one for the same formula."""
        if id(formula) not in self._known:
            self._known[id(formula)] = formula, formula.literal(self)
        return self._known[id(formula)][1]

    def new(self) -> int:
        self.n_variables += 1
        return self.n_variables

    def constant(self, value: bool) -> int:
        if not self._constant:
            self._constant = self.new()
            self.clauses.append([self._constant])
        return self._constant if value else -self._constant

    def either(self, literals: Sequence[int]) -> int:
        """That at least one literal is true."""
        if not literals:
            return self.constant(False)
        if len(literals) == 1:
            return literals[0]
        found = self.new()
        self.clauses.append([-found, *literals])
        self.clauses += [[found, -literal] for literal in literals]
        return found

    def parity(self, literals: Sequence[int]) -> int:
        """That an odd number of literals are true."""
        if not literals:
            return self.constant(False)
        found = literals[0]
        for literal in literals[1:]:
            odd = self.new()
            self.clauses += [[-odd, found, literal], [-odd, -found, -literal]]
            self.clauses += [[odd, -found, literal], [odd, found, -literal]]
            found = odd
        return found

    def one_of(self, number: int, values: frozenset[int]) -> int:
        """That a symbol has one of some values."""
        own = self.values[self.places[number]]
        chosen = [own[value] for value in sorted(values)]
        if len(chosen) in (0, len(own)):
            return self.constant(bool(chosen))
        if len(own) - len(chosen) == 1:
            return -next(literal for literal in own if literal not in chosen)
        return self.either(chosen)

    def count(self, literals: Sequence[int], low: int, high: int) -> int:
        """That between low and high literals are true."""
        parts = [one_of(position, frozenset([1]), 2) for position in range(len(literals))]

        def decided(n_true: int, n_open: int) -> bool | None:
            if n_true > high or n_true + n_open < low:
                return False
            return True if n_true >= low and n_true + n_open <= high else None

        return self._run(counting(parts, decided), [[-literal, literal] for literal in literals])

    def automaton(self, reader: Reader) -> int:
        """That an automaton over symbols accepts."""
        place = {position: index for index, position in enumerate(reader.positions)}
        positions = list(place)

        def step(state: object, value: int, index: int) -> object:
            return state if isinstance(state, bool) else reader.step(state, value, positions[index])

        return self._run(Reader(tuple(range(len(place))), reader.start, step), [self.values[at] for at in positions])

    def _run(self, reader: Reader, literals: Sequence[Sequence[int]]) -> int:
        """literals: for each position that the automaton reads, those of the values."""
        if isinstance(reader.start, bool):
            return self.constant(reader.start)
        observer = Observer(lambda state: state, None, NAMES)
        machine = compile_step_at(reader.step, reader.start, [len(row) for row in literals], observer, MAX_STATES)
        states = [self.constant(True)]
        for layer, row in zip(machine.layer_of, literals, strict=True):
            states = self._layer(machine.layers[layer].successors(machine.n_values).tolist(), states, row)
        accepting = machine.observed[len(literals) - 1].weights[NAMES.index(True)]
        return self.either([state for state, accepts in zip(states, accepting, strict=True) if accepts])

    def _layer(self, successors: list[list[int]], states: Sequence[int], values: Sequence[int]) -> list[int]:
        """Literals of the states after a symbol. Exactly one of those before is true, and exactly one value."""
        n_after = 1 + max(target for row in successors for target in row)
        if n_after == 1:
            return [self.constant(True)]
        after = [self.new() for _ in range(n_after)]
        for index, value in enumerate(values):
            into: list[list[int]] = [[] for _ in after]
            for state, row in zip(states, successors, strict=True):
                if row[index] != DEAD:
                    self.clauses.append([-state, -value, after[row[index]]])
                    into[row[index]].append(state)
            self.clauses += [[-target, -value, *sources] for target, sources in zip(after, into, strict=True)]
        return after
