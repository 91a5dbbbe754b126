"""The assignments that a hard factor forbids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emnesy_gpu.automata.machine import Layer
from emnesy_gpu.factor_graphs.chains import Chain, trimmed
from emnesy_gpu.factor_graphs.potentials import Layers, Parity, Potential, Table


def complement(potential: Potential, sizes: Sequence[int]) -> Potential | None:
    """The factor that holds where a hard factor does not; None if it always holds."""
    if isinstance(potential, Parity):
        return Parity(1 - potential.remainder)
    if isinstance(potential, Table):
        return Table(1.0 - potential.weights) if not potential.weights.all() else None
    chain = _complement_of_chain(potential.chain, sizes)
    return Layers(chain) if chain else None


def _complement_of_chain(chain: Chain, sizes: Sequence[int]) -> Chain:
    """One more state of each layer stands for all that the chain forbids; at the end it is the only one."""
    layers = []
    for layer, size in zip(chain, sizes, strict=True):
        table = np.full((layer.n_before + 1, size), layer.n_after, np.int64)
        exists = layer.value < size
        table[layer.source[exists], layer.value[exists]] = layer.target[exists]
        layers.append(Layer.from_successors(table, layer.n_after + 1))
    last = layers[-1]
    fails = last.target == chain[-1].n_after
    ends = last.source[fails], last.value[fails], np.zeros_like(last.target[fails])
    layers[-1] = Layer(*ends, last.weight[fails], last.n_before, 1)
    return trimmed(layers)
