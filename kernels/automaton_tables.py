"""An automaton as the kernels of every back end receive it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AutomatonTables(NamedTuple):
    """Everything on one device. n positions, L different layers, S states at most, K values, C classes.

    States of a layer are numbered from 0 on both sides. Values with the same edges share a class: their probabilities
    are summed once, and an edge belongs to a class. Edges [E] of all layers lie one layer after the other, twice:
    sorted by target, source and class (in_*), and by source, class and target (out_*).

    layer: int32 [n], the layer of each position. n_states: int32 [L, 2], before and after. classes: int32 [L, K], -1
    for values without edges. n_classes: int32 [L], at most C; C = K says that each value is a class in every layer.
    in_first: int32 [L, S + 1], where the edges into each state begin,
    over all layers. in_source, in_class, in_weight: [E]. out_first: int32 [L, S + 1]. out_class, out_target,
    out_weight: [E]. Weights are float64, at most 1 in each layer. successor: int32 [L, S, C] of deterministic automata
    whose weights are all 1, S where there is no edge; empty [0, S, C] for all others.

    start: float64 [S], weights of the states before position 0, the largest 1. entry: int32 [n], which entry of the
    label is seen after each position, -1 for none. emissions: float64 [M, Y + 1, S], for each of the M entries of the
    label the weight of every state given the entry; row 0 is for entries that are not given: 1 for states with any
    label. codes: int32 [M, Q + 3], the row of the emissions for each code of an entry, in column code + 2: 0 for code
    -1, and -1 for codes that do not exist, as in the first and the last column.
    log_scale: float64 [1], what was divided out of the weights, as a logarithm.
    """

    layer: Tensor
    n_states: Tensor
    classes: Tensor
    n_classes: Tensor
    in_first: Tensor
    in_source: Tensor
    in_class: Tensor
    in_weight: Tensor
    out_first: Tensor
    out_class: Tensor
    out_target: Tensor
    out_weight: Tensor
    successor: Tensor
    start: Tensor
    entry: Tensor
    emissions: Tensor
    codes: Tensor
    log_scale: Tensor

    def to(self, device: torch.device) -> AutomatonTables:
        return AutomatonTables(*(table.to(device) for table in self))
