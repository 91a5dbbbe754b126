"""Tables of deterministic automata of few states, whose messages stay in registers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES

MOST_STATES = 4
MOST_LAYERS = 256
MOST_CLASSES = 64
MOST_VALUES = 1 << 12
"""Four positions then multiply a message by 2^48 at most."""


class FewTables(NamedTuple):
    """A position has rows of numbers: the sums of its C classes, those of n_sets sets of classes, and a row of 0."""

    size: int  # P, states of a message: 2 or 4; 0 where the automaton is another one
    n_sets: int  # the most of any layer
    sparse: bool  # whether sets or the row of 0 are needed
    step: np.ndarray  # [L, P, P]: the row of source and target
    follow: np.ndarray  # [L, C, P]: the successor of each state, P where there is none
    set_first: np.ndarray  # [L, n_sets + 1]: where the classes of each set begin in the next table
    set_classes: np.ndarray

    def tables(self) -> dict[str, np.ndarray]:
        return {
            "step": self.step * FLOAT32_LANES,
            "follow": self.follow * FLOAT32_LANES,
            "set_first": self.set_first,
            "set_classes": self.set_classes,
        }


def few_tables(successor: np.ndarray, before: np.ndarray, n_values: int) -> FewTables:
    """successor: [L, S, C], S where there is no edge; empty for automata that are not deterministic. before: [L]."""
    layers, n_states, n_classes = successor.shape
    small = n_states <= MOST_STATES and n_classes <= MOST_CLASSES and n_values <= MOST_VALUES
    if not (small and 0 < layers <= MOST_LAYERS):
        nothing = np.empty(0, np.int32)
        return FewTables(0, 0, False, nothing, nothing, nothing, nothing)
    size = 2 if n_states <= 2 else MOST_STATES
    follow = np.full((layers, n_classes, size), size)
    follow[:, :, :n_states] = np.where(successor == n_states, size, successor).transpose(0, 2, 1)
    leading = [_leading_classes(row, n_states) for row in successor]
    sets = [sorted({some for row in layer for some in row if len(some) > 1}) for layer in leading]
    n_sets = max(map(len, sets))
    step = np.full((layers, size, size), n_classes + n_sets)
    for layer, found in enumerate(leading):
        rows: dict[tuple[int, ...], int] = {(): n_classes + n_sets} | {(c,): c for c in range(n_classes)}
        rows |= {some: n_classes + index for index, some in enumerate(sets[layer])}
        step[layer, :n_states, :n_states] = [[rows[some] for some in row] for row in found]
        # Nothing is in a state that is not before the layer: any number serves.
        step[layer, before[layer] :] = 0
    lengths = np.array([[*map(len, layer), *[0] * (n_sets - len(layer))] for layer in sets], np.int64)
    ends = lengths.cumsum().reshape(layers, n_sets)
    set_first = np.concatenate([ends - lengths, ends[:, -1:]], 1)
    members = np.array([c for layer in sets for some in layer for c in some], np.int64)
    return FewTables(size, n_sets, bool((step >= n_classes).any()), step, follow, set_first, members)


def _leading_classes(successor: np.ndarray, n_states: int) -> list[list[tuple[int, ...]]]:
    """The classes that lead from each state to each."""
    return [[tuple(map(int, np.flatnonzero(row == t))) for t in range(n_states)] for row in successor]
