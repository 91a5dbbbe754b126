"""Tables of states that the user gives, with or without weights, and what is said of the last states."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.automata.compile import FORBIDS_EVERYTHING
from emnesy_gpu.automata.labels import checked_label, observation
from emnesy_gpu.automata.machine import Floats, Layer, Machine

FLOATS = "float [S, K, S'], the weight of every state, value and next state"
INTEGERS = "integers [S, K], the next state or -1"


class GivenTables(NamedTuple):
    """One table a position, the same object where one is for all, and how many states there are after the last one."""

    tables: list[NDArray[Any]]
    n_last: int

    @property
    def weighted(self) -> bool:
        return self.tables[0].ndim == 3


def checked_tables(transitions: Any, n_symbols: int, labels: Sequence[Any] | None) -> GivenTables:
    """All int64 [S, K], or all float64 [S, K, S'].

    Raises TypeError and ValueError for tables of another type or shape, states that do not exist, weights that are
    negative or not finite, and tables that do not fit to each other.
    """
    first = as_array(transitions[0], "transitions") if isinstance(transitions, (list, tuple)) and transitions else None
    several = first is not None and (first.ndim == 3 or (first.ndim == 2 and first.dtype.kind in "iu"))
    if not several:
        table = _table(transitions, "transitions")
        n_last = table.shape[2] if table.ndim == 3 else max(len(table), int(table.max()) + 1)
        _check_follow(table, table, "transitions")
        return GivenTables([table] * n_symbols, n_last)
    tables = [_table(table, f"transitions[{i}]") for i, table in enumerate(transitions)]
    if len(tables) != n_symbols:
        raise ValueError(f"transitions must have {n_symbols} tables, one for each symbol, got {len(tables)}")
    if len({(table.ndim, table.shape[1]) for table in tables}) > 1:
        shapes = ", ".join(str(list(table.shape)) for table in tables[:4])
        raise ValueError(f"tables must be of one kind and have one number of values K, got shapes {shapes}")
    for i, (table, after) in enumerate(pairwise(tables)):
        _check_follow(table, after, f"transitions[{i}]")
    last = tables[-1]
    # Integers do not tell how many states there are: labels may name more than are reached.
    n_last = last.shape[2] if last.ndim == 3 else max(int(last.max()) + 1, len(labels or ()))
    return GivenTables(tables, n_last)


def _check_follow(table: NDArray[Any], after: NDArray[Any], name: str) -> None:
    fits = table.shape[2] == len(after) if table.ndim == 3 else table.max() < len(after)
    if not fits:
        n_after = table.shape[2] if table.ndim == 3 else int(table.max()) + 1
        raise ValueError(f"{name} must lead to the {len(after)} states that the next table has, got {n_after} states")


def _table(values: Any, name: str) -> NDArray[Any]:
    table = as_array(values, name)
    kind = table.dtype.kind
    if kind not in "iuf":
        raise TypeError(f"{name} must be {INTEGERS}, or {FLOATS}, got dtype {table.dtype}")
    if table.ndim != (3 if kind == "f" else 2) or table.size == 0:
        expected = FLOATS if kind == "f" else INTEGERS
        raise ValueError(f"{name} must be {expected}, got {table.dtype} {list(table.shape)}")
    if kind == "f" and not (np.isfinite(table).all() and (table >= 0).all()):
        raise ValueError(f"{name} must hold finite weights >= 0, got {table.min()}..{table.max()}")
    if kind != "f" and table.min() < -1:
        raise ValueError(f"{name} must hold states, or -1 for none, got {table.min()}")
    return table.astype(np.float64 if kind == "f" else np.int64)


def as_array(values: Any, name: str) -> NDArray[Any]:
    """An array of nested lists; ValueError where their lengths differ."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length, got {values!r}") from error


def next_state(tables: Sequence[NDArray[Any]]) -> Callable[..., int | None]:
    """step(state, value) of tables that are all the same object, else step_at(state, value, position)."""
    rows = {id(table): table.tolist() for table in tables}
    by_position = [rows[id(table)] for table in tables]

    def step(state: int, value: int, position: int = 0) -> int | None:
        target: int = by_position[position][state][value]
        return target if target >= 0 else None

    return step


