"""The residual schedule of belief propagation: what has changed most is renewed first.

The residual of a factor is the sum of the changes of its incoming messages since it was last renewed, where a message
from another factor to a symbol of both counts with the largest change of its probabilities. A damped factor keeps the
part d / (1 - d) of its own largest change, which is still to come. The first sweep is the serial one. Every later
sweep makes as many renewals, each of the factor with the largest residual; of equal ones it is the first. This
estimates how much a renewal would change without computing it (Sutton and McCallum, "Improved dynamic schedules for
belief propagation", 2007; Elidan, McGraw, Koller, "Residual belief propagation", 2006).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emnesy_gpu.kernels.factor_graph_tables import FactorGraphTables
from emnesy_gpu.reference.message_passing import Converged

Renew = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""A factor and all messages [1, E, K] -> these with its own renewed, and whether there is a contradiction."""


def sweep_by_residual(
    renew: Renew,
    messages: Tensor,
    active: Tensor,
    graph: FactorGraphTables,
    damping: float,
    iterations: int,
    tolerance: float,
) -> Converged:
    """One row, log messages [1, E, K], at most ``iterations`` sweeps; see ``message_passing.sweep``.

    The change of a sweep is the largest of a message (a probability), or the largest residual after it: below the
    tolerance none of both is left.
    """
    residual = torch.zeros(max(1, len(graph.kind)), dtype=torch.float64)
    order, sweeps, change = graph.order.tolist(), 0, 0.0
    while bool(active) and sweeps < iterations and (sweeps == 0 or not change < tolerance):
        change = 0.0
        for factor in order:
            factor = factor if sweeps == 0 else int(residual.numpy().argmax())
            renewed, contradiction = renew(factor, messages)
            if contradiction:
                return Converged(messages, ~contradiction, *_numbers(sweeps, change))
            steps = (renewed.exp() - messages.exp()).abs().amax(-1)[0]
            _pass_on(residual, steps, graph, factor, damping)
            change, messages = max(change, float(steps.max())), renewed
        change, sweeps = max(change, *residual.tolist()), sweeps + 1
    return Converged(messages, torch.ones_like(active), *_numbers(sweeps, change))


def _pass_on(residual: Tensor, steps: Tensor, graph: FactorGraphTables, factor: int, damping: float) -> None:
    """Add the changes of a factor's messages [E] to the residuals of all others that read them."""
    edges = range(int(graph.first[factor]), int(graph.first[factor + 1]))
    for edge in edges:
        begin = graph.incident_first[graph.variable[edge]]
        incident = graph.incident[begin : graph.incident_first[graph.variable[edge] + 1]].long()
        residual[graph.owner[incident].long()] += steps[edge]
    residual[factor] = damping / (1.0 - damping) * steps[edges.start : edges.stop].max()


def _numbers(sweeps: int, change: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([sweeps], dtype=torch.int32), torch.tensor([change], dtype=torch.float64)
