"""What is seen of states: labels, their probabilities, and the integer codes that stand for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.automata.explore import call
from emnesy_gpu.automata.machine import DEAD, Observation

LARGEST_CODE = 1 << 20
"""Labels that are integers in 0..LARGEST_CODE are their own codes."""


class Distribution(tuple[Any, ...]):
    """Labels with their probabilities given a state, as a hashable tuple of pairs."""

    def __new__(cls, weights: dict[Any, float]) -> Distribution:
        for label, weight in weights.items():
            if not isinstance(weight, (int, float, np.number)) or not 0.0 <= float(weight) < float("inf"):
                raise ValueError(f"weights of labels must be finite numbers >= 0, got {weight!r} for label {label!r}")
        return super().__new__(cls, ((label, float(weights[label])) for label in ordered(set(weights))))


class Observer(NamedTuple):
    """What the user says is seen: label(state) of the last state, or output of the state after every position.

    declared: labels that exist even where no state has them.
    """

    label: Callable[[Any], Any] | None
    output: Callable[..., Any] | None
    declared: tuple[Hashable, ...] = ()

    def labels(self, states: Sequence[Any], *position: int) -> list[Any]:
        """The label or the Distribution of every state, None for a state without a label."""
        function, name = (self.label, "label") if self.label is not None else (self.output, "output")
        assert function is not None
        return [_label_of(function, name, (state, *position)) for state in states]

    def observation(self, labels: Sequence[Any]) -> Observation:
        return observation(labels, self.declared)


def _label_of(function: Callable[..., Any], name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        found = function(*arguments)
    except Exception as error:
        raise ValueError(f"{call(name, *arguments)} raised {type(error).__name__}: {error}") from error
    if found is None or type(found) in (bool, int, str):  # most labels: nothing to check
        return found
    return checked_label(found, call(name, *arguments))


def declared_labels(labels: object) -> tuple[Hashable, ...]:
    """The labels that a user names; a text is one for each of its characters."""
    given = labels if isinstance(labels, str) else checks.items("labels", labels, "hashable values")
    return tuple(checked_label(label, "an entry of labels") for label in given)


def checked_label(found: Any, source: str) -> Any:
    """The label; a dict {label: probability} as a Distribution, and None where all probabilities are 0.

    Raises TypeError for labels that are not hashable by value, ValueError for probabilities that are none.
    """
    if isinstance(found, dict):
        for label in found:
            checked_label(label, f"a label of {source}")
        return Distribution(found) if any(found.values()) else None
    try:
        hash(found)
        by_value = not hasattr(type(found), "__torch_function__")  # tensors are hashed by identity
    except TypeError:
        by_value = False
    if not by_value:
        raise TypeError(
            f"labels must be hashable: {source} is {found!r}, of type {type(found).__name__}: use a tuple in place of "
            "a list, a number in place of a tensor"
        )
    return found


def observation(labels: Sequence[Any], declared: Iterable[Hashable] = ()) -> Observation:
    """From the label or the Distribution of every state, None for none; declared labels exist even without a state."""
    pairs = [label if isinstance(label, Distribution) else () if label is None else ((label, 1.0),) for label in labels]
    known = tuple(ordered({name for of_state in pairs for name, _ in of_state} | set(declared)))
    row = {name: index for index, name in enumerate(known)}
    weights = np.zeros((len(known), len(labels)))
    for state, of_state in enumerate(pairs):
        for name, weight in of_state:
            weights[row[name], state] = weight
    return Observation(known, weights)


def kinds_of(labels: Sequence[Any]) -> NDArray[np.int64]:
    """A number for each different label, DEAD for None."""
    numbers: dict[Any, int] = {}
    return np.array([DEAD if label is None else numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def ordered(labels: set[Any]) -> list[Any]:
    """Labels in ascending order, where they have one, else in that of their representations."""
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=lambda label: (type(label).__name__, repr(label)))


def codes_of(labels: Sequence[Any]) -> dict[Any, int]:
    """Integers >= 0 and bools are their own codes, all others are numbered.

    >>> codes_of([False, True]), codes_of([3, 5]), codes_of(["a", "b"])
    ({False: 0, True: 1}, {3: 3, 5: 5}, {'a': 0, 'b': 1})
    """
    if all(map(is_own_code, labels)):
        return {label: int(label) for label in labels}
    return {label: code for code, label in enumerate(labels)}


def is_own_code(label: object) -> bool:
    return isinstance(label, (bool, int, np.bool_, np.integer)) and 0 <= int(label) <= LARGEST_CODE


def by_code(codes: dict[Any, int]) -> list[Any]:
    """The label of each code, None for codes in between that no label has."""
    names: list[Any] = [None] * (largest_code(codes) + 1)
    for label, code in codes.items():
        names[code] = label
    return names


def largest_code(codes: dict[Any, int]) -> int:
    return max(codes.values(), default=DEAD)
