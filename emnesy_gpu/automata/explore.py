"""From a step function to tables: the states that can be reached, found by calling it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import islice, product
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD
from emnesy_gpu.automata.minimise import numbered
from emnesy_gpu.errors import TooManyStatesError

MAX_STATES = 1 << 16

CHECKED_STEPS = 64
"""Steps that are taken a second time, to find functions whose result changes."""

STATES_AT_A_TIME = 1 << 12
"""States whose successors are held at a time."""

Step = Callable[..., Any]
"""(state, value) or (state, value, position) -> the next state, None where the rule forbids the value."""


class Index(dict[Hashable, int]):
    """state -> its number, in the order in which states are first asked for."""

    def __missing__(self, state: Hashable) -> int:
        number = self[state] = len(self)
        return number


class Explored(NamedTuple):
    """States in the order in which they were found, and their successors [S, K], DEAD where there is none."""

    states: list[Hashable]
    successor: NDArray[np.int64]


def explore(step: Step, start: Hashable, n_symbols: int, n_values: int, max_states: int = MAX_STATES) -> Explored:
    """The states that n_symbols calls of step(state, value) in a row reach from the start, one table for all of them.

    A state that only the last symbol reaches has no successors: nobody asks for them. Raises ValueError where there are
    more than max_states states, and for a step that raises or changes; TypeError for a state that cannot be hashed.
    """
    index = Index()
    fresh = [checked_state(start, "start")]
    index[start] = 0
    numbers: list[int] = []
    for n_read in range(1, n_symbols + 1):
        n_before = len(index)
        numbers += _successors(step, fresh, n_values, (), index)
        fresh = list(islice(reversed(index), len(index) - n_before))[::-1]
        _check_states(fresh, len(index), max_states, f"step reaches {len(index)} states within {n_read} symbols")
        if not fresh:
            break
    table = np.full((len(index), n_values), DEAD, np.int64)
    known = np.array(numbers, np.int64).reshape(-1, n_values)
    table[: len(known)] = known
    states = list(index)
    _check_repeats(step, states, known, n_values, (), index)
    return Explored(states, table)


def unroll(
    step_at: Step, start: Hashable, cardinalities: Sequence[int], max_states: int = MAX_STATES
) -> tuple[list[NDArray[np.int64]], list[list[Hashable]]]:
    """A table for every position of a step(state, value, position), and the states before and after each.

    Successors int64 [S_i, max(cardinalities)], DEAD for values that a position does not have. Raises ValueError where
    a position has more than max_states, and names it; for all else as ``explore``.
    """
    before = [checked_state(start, "start")]
    tables, states = [], [before]
    width = max(cardinalities)
    for position, n_values in enumerate(cardinalities):
        index = Index()
        numbers = _successors(step_at, before, n_values, (position,), index)
        found = f"step_at reaches {len(index)} states after position {position}"
        _check_states(list(index), len(index), max_states, found)
        table = np.full((len(before), width), DEAD, np.int64)
        table[:, :n_values] = np.array(numbers, np.int64).reshape(-1, n_values)
        _check_repeats(step_at, before, table, n_values, (position,), index)
        tables.append(table)
        before = list(index)
        states.append(before)
    return tables, states


def unroll_arrays(
    step: Step, start: Any, cardinalities: Sequence[int], max_states: int = MAX_STATES, *, trusted: bool = False
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """As ``unroll``, for a step on integers that takes states [S, 1], values [1, K] and the position.

    It returns the next states, of a shape that can be broadcast to [S, K], negative where the rule forbids the value.
    trusted: the step is our own, DEAD is its only negative state, and no step is taken a second time.
    """
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)) or start < 0:
        raise TypeError(f"start must be an integer >= 0 for a step on arrays, got {start!r}")
    before = np.array([start], np.int64)
    tables, states, width = [], [before], max(cardinalities)
    for position, n_values in enumerate(cardinalities):
        targets = _array_step(step, before, n_values, position)
        if not trusted:
            _check_array_repeats(step, before, targets, position)
            targets = np.maximum(targets, DEAD)
        after, table = _numbered(targets)
        if len(after) > max_states:
            raise TooManyStatesError(
                f"step reaches {len(after)} states after position {position}, more than max_states={max_states}, the "
                f"last one {after[-1]}: bound the state, or raise max_states"
            )
        if n_values < width:
            table = np.pad(table, ((0, 0), (0, width - n_values)), constant_values=DEAD)
        tables.append(table)
        states.append(after)
        before = after
    return tables, states


def _numbered(targets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different states in ascending order, and the number of each target among them; DEAD stays DEAD."""
    most = int(targets.max(initial=DEAD))
    if most >= 8 * targets.size:
        after, numbers = numbered(targets.ravel())
        n_dead = int(after[0] == DEAD)
        return after[n_dead:], numbers.reshape(targets.shape) - n_dead
    place = np.zeros(most + 2, np.int64)  # a table is faster than a sort where states are dense
    place[targets] = 1
    place[DEAD] = 0
    after = np.flatnonzero(place)
    place[after] = np.arange(len(after))
    place[DEAD] = DEAD
    return after, place.take(targets)


