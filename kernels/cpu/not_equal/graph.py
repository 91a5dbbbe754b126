"""The graph of not-equal factors, as the kernels read it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Status of a row that has to be computed again, with a wider range of numbers.
RECOMPUTE = 255


class Graph(NamedTuple):
    """Neighbours and reverse slots [N, D], the degree of each symbol, and the symbols in the order of their updates.

    A phase ends before ends[p] of the order. Where its symbols are neighbours of each other (staged), new messages
    must wait until all of them are done, as the phase reads the messages from before it.
    """

    neighbours: np.ndarray
    reverse: np.ndarray
    degree: np.ndarray
    order: np.ndarray
    ends: np.ndarray
    staged: np.ndarray


def build_graph(neighbours: np.ndarray, reverse: np.ndarray, order: np.ndarray, phases: list[int]) -> Graph:
    linked = neighbours >= 0
    phase = np.empty(len(neighbours), np.int64)
    phase[order] = np.repeat(np.arange(len(phases)), phases)
    together = linked & (phase[neighbours] == phase[:, None])
    staged = np.zeros(len(phases), np.bool_)
    staged[phase[together.any(1)]] = True
    wide = [array.astype(np.int64) for array in (neighbours, reverse, linked.sum(1), order)]
    return Graph(*wide, np.cumsum(phases), staged)
