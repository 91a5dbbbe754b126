"""The graph of not-equal factors, as the kernels read it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Graph(NamedTuple):
    """Neighbours and reverse slots [N, D], the degree of each symbol, and the symbols in the order of their updates.

    A phase ends before ends[p] of the order. Where its symbols are neighbours of each other (staged), new messages
    must wait until all of them are done, as the phase reads the messages from before it.
    """

    neighbours: np.ndarray  # int64 [N, D], -1 behind the last
    reverse: np.ndarray  # int64 [N, D]: the slot of a symbol among those of its neighbour
    degree: np.ndarray  # int64 [N]
    order: np.ndarray  # int64 [N]
    ends: np.ndarray  # int64 [n_phases]
    staged: np.ndarray  # bool [n_phases]


def build_graph(neighbours: np.ndarray, reverse: np.ndarray, order: np.ndarray, phases: list[int]) -> Graph:
    """phases: how many symbols of the order each has."""
    linked = neighbours >= 0
    phase = np.empty(len(neighbours), np.int64)
    phase[order] = np.repeat(np.arange(len(phases)), phases)
    together = linked & (phase[neighbours] == phase[:, None])
    staged = np.zeros(len(phases), np.bool_)
    staged[phase[together.any(1)]] = True
    return Graph(
        neighbours.astype(np.int64),
        reverse.astype(np.int64),
        linked.sum(1).astype(np.int64),
        order.astype(np.int64),
        np.cumsum(phases),
        staged,
    )
