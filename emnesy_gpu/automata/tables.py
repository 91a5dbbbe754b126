"""An automaton as the integer tables that kernels read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from emnesy_gpu.automata.machine import DEAD, Layer, Machine, value_classes
from emnesy_gpu.kernels.automaton_tables import AutomatonTables

MAX_EMISSIONS = 1 << 27
"""Weights of states given a label that a table may hold: 1 GiB."""


class _Edges(NamedTuple):
    """Different edges between states under classes of values, and the sum of their weights."""

    source: np.ndarray
    klass: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def make_tables(machine: Machine, codes: list[dict[int, int]]) -> AutomatonTables:
    """codes: for each entry of the label, code -> index of the label in its observation."""
    n_states = machine.n_states
    classes = [value_classes(layer, machine.n_values) for layer in machine.layers]
    edges = [_edges(layer, of_value) for layer, of_value in zip(machine.layers, classes, strict=True)]
    largest = np.array([float(part.weight.max(initial=0.0)) or 1.0 for part in edges])
    scaled = [part._replace(weight=part.weight / top) for part, top in zip(edges, largest, strict=True)]
    incoming = [_sorted(part, (part.klass, part.source, part.target)) for part in scaled]
    outgoing = [_sorted(part, (part.target, part.klass, part.source)) for part in scaled]
    top_start = float(machine.start.max())
    log_scale = sum(np.log(largest[index]) for index in machine.layer_of) + np.log(top_start)
    start = np.zeros(n_states)
    start[: len(machine.start)] = machine.start / top_start
    in_source, in_class, in_weight = (_joined(incoming, name) for name in ("source", "klass", "weight"))
    out_class, out_target, out_weight = (_joined(outgoing, name) for name in ("klass", "target", "weight"))
    arrays = {
        "layer": np.array(machine.layer_of, np.int32),
        "n_states": np.array([(layer.n_before, layer.n_after) for layer in machine.layers], np.int32),
        "classes": np.stack(classes).astype(np.int32),
        "n_classes": np.array([int(of_value.max()) + 1 for of_value in classes], np.int32),
        "in_first": _first(incoming, [part.target for part in incoming], n_states),
        "in_source": in_source,
        "in_class": in_class,
        "in_weight": in_weight,
        "out_first": _first(outgoing, [part.source for part in outgoing], n_states),
        "out_class": out_class,
        "out_target": out_target,
        "out_weight": out_weight,
        "successor": _successors(machine, scaled, classes),
        "start": start,
        "log_scale": np.array([log_scale]),
        **_observations(machine, codes),
    }
    return AutomatonTables(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def _edges(layer: Layer, classes: np.ndarray) -> _Edges:
    keys = np.stack([layer.source, classes[layer.value], layer.target], 1)
    # Values of a class have equal edges: the first of each class stands for all.
    first_value = np.array([np.flatnonzero(classes == c)[0] for c in range(classes.max() + 1)])
    kept = np.isin(layer.value, first_value) & (layer.weight > 0)
    source, klass, target = keys[kept].T
    return _Edges(source.astype(np.int32), klass.astype(np.int32), target.astype(np.int32), layer.weight[kept])


def _sorted(edges: _Edges, keys: tuple[np.ndarray, ...]) -> _Edges:
    order = np.lexsort(keys)
    return _Edges(*(part[order] for part in edges))


def _joined(parts: list[_Edges], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


def _first(parts: list[_Edges], states: list[np.ndarray], n_states: int) -> np.ndarray:
    starts = np.cumsum([0, *(len(part.source) for part in parts)])
    counts = [np.bincount(state, minlength=n_states) for state in states]
    return np.stack(
        [start + np.concatenate([[0], np.cumsum(count)]) for start, count in zip(starts, counts, strict=False)]
    ).astype(np.int32)


def _successors(machine: Machine, edges: list[_Edges], classes: list[np.ndarray]) -> np.ndarray:
    n_states, n_classes = machine.n_states, _table_width(classes)
    if not all(layer.deterministic for layer in machine.layers):
        return np.zeros((0, n_states, n_classes), np.int32)
    table = np.full((len(edges), n_states, n_classes), n_states, np.int32)
    for index, part in enumerate(edges):
        table[index, part.source, part.klass] = part.target
    return table


def _table_width(classes: list[np.ndarray]) -> int:
    """Classes of a table: as many as values exist only where every layer has one class for each value."""
    numbers = [int(of_value.max()) + 1 for of_value in classes]
    n_values = len(classes[0])
    return n_values + 1 if min(numbers) < max(numbers) == n_values else max(numbers)


def _observations(machine: Machine, codes: list[dict[int, int]]) -> dict[str, np.ndarray]:
    n, n_entries = len(machine.layer_of), len(machine.observed)
    entry = np.full(n, DEAD, np.int32)
    most = max(len(observation.labels) for observation in machine.observed.values())
    if n_entries * (most + 1) * machine.n_states > MAX_EMISSIONS:
        raise ValueError(
            f"the automaton has too many labels for a table: {n_entries} entries of up to {most} labels, and "
            f"{machine.n_states} states; their product may be at most {MAX_EMISSIONS}"
        )
    rows = 1 + most
    emissions = np.zeros((n_entries, rows, machine.n_states))
    largest = max((max(of_entry, default=0) for of_entry in codes), default=0)
    lookup = np.full((n_entries, largest + 4), DEAD, np.int32)
    lookup[:, 1] = 0
    for index, (position, observation) in enumerate(machine.observed.items()):
        entry[position] = index
        n_labels, n_seen = observation.weights.shape
        emissions[index, 1 : n_labels + 1, :n_seen] = observation.weights
        emissions[index, 0, :n_seen] = observation.weights.max(0, initial=0.0) > 0
        for code, label in codes[index].items():
            lookup[index, code + 2] = label + 1
    return {"entry": entry, "emissions": emissions, "codes": lookup}
