"""Loopy belief propagation with all-different factors, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.all_different``. Rows are independent, and have the same bits in any
batch and with any number of threads.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, new_options, propagate
from emnesy_gpu.kernels.cpu.common.row_driver import Method

LARGEST_N_VALUES = 16
"""The sums over subsets of values take 2^K steps and 2^K * 64 bytes."""


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    groups: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> Beliefs:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.all_different import probabilities, wide_exponents
    from emnesy_gpu.kernels.cpu.all_different.graph import build_graph

    _, n, k = logits.shape
    if k > LARGEST_N_VALUES:
        raise ValueError(
            f'all-different factors take at most {LARGEST_N_VALUES} values, got {k}: use factors="pairwise"'
        )
    graph, options = build_graph(groups.numpy(), phases, n), new_options(iterations, damping, tolerance, maximise)
    in_probabilities = partial(probabilities.run, graph, options)
    methods = [
        Method(np.float32, in_probabilities),
        Method(np.float64, in_probabilities),
        Method(np.float64, partial(wide_exponents.run, graph, options)),
    ]
    return propagate(methods, options, logits, label, 0.15 * (iterations + 1) * len(groups) * k * 2**k)
