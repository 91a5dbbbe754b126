"""A factor graph as the tables that kernels read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.automata.tables import make_tables as make_automaton_tables
from emnesy_gpu.factor_graphs.cycles import leaves_to_root
from emnesy_gpu.factor_graphs.potentials import Layers, Parity, Potential, Table
from emnesy_gpu.factor_graphs.waves import make_waves, width_of
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.factor_graph_tables import CHAIN, PAIR, PARITY, Compiled, FactorGraphTables
from emnesy_gpu.kernels.levels import levels


class ContradictionError(ValueError):
    """A variable has no value that its own factors allow."""


Scoped = tuple[Potential, tuple[int, ...]]
"""A potential and its variables."""


class _Pool:
    """Numbers of different contents, equal ones stored once."""

    def __init__(self) -> None:
        self.items: list = []
        self._number: dict[bytes, int] = {}

    def add(self, item: NDArray[np.float64] | Layer, key: bytes) -> int:
        number = self._number.setdefault(key, len(self.items))
        if number == len(self.items):
            self.items.append(item)
        return number


class _Factors(NamedTuple):
    kind: list[int]
    which: list[int]
    scopes: list[tuple[int, ...]]


def make_tables(sizes: Sequence[int], factors: Sequence[Scoped]) -> tuple[Compiled, bool]:
    """The tables of a graph, and whether it has no cycle; ContradictionError where a variable has no value left."""
    n, k = len(sizes), max(sizes)
    unary = (np.arange(k) < np.array(sizes)[:, None]).astype(np.float64)
    tables, layers = _Pool(), _Pool()
    positions: list[int] = []
    found = _Factors([], [], [])
    log_scale = 0.0
    for potential, scope in factors:
        if isinstance(potential, Table) and len(scope) == 1:
            unary[scope[0], : sizes[scope[0]]] *= potential.weights
            continue
        if isinstance(potential, Table):
            largest = float(potential.weights.max())
            log_scale += np.log(largest)
            kind, which = PAIR, _add_table(tables, potential.weights / largest, k)
        elif isinstance(potential, Parity):
            kind, which = PARITY, potential.remainder
        else:
            kind, which = CHAIN, len(positions)
            positions += _add_layers(layers, potential)
        found.kind.append(kind)
        found.which.append(which)
        found.scopes.append(scope)
    top = unary.max(1)
    if not top.all():
        raise ContradictionError(
            f"no value of variable {int(np.argmin(top))} has a weight above 0: its factors contradict"
        )
    chains = make_automaton_tables(_joined_machine(layers.items, positions, k), [{0: 0}])
    arrays, is_tree = _structure(found, n)
    arrays |= _waves(found, arrays["order"], chains, n)
    arrays |= {"size": np.array(sizes, np.int32), "unary": unary / top[:, None]}
    arrays |= {"pairs": np.stack(tables.items) if tables.items else np.zeros((0, k, k))}
    arrays["log_scale"] = np.array([log_scale + np.log(top).sum()])
    graph = FactorGraphTables(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    return Compiled(graph, chains), is_tree


def _add_table(tables: _Pool, weights: NDArray[np.float64], k: int) -> int:
    padded = np.zeros((k, k))
    padded[: weights.shape[0], : weights.shape[1]] = weights
    return tables.add(padded, padded.tobytes())


def _add_layers(layers: _Pool, potential: Layers) -> list[int]:
    numbers = []
    for layer in potential.chain:
        parts = layer.source, layer.value, layer.target, layer.weight, np.array([layer.n_before, layer.n_after])
        numbers.append(layers.add(layer, b"|".join(part.tobytes() for part in parts)))
    return numbers


def _joined_machine(layers: list[Layer], positions: list[int], k: int) -> Machine:
    """All chains behind one another; where there is none, a layer that no factor names."""
    if not layers:
        nothing = np.zeros(1, np.int32)
        layers, positions = [Layer(nothing, nothing, nothing, np.ones(1), 1, 1)], [0]
    seen = Observation((0,), np.ones((1, layers[positions[-1]].n_after)))
    return Machine(tuple(layers), tuple(positions), k, np.ones(1), {len(positions) - 1: seen})


def _structure(factors: _Factors, n: int) -> tuple[dict[str, NDArray], bool]:
    """Edges, and the order of the factors; whether there is no cycle."""
    first = np.cumsum([0, *map(len, factors.scopes)])
    variable = np.array([i for scope in factors.scopes for i in scope], np.int64)
    incident = np.argsort(variable, kind="stable")
    towards_root = leaves_to_root(first, variable, n)
    if towards_root is None:
        order = np.arange(len(factors.kind))
    else:
        order = np.concatenate([towards_root, towards_root[-2::-1]])
    arrays = {
        "kind": factors.kind,
        "first": first,
        "variable": variable,
        "which": factors.which,
        "incident": incident,
        "incident_first": np.searchsorted(variable[incident], np.arange(n + 1)),
        "order": order,
        "owner": np.repeat(np.arange(len(factors.kind)), np.diff(first)),
    }
    return {name: np.array(array, np.int32) for name, array in arrays.items()}, towards_root is not None


def _waves(factors: _Factors, order: NDArray[np.int32], chains: AutomatonTables, n: int) -> dict[str, NDArray]:
    """The updates that can be made at once, of a serial sweep and of flooding; and how many factors have each arity."""
    kind = np.array(factors.kind, np.int64)
    arity = np.array([len(scope) for scope in factors.scopes], np.int64)
    degree = np.bincount([i for scope in factors.scopes for i in scope], minlength=n)
    largest = [max(degree[list(scope)]) for scope in factors.scopes]
    numbers = np.stack([kind, arity, largest, _edges(factors, arity, chains)], 1).astype(np.int64)
    level = levels(factors.scopes, order.tolist())
    width = width_of(level, kind[order])
    waves = make_waves(order.astype(np.int64), level, numbers, width)
    flood = make_waves(np.arange(len(kind)), np.zeros(len(kind), np.int64), numbers, width)
    arrays = {"waves": waves.factors, "wave_sizes": waves.sizes, "flood": flood.factors, "flood_sizes": flood.sizes}
    arities = np.bincount(arity, minlength=3).astype(np.int32)
    return arrays | {"arities": arities, "factor_sizes": numbers.astype(np.int32)}


def _edges(factors: _Factors, arity: NDArray[np.int64], chains: AutomatonTables) -> list[int]:
    """The most edges of a layer of each factor that is a chain, 0 of others."""
    count = (chains.out_first[:, -1] - chains.out_first[:, 0])[chains.layer.long()].numpy()
    return [
        int(count[position : position + d].max()) if kind == CHAIN else 0
        for kind, position, d in zip(factors.kind, factors.which, arity, strict=True)
    ]
