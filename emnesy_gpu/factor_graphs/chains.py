"""Factors of many variables as chains: layers of edges from one start to one end, with all weights on the edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.machine import DEAD, Layer, Machine

Chain = tuple[Layer, ...]
"""One layer for each variable. The first layer has state 0 alone before it, and the last one after it."""

Floats = NDArray[np.float64]


def chain_of_layers(layers: Sequence[Layer], start: Floats, final: Floats) -> Chain:
    """The paths from first states to last states, which have weights [S]; states off these paths are left out.

    Empty if there is no path.
    """
    layers = list(layers)
    layers[0] = _from_one_state(layers[0], start)
    layers[-1] = _to_one_state(layers[-1], final)
    return trimmed(layers)


def chain_of_machine(machine: Machine, final: Floats) -> Chain:
    """The chain of an automaton, from the weights of its last states."""
    return chain_of_layers([machine.layers[index] for index in machine.layer_of], machine.start, final)


def chain_of_observed_machine(machine: Machine, final: Floats, base: int, n_digits: int) -> Chain:
    """The chain that reads the symbols of an automaton, then the digits of its label; final: [labels, S]."""
    layers = [machine.layers[index] for index in machine.layer_of]
    n_states = layers[-1].n_after
    for place in range(n_digits):
        before = np.repeat(np.arange(n_states * base**place), base)
        value = np.tile(np.arange(base), n_states * base**place)
        after = before * base + value
        layers.append(_layer(before, value, after, np.ones(len(value)), (n_states * base**place, len(value))))
    weights = np.zeros((n_states, base**n_digits))
    weights[: final.shape[1], : len(final)] = final[:, :n_states].T
    return chain_of_layers(layers, machine.start, weights.reshape(-1))


def chain_of_table(weights: Floats) -> Chain:
    """A table [k_1, ..., k_d]: states are beginnings, and those with equal rows are one state."""
    rows, state = _states_of_rows(weights.reshape(-1, weights.shape[-1]))
    source, value = np.nonzero(rows)
    layers = [_layer(source, value, np.zeros_like(source), rows[source, value], (len(rows), 1))]
    for size in reversed(weights.shape[:-1]):
        rows, before = _states_of_rows(state.reshape(-1, size))
        source, value = np.nonzero(rows != DEAD)
        ones, states = np.ones(len(source)), (len(rows), layers[-1].n_before)
        layers.append(_layer(source, value, rows[source, value], ones, states))
        state = before
    return trimmed(layers[::-1])


def _layer(
    source: NDArray[Any], value: NDArray[Any], target: NDArray[Any], weight: Floats, states: tuple[int, int]
) -> Layer:
    """states: before and after."""
    return Layer(source.astype(np.int32), value.astype(np.int32), target.astype(np.int32), weight, *states)


def _states_of_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Different rows that lead somewhere, and which of them each row is, DEAD where it leads nowhere."""
    nowhere = DEAD if rows.dtype == np.int64 else 0.0
    different, index = np.unique(rows, axis=0, return_inverse=True)
    leads = (different != nowhere).any(1)
    number = np.where(leads, np.cumsum(leads) - 1, DEAD)
    return different[leads], number[index.reshape(-1)]


def trimmed(layers: Sequence[Layer]) -> Chain:
    """The layers without states and edges that no path from the first to the last state takes; empty without a path."""
    reached = [_marked(np.zeros(1, np.int32), layers[0].n_before)]
    for layer in layers:
        reached.append(_marked(layer.target[reached[-1][layer.source] & (layer.weight > 0)], layer.n_after))
    useful = [np.ones(1, bool)]
    for layer in reversed(layers):
        useful.append(_marked(layer.source[useful[-1][layer.target] & (layer.weight > 0)], layer.n_before))
    kept = [a & b for a, b in zip(reached, reversed(useful), strict=True)]
    if not all(states.any() for states in kept):
        return ()
    return tuple(_without(layer, *kept[i : i + 2]) for i, layer in enumerate(layers))


def _marked(states: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    found = np.zeros(n, bool)
    found[states] = True
    return found


def _without(layer: Layer, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Layer:
    keep = before[layer.source] & after[layer.target] & (layer.weight > 0)
    source, target = (np.cumsum(states) - 1 for states in (before, after))
    ends = source[layer.source[keep]], layer.value[keep], target[layer.target[keep]]
    return _layer(*ends, layer.weight[keep], (int(before.sum()), int(after.sum())))


def _from_one_state(layer: Layer, start: Floats) -> Layer:
    weights = np.zeros(layer.n_before)
    weights[: len(start)] = start[: layer.n_before]
    return _merged(np.zeros_like(layer.source), layer, layer.target, weights[layer.source], (1, layer.n_after))


def _to_one_state(layer: Layer, final: Floats) -> Layer:
    return _merged(layer.source, layer, np.zeros_like(layer.target), final[layer.target], (layer.n_before, 1))


def _merged(
    source: NDArray[np.int32], layer: Layer, target: NDArray[np.int32], factor: Floats, states: tuple[int, int]
) -> Layer:
    """Edges with new ends and weights; those that have become parallel add up."""
    ends, index = np.unique(np.stack([source, layer.value, target], 1), axis=0, return_inverse=True)
    weight = np.bincount(index.reshape(-1), layer.weight * factor, len(ends)).astype(np.float64)
    return _layer(ends[:, 0], ends[:, 1], ends[:, 2], weight, states)


def table_of_chain(chain: Chain, sizes: Sequence[int]) -> Floats:
    """The weight of every assignment [k_1, ..., k_d]; for few variables."""
    weights = np.ones((1, 1))
    for layer, size in zip(chain, sizes, strict=True):
        step = np.zeros((layer.n_before, size, layer.n_after))
        exists = layer.value < size
        np.add.at(step, (layer.source[exists], layer.value[exists], layer.target[exists]), layer.weight[exists])
        weights = np.einsum("as,svt->avt", weights, step).reshape(-1, layer.n_after)
    return weights.reshape(tuple(sizes))
