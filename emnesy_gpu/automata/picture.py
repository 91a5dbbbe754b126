"""A small automaton as a drawing: its states after each symbol, and on each arrow the values that lead along it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.layered_drawing import Drawing, check_size, listed


def drawing_of(machine: Machine, symbols: Sequence[str], entries: Sequence[str]) -> Drawing:
    """The drawing of an automaton: a state has the name of the symbol that it reads, and what the label says of it.

    symbols: names in the order of reading. entries: of the label. Weights other than 1 stand in brackets. Raises
    ValueError for automata that are too large.
    """
    reached = _reached(machine)
    drawing, places = Drawing([], [], {}), []
    seen = dict(zip(machine.observed, zip(entries, machine.observed.values(), strict=True), strict=True))
    for i, name in enumerate([*symbols, ""]):
        level, observed = float(len(symbols) - i), seen.get(i - 1)
        words = {state: _words(name, observed, state) for state in np.flatnonzero(reached[i]).tolist()}
        places.append({state: drawing.add(level, said) for state, said in words.items()})
    if machine.start[reached[0]].tolist() != [1.0]:
        start = drawing.add(len(symbols) + 1.0, "start")
        for state, node in places[0].items():
            drawing.connect(start, node, _weight(machine.start[state]))
    for layer, (before, after) in zip(machine.layer_of, pairwise(places), strict=True):
        _connect(drawing, machine.layers[layer], before, after)
    return drawing


def _reached(machine: Machine) -> list[NDArray[np.bool_]]:
    """Which states can be reached before each symbol and after the last."""
    reached, n_nodes, n_edges = [machine.start > 0.0], 1, 0
    for index in machine.layer_of:
        layer = machine.layers[index]
        taken = reached[-1][layer.source]
        after = np.zeros(layer.n_after, bool)
        after[layer.target[taken]] = True
        reached.append(after)
        n_nodes += int(after.sum())
        n_edges += len(np.unique(layer.source[taken].astype(np.int64) << 32 | layer.target[taken]))
    check_size("automaton", n_nodes, n_edges)
    return reached


def _connect(drawing: Drawing, layer: Layer, before: dict[int, int], after: dict[int, int]) -> None:
    values: dict[tuple[int, int, str], list[str]] = {}
    edges = zip(layer.source.tolist(), layer.target.tolist(), layer.value.tolist(), layer.weight.tolist(), strict=True)
    for source, target, value, weight in edges:
        if source in before:
            values.setdefault((before[source], after[target], _weight(weight)), []).append(str(value))
    for (source_node, target_node, weight), found in values.items():
        drawing.connect(source_node, target_node, listed(found) + weight)


def _words(name: str, seen: tuple[str, Observation] | None, state: int) -> str:
    """The symbol that a state reads, and the entry of the label that is seen in it."""
    if seen is None:
        return name
    entry, observation = seen
    pairs = zip(observation.labels, observation.weights[:, state].tolist(), strict=True)
    said = [f"{label}{_weight(weight)}" for label, weight in pairs if weight > 0.0]
    return ", ".join(filter(None, [name, f"{entry} = {' or '.join(said)}" if said else ""]))


def _weight(weight: float) -> str:
    return "" if weight == 1.0 else f" ({weight:.2g})"
