"""Loopy belief propagation with pairwise not-equal factors, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.not_equal``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, new_options, propagate
from emnesy_gpu.kernels.cpu.common.row_driver import Method


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    reverse: Tensor,
    order: Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> Beliefs:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.not_equal import log_space, probabilities
    from emnesy_gpu.kernels.cpu.not_equal.graph import build_graph

    graph = build_graph(neighbours.numpy(), reverse.numpy(), order.numpy(), phases)
    options = new_options(iterations, damping, tolerance, maximise)
    in_probabilities = partial(probabilities.run, graph, options)
    methods = [
        Method(np.float32, in_probabilities),
        Method(np.float64, in_probabilities),
        Method(np.float64, partial(log_space.run, graph, options)),
    ]
    return propagate(methods, options, logits, label, 0.5 * (iterations + 1) * neighbours.numel() * logits.shape[2])
