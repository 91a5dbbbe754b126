"""From a rule to its smallest machine: one table for all positions, or one for each, whichever has fewer edges."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.explore import explore, unroll
from emnesy_gpu.automata.machine import DEAD, Layer, Machine, Observation, ordered
from emnesy_gpu.automata.minimise import Table, minimise_layers, minimise_shared

CHECKED_STEPS = 64
"""Steps that are taken a second time, to find functions whose result changes."""

UNROLLED_ENTRIES = 1 << 22
"""Entries of tables up to which a table a position is tried in place of one for all."""

Label = Callable[..., Any]


def compile_step(
    step: Callable[[Any, int], Any],
    start: Hashable,
    n_symbols: int,
    cardinality: int,
    label: Label | None,
    output: Label | None,
    max_states: int,
) -> Machine:
    """A step(state, value) that is the same at every position.

    label(state): what is seen of the last state. output(state): what is seen of the state after every position.
    """
    found = explore(step, start, cardinality, max_states)
    _check_repeats(step, [(state, value) for state in found.states[:8] for value in range(cardinality)])
    function, name = (label, "label") if label is not None else (output, "output")
    assert function is not None
    labels = [label_of(function, name, state) for state in found.states]
    kinds = _kinds(labels)
    merged = minimise_shared(found.successor, kinds)
    of_merged = _labels_of_merged(labels, merged.state_of, len(merged.successor))
    observed = [n_symbols - 1] if label is not None else list(range(n_symbols))
    shared = Machine(
        (Layer.from_successors(merged.successor, len(merged.successor)),),
        (0,) * n_symbols,
        cardinality,
        _first_state(len(merged.successor)),
        {position: _observation(of_merged) for position in observed},
    )
    if n_symbols * merged.successor.size > UNROLLED_ENTRIES:
        return shared
    seen = _kinds(of_merged)
    silent = np.full(len(seen), DEAD)
    kinds_at = [seen if i - 1 in observed else silent for i in range(n_symbols + 1)]
    layered = _layered([merged.successor] * n_symbols, kinds_at, dict.fromkeys(observed, of_merged), cardinality)
    return layered if layered.n_edges < shared.n_edges else shared


def compile_step_at(
    step_at: Callable[[Any, int, int], Any],
    start: Hashable,
    cardinalities: Sequence[int],
    label: Label | None,
    output: Label | None,
    max_states: int,
) -> Machine:
    """A step_at(state, value, position). label(state): seen of the last state. output(state, position): of the state
    after every position, None for all states of a position where nothing is seen.
    """
    tables, states = unroll(step_at, start, cardinalities, max_states)
    _check_repeats(step_at, [(start, value, 0) for value in range(cardinalities[0])])
    n = len(tables)
    observed: dict[int, list[Any]] = {}
    if label is not None:
        observed[n - 1] = [label_of(label, "label", state) for state in states[-1]]
    else:
        assert output is not None
        for i in range(n):
            labels = [label_of(output, "output", state, i) for state in states[i + 1]]
            if any(entry is not None for entry in labels):
                observed[i] = labels
    kinds = [np.full(len(states[0]), DEAD)]
    kinds += [_kinds(observed[i]) if i in observed else np.full(len(states[i + 1]), DEAD) for i in range(n)]
    return _layered(tables, kinds, observed, max(cardinalities))


def label_of(function: Label, name: str, *arguments: Any) -> Any:
    """The label that a function of the user gives a state; a distribution is made a sorted tuple of pairs."""
    try:
        found = function(*arguments)
    except Exception as error:
        given = ", ".join(map(repr, arguments))
        raise ValueError(f"{name}({given}) raised {type(error).__name__}: {error}") from error
    if isinstance(found, dict):
        return Distribution(found)
    try:
        hash(found)
    except TypeError:
        raise TypeError(
            f"labels must be hashable: {name}({arguments[0]!r}) is {found!r}, of type {type(found).__name__}: "
            "use a tuple in place of a list"
        ) from None
    return found


class Distribution(tuple[Any, ...]):
    """Labels with their probabilities given a state, as a hashable tuple of pairs."""

    def __new__(cls, weights: dict[Any, float]) -> Distribution:
        for label, weight in weights.items():
            if not 0.0 <= float(weight) < float("inf"):
                raise ValueError(f"weights of labels must be finite numbers >= 0, got {weight!r} for label {label!r}")
        return super().__new__(cls, ((label, float(weights[label])) for label in ordered(set(weights))))


def _observation(labels: Sequence[Any]) -> Observation:
    """From the label or the distribution of every state."""
    if not any(isinstance(label, Distribution) for label in labels):
        return Observation.of_function(labels)
    pairs = [label if isinstance(label, Distribution) else () if label is None else ((label, 1.0),) for label in labels]
    known = tuple(ordered({name for of_state in pairs for name, _ in of_state}))
    row = {name: index for index, name in enumerate(known)}
    weights = np.zeros((len(known), len(labels)))
    for state, of_state in enumerate(pairs):
        for name, weight in of_state:
            weights[row[name], state] = weight
    return Observation(known, weights)


def _layered(tables: Sequence[Table], kinds: Sequence[Table], observed: dict[int, list[Any]], n_values: int) -> Machine:
    """Minimal layers; equal ones are kept once."""
    small, state_of = minimise_layers(tables, kinds)
    if len(small[0]) == 0:
        raise ValueError("the rule forbids every assignment: no sequence of values ends in a state with a label")
    kept: dict[tuple[bytes, int], int] = {}
    layers: list[Layer] = []
    layer_of: list[int] = []
    for i, table in enumerate(small):
        n_after = len(small[i + 1]) if i + 1 < len(small) else int(state_of[-1].max()) + 1
        key = (table.tobytes(), n_after)
        if key not in kept:
            kept[key] = len(layers)
            layers.append(Layer.from_successors(table, n_after))
        layer_of.append(kept[key])
    seen = {}
    for position, labels in observed.items():
        n_after = layers[layer_of[position]].n_after
        seen[position] = _observation(_labels_of_merged(labels, state_of[position + 1], n_after))
    return Machine(tuple(layers), tuple(layer_of), n_values, _first_state(len(small[0])), seen)


def _kinds(labels: Sequence[Any]) -> NDArray[np.int64]:
    """A number for each different label, DEAD for None."""
    numbers: dict[Any, int] = {}
    return np.array([DEAD if label is None else numbers.setdefault(label, len(numbers)) for label in labels], np.int64)


def _labels_of_merged(labels: Sequence[Any], state_of: Table, n_states: int) -> list[Any]:
    result = [None] * n_states
    for label, state in zip(labels, state_of.tolist(), strict=True):
        if state >= 0:
            result[state] = label
    return result


def _first_state(n_states: int) -> NDArray[np.float64]:
    start = np.zeros(n_states)
    start[0] = 1.0
    return start


def _check_repeats(step: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
    for given in arguments[:CHECKED_STEPS]:
        if step(*given) != step(*given):
            shown = ", ".join(map(repr, given))
            raise ValueError(f"step must depend on its arguments alone, but step({shown}) changes from call to call")
