"""From a step function to tables: the states that can be reached, found by calling it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD

MAX_STATES = 1 << 16


class Explored:
    """States in the order in which they were found, and their successors int64 [S, K], DEAD where there is none."""

    def __init__(self, states: list[Hashable], successor: NDArray[np.int64]) -> None:
        self.states, self.successor = states, successor


def explore(step: Callable[[Any, int], Any], start: Hashable, n_values: int, max_states: int = MAX_STATES) -> Explored:
    """The states that step(state, value) reaches from the start, for a step that is the same at every position.

    Raises ValueError where there are more than max_states, TypeError for a state that cannot be hashed.
    """
    index: dict[Hashable, int] = {_hashable(start, "start", None): 0}
    rows: list[list[int]] = []
    states = [start]
    for state in states:  # grows while it is read
        rows.append(_successors(step, state, range(n_values), (), index, states))
        if len(states) > max_states:
            raise ValueError(
                f"step reaches more than max_states={max_states} states, the last one {states[-1]!r}: bound the state, "
                "or raise max_states"
            )
    return Explored(states, np.array(rows, np.int64).reshape(-1, n_values))


def unroll(
    step_at: Callable[[Any, int, int], Any],
    start: Hashable,
    cardinalities: Sequence[int],
    max_states: int = MAX_STATES,
) -> tuple[list[NDArray[np.int64]], list[list[Hashable]]]:
    """A table for every position of a step(state, value, position), and the states before and after each.

    Successors int64 [S_i, max(cardinalities)], DEAD for values that a position does not have. Raises ValueError where
    a position has more than max_states, and names it.
    """
    before: list[Hashable] = [_hashable(start, "start", None)]
    tables, states = [], [before]
    width = max(cardinalities)
    for position, n_values in enumerate(cardinalities):
        index: dict[Hashable, int] = {}
        after: list[Hashable] = []
        rows = [_successors(step_at, state, range(n_values), (position,), index, after) for state in before]
        if len(after) > max_states:
            raise ValueError(
                f"step_at reaches {len(after)} states after position {position}, more than max_states={max_states}: "
                "bound the state, or raise max_states"
            )
        table = np.full((len(before), width), DEAD, np.int64)
        table[:, :n_values] = np.array(rows, np.int64).reshape(-1, n_values)
        tables.append(table)
        states.append(after)
        before = after
    return tables, states


def _successors(
    step: Callable[..., Any],
    state: Hashable,
    values: range,
    position: tuple[int, ...],
    index: dict[Hashable, int],
    states: list[Hashable],
) -> list[int]:
    """The numbers of the states that the values lead to; new ones are added to index and states."""
    row = []
    for value in values:
        try:
            target = step(state, value, *position)
        except Exception as error:
            arguments = ", ".join(map(repr, (state, value, *position)))
            raise ValueError(f"step({arguments}) raised {type(error).__name__}: {error}") from error
        if target is None:
            row.append(DEAD)
            continue
        try:
            number = index.setdefault(target, len(states))
        except TypeError:
            _hashable(target, f"step({state!r}, {value})", position)
            raise
        if number == len(states):
            states.append(target)
        row.append(number)
    return row


def _hashable(state: Any, name: str, position: tuple[int, ...] | None) -> Hashable:
    try:
        hash(state)
    except TypeError:
        where = f" at position {position[0]}" if position else ""
        raise TypeError(
            f"states must be hashable, so that equal ones can be found: {name} is {state!r}, of type "
            f"{type(state).__name__}{where}: use a tuple in place of a list, a frozenset in place of a set"
        ) from None
    return state  # type: ignore[no-any-return]
