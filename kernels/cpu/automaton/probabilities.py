"""Sum-product in probabilities, by the kernel that serves: messages in registers for few states, or ``linear``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton import few_states, linear
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, graph, kept_automata
from emnesy_gpu.kernels.cpu.automaton.linear import SMALLEST_NORMAL, Plan
from emnesy_gpu.kernels.cpu.common.lane_scratch import half_lanes, kept_lanes, scratch
from emnesy_gpu.kernels.cpu.common.pointers import address_of


def plan_of(tables: Sequence[Tensor], kind: str) -> Plan:
    """Kept with the tables. kind: FLOAT32 or FLOAT64."""
    found: Plan = kept_automata.get(tables, (Plan, kind), lambda: _plan(tables, kind))
    return found


def _plan(tables: Sequence[Tensor], kind: str) -> Plan:
    g = graph(tables, kind)
    return few_states.plan(g) if g.few else linear.plan(g, kind == FLOAT32)


def run(logits, rows, results, plan: Plan, prior_share: float, factor: float) -> int:
    """results: marginals [batch, n, K], log evidence and status [batch], all written; returns how many rows are left.

    status becomes POSSIBLE, or RECOMPUTE where the other results are not known: rows with logits that are no priors are
    among them. Logits and the plan are both float32, or both float64, and every label is valid.
    """
    single = logits.dtype == np.float32
    work = kept_lanes(plan.rows, len(rows)) if single else scratch(plan.rows, np.float64)
    if not single and len(rows) <= work.shape[1] // 2:
        work = half_lanes(work)
    addresses = [address_of(array) for array in (logits, *results)]
    job = prior_share, factor, SMALLEST_NORMAL[single], plan.guard
    return plan.kernel(*addresses, rows, plan.graph.address, plan.layout.address, work, job)