def as_weights(table: NDArray[Any], n_after: int) -> Floats:
    """Weights 0 and 1, [S, K, S'], of integers [S, K]; weights as they are."""
    if table.ndim == 3:
        return table
    return np.concatenate([np.eye(n_after), np.zeros((1, n_after))])[table]


def weighted_machine(tables: Sequence[Floats], start: Any, labels: FinalLabels) -> Machine:
    """start: a state, or weights [S] of the states before the first symbol."""
    different = {id(table): table for table in tables}
    number = {key: index for index, key in enumerate(different)}
    layers = tuple(_layer(table) for table in different.values())
    weights = start_weights(start, len(tables[0]))
    reached = np.flatnonzero(weights)
    for table in tables:
        reached = np.flatnonzero((table[reached] > 0).any((0, 1)))
    final = observation(*labels)
    if not (final.weights[:, reached] > 0).any():
        raise ValueError(FORBIDS_EVERYTHING)
    layer_of = tuple(number[id(table)] for table in tables)
    return Machine(layers, layer_of, tables[0].shape[1], weights, {len(tables) - 1: final})


def _layer(table: Floats) -> Layer:
    source, value, target = np.nonzero(table > 0)
    edges = source.astype(np.int32), value.astype(np.int32), target.astype(np.int32)
    return Layer(*edges, table[source, value, target], len(table), table.shape[2])


def start_weights(start: Any, n_states: int) -> Floats:
    """float64 [S] from the number of a state, or from the weights of all."""
    given = as_array(start, "start")
    if given.ndim == 0 and given.dtype.kind in "iu":
        if not 0 <= int(given) < n_states:
            raise ValueError(f"start must be a state in 0..{n_states - 1}, got {int(given)}")
        return np.eye(n_states)[int(given)]
    if given.dtype.kind != "f" or given.shape != (n_states,):
        raise TypeError(f"start must be the number of a state, or float weights [{n_states}], got {start!r}")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.any()):
        raise ValueError(f"start must hold finite weights >= 0, and one of them above 0, got {start!r}")
    return given.astype(np.float64)


class FinalLabels(NamedTuple):
    """The label or the Distribution of every last state, and the labels that exist even where no state has them."""

    of_state: list[Any]
    declared: tuple[Hashable, ...]


def final_labels(labels: Any, label_weights: Any, n_states: int) -> FinalLabels:
    """From labels [S], or from label_weights [labels, S] or {label: weights [S]}; 0 for all where nothing is given."""
    if labels is not None and label_weights is not None:
        raise TypeError("from_tables takes labels or label_weights, not both")
    if label_weights is not None:
        rows = label_weights.values() if isinstance(label_weights, dict) else label_weights
        rows = checks.items("label_weights", rows, "a table [labels, states]")
        if not rows:
            raise ValueError(f"label_weights must have at least one label, got {label_weights!r}")
        pairs = zip(label_weights, rows, strict=True) if isinstance(label_weights, dict) else enumerate(rows)
        by_label = {label: np.asarray(weights) for label, weights in pairs}
        for label, weights in by_label.items():
            if weights.shape != (n_states,):
                raise ValueError(
                    f"label_weights of label {label!r} must be [{n_states}], a weight for each state after the last "
                    f"symbol, got {list(weights.shape)}"
                )
        labels = [{label: weights[state] for label, weights in by_label.items()} for state in range(n_states)]
        declared = tuple(by_label)
    else:
        labels, declared = (
            [0] * n_states if labels is None else list(checks.items("labels", labels, "hashable values")),
            (),
        )
    if len(labels) != n_states:
        raise ValueError(f"labels must have {n_states} entries, one a state after the last symbol, got {len(labels)}")
    return FinalLabels([checked_label(label, f"labels[{state}]") for state, label in enumerate(labels)], declared)


def with_pad(table: Floats, name: str) -> Floats:
    """One more value, which leaves the state; raises ValueError where the states before and after differ."""
    n_before, _, n_after = table.shape
    if n_before != n_after:
        raise ValueError(f"variable_length needs as many states before as after {name}, got {n_before} and {n_after}")
    return np.concatenate([table, np.eye(n_before)[:, None]], 1)
