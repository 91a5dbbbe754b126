"""From a rule to its smallest machine: one table for all positions, or one for each, whichever has fewer edges."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.explore import Step, explore, unroll
from emnesy_gpu.automata.labels import Observer, kinds_of
from emnesy_gpu.automata.machine import DEAD, Layer, Machine
from emnesy_gpu.automata.minimise import Table, minimise_layers, minimise_shared

UNROLLED_ENTRIES = 1 << 22
"""Entries of tables up to which a table a position is tried in place of one for all."""


def compile_step(
    step: Step, start: Hashable, n_symbols: int, cardinality: int, observer: Observer, max_states: int
) -> Machine:
    """A step(state, value) that is the same at every position; output(state) is seen after every position."""
    found = explore(step, start, n_symbols, cardinality, max_states)
    table = found.successor
    # The start is seen of an empty row, or where it is entered again.
    unseen = 0 if observer.output is None or (table == 0).any() else 1
    labels = [None] * unseen + observer.labels(found.states[unseen:])
    kinds = kinds_of(labels)
    if observer.output is not None:  # every state on the way is seen: none may be without an entry
        table = np.where((table >= 0) & (kinds[table] >= 0), table, DEAD)
    merged = minimise_shared(table, kinds)
    of_merged = _labels_of_merged(labels, merged.state_of, len(merged.successor))
    positions = list(range(n_symbols)) if observer.output is not None else [n_symbols - 1]
    observed = dict.fromkeys(positions, of_merged)
    shared = _shared(merged.successor, n_symbols, observed, observer)
    if n_symbols * merged.successor.size > UNROLLED_ENTRIES:
        _check_allows(merged.successor, n_symbols, kinds_of(of_merged))
        return shared
    layered = _layered([merged.successor] * n_symbols, [len(merged.successor)] * (n_symbols + 1), observed, observer)
    return layered if layered.n_edges < shared.n_edges else shared


def compile_step_at(
    step_at: Step, start: Hashable, cardinalities: Sequence[int], observer: Observer, max_states: int
) -> Machine:
    """A step_at(state, value, position); output(state, position), None for all states where nothing is seen."""
    tables, states = unroll(step_at, start, cardinalities, max_states)
    if observer.output is None:
        observed = {len(tables) - 1: observer.labels(states[-1])}
    else:
        entries = {i: observer.labels(after, i) for i, after in enumerate(states[1:])}
        observed = {i: labels for i, labels in entries.items() if any(entry is not None for entry in labels)}
        if not observed:
            raise ValueError("output sees nothing after any position: it is None for every state")
    return _layered(tables, [len(at) for at in states], observed, observer)


def compile_tables(
    tables: Sequence[Table], n_states: Sequence[int], labels: Sequence[Any], observer: Observer
) -> Machine:
    """From a table for every position, the numbers of states around them, and the label of each last state."""
    return _layered(tables, n_states, {len(tables) - 1: list(labels)}, observer)


def _shared(table: Table, n_symbols: int, observed: dict[int, list[Any]], observer: Observer) -> Machine:
    layer = Layer.from_successors(table, len(table))
    seen = {position: observer.observation(labels) for position, labels in observed.items()}
    return Machine((layer,), (0,) * n_symbols, table.shape[1], first_state(len(table)), seen)


def _layered(
    tables: Sequence[Table], n_states: Sequence[int], observed: dict[int, list[Any]], observer: Observer
) -> Machine:
    """Minimal layers, equal ones kept once. n_states: before each position and after the last one."""
    kinds = [
        kinds_of(observed[i - 1]) if i - 1 in observed else np.zeros(n_before, np.int64)
        for i, n_before in enumerate(n_states)
    ]
    small, state_of = minimise_layers(tables, kinds)
    if len(small[0]) == 0:
        raise ValueError(FORBIDS_EVERYTHING)
    kept: dict[tuple[bytes, int], int] = {}
    different: list[Table] = []
    layer_of: list[int] = []
    numbers_after = [*map(len, small[1:]), int(state_of[-1].max()) + 1]
    for table, after in zip(small, numbers_after, strict=True):
        number = kept.setdefault((table.tobytes(), after), len(different))
        if number == len(different):
            different.append(table)
        layer_of.append(number)
    layers = Layer.all_from_successors(different, [after for _, after in kept])
    seen = {}
    for position, labels in observed.items():
        n_after = layers[layer_of[position]].n_after
        seen[position] = observer.observation(_labels_of_merged(labels, state_of[position + 1], n_after))
    return Machine(tuple(layers), tuple(layer_of), tables[0].shape[1], first_state(len(small[0])), seen)


FORBIDS_EVERYTHING = "the rule forbids every assignment: no sequence of values ends in a state with a label"


def _check_allows(table: Table, n_symbols: int, kinds: Table) -> None:
    reached = first_state(len(table)) > 0
    for _ in range(n_symbols):
        targets = table[reached]
        reached = np.zeros_like(reached)
        reached[targets[targets >= 0]] = True
    if not (reached & (kinds >= 0)).any():
        raise ValueError(FORBIDS_EVERYTHING)


def _labels_of_merged(labels: Sequence[Any], state_of: Table, n_states: int) -> list[Any]:
    result = [None] * n_states
    for label, state in zip(labels, state_of.tolist(), strict=True):
        if state >= 0:
            result[state] = label
    return result


def first_state(n_states: int) -> NDArray[np.float64]:
    """The weights of a machine that starts in state 0."""
    start = np.zeros(n_states)
    start[0] = 1.0
    return start