def _array_step(step: Step, states: NDArray[np.int64], n_values: int, position: int) -> NDArray[np.int64]:
    """The next states [S, n_values]; raises ValueError for a step that raises, or returns something else."""
    targets = _asked(step, states, n_values, position)
    if targets.dtype.kind not in "biu":
        raise TypeError(f"step must return integers, got {targets.dtype} at position {position}")
    return targets.astype(np.int64, copy=False)


def _check_array_repeats(step: Step, states: NDArray[np.int64], targets: NDArray[np.int64], position: int) -> None:
    """Take some steps again; raises ValueError where one gives another state than before."""
    n_values = targets.shape[1]
    some = states[: max(1, CHECKED_STEPS // n_values)]
    if (targets[: len(some)] != _asked(step, some, n_values, position)).any():
        raise ValueError(f"the result of step changes from call to call at position {position}")


def _asked(step: Step, states: NDArray[np.int64], n_values: int, position: int) -> NDArray[Any]:
    """What step returns for all states and values [S, n_values]."""
    shape = len(states), n_values
    try:
        found = np.asarray(step(states[:, None], np.arange(n_values)[None], position))
    except Exception as error:
        raise ValueError(f"step raised {type(error).__name__} at position {position}: {error}") from error
    if found.shape == shape:
        return found
    try:
        return np.broadcast_to(found, shape)
    except ValueError:
        raise ValueError(
            f"step must return states of shape {list(shape)} at position {position}, got {list(found.shape)}"
        ) from None


def _successors(
    step: Step, states: Sequence[Hashable], n_values: int, position: tuple[int, ...], index: Index
) -> list[int]:
    """The number of the state that each state and value lead to, row by row; new states are added to the index."""
    numbers: list[int] = []
    values = range(n_values)
    for first in range(0, len(states), STATES_AT_A_TIME):
        part = states[first : first + STATES_AT_A_TIME]
        try:
            if position:
                (at,) = position  # a call with a tuple of arguments is slower
                targets = [step(state, value, at) for state in part for value in values]
            else:
                targets = [step(state, value) for state in part for value in values]
            numbers += [DEAD if target is None else index[target] for target in targets]
        except Exception as error:
            _blame(step, part, n_values, position, error)
    return numbers


def _blame(
    step: Step, states: Sequence[Hashable], n_values: int, position: tuple[int, ...], error: Exception
) -> NoReturn:
    """Raise for the first state and value whose step raises, or leads to a state that cannot be hashed."""
    for state, value in product(states, range(n_values)):
        called = call(step_name(position), state, value, *position)
        try:
            target = step(state, value, *position)
        except Exception as again:
            raise ValueError(f"{called} raised {type(again).__name__}: {again}") from again
        checked_state(target, called)
    raise error


def step_name(position: tuple[int, ...]) -> str:
    return "step_at" if position else "step"


def call(name: str, *arguments: Any) -> str:
    """A call as the user would write it.

    >>> call("step", (0, 1), 3)
    'step((0, 1), 3)'
    """
    return f"{name}({', '.join(map(repr, arguments))})"


def checked_state(state: Any, name: str) -> Hashable:
    """The state; raises TypeError where it cannot be hashed, or where its hash does not depend on its value."""
    try:
        hash(state)
        by_value = not hasattr(type(state), "__torch_function__")  # tensors are hashed by identity
    except TypeError:
        by_value = False
    if not by_value:
        raise TypeError(
            f"states must be hashable, so that equal ones can be found: {name} is {state!r}, of type "
            f"{type(state).__name__}: use a tuple in place of a list, a frozenset in place of a set, a number in place "
            "of a tensor"
        )
    return state  # type: ignore[no-any-return]


def _check_states(fresh: Sequence[Hashable], n_states: int, max_states: int, found: str) -> None:
    for state in fresh[:1]:
        checked_state(state, "a state")
    if n_states > max_states:
        raise TooManyStatesError(
            f"{found}, more than max_states={max_states}, the last one {fresh[-1]!r}: bound the state, or raise "
            "max_states"
        )


def _check_repeats(
    step: Step,
    states: Sequence[Hashable],
    table: NDArray[np.int64],
    n_values: int,
    position: tuple[int, ...],
    index: Index,
) -> None:
    """Take some steps again; raises ValueError where one gives another state than before."""
    n_states = max(1, CHECKED_STEPS // n_values)
    for row, state in zip(table[:n_states], states, strict=False):
        for value in range(min(n_values, CHECKED_STEPS)):
            target = step(state, value, *position)
            if row[value] != (DEAD if target is None else index.get(target, len(index))):
                called = call(step_name(position), state, value, *position)
                raise ValueError(f"the result of {called} changes from call to call: it must depend on its arguments")
