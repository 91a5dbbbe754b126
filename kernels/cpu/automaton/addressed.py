"""The posterior of few rows by the shortest way: ``linear`` for codes of labels, with all arguments by addresses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton import few_states, linear
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, LINEAR_COST, graph, graph_at, kept_automata, row_cost
from emnesy_gpu.kernels.cpu.automaton.linear import SMALLEST_NORMAL
from emnesy_gpu.kernels.cpu.automaton.probabilities import plan_of
from emnesy_gpu.kernels.cpu.automaton.screen import find_possible_labels
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.few_rows import Call
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_lanes
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.label_rows import codes_of, label_rows_at, scratch_rows
from emnesy_gpu.kernels.status import POSSIBLE

ALONE = 4
"""So many times as many rows are few where there is one thread: the long way takes 25 us more."""

VECTORS = 8
"""Vectors of rows after which a call ends if a row of them is left: not many are computed for nothing."""


def call_of(tables: Sequence[Tensor]) -> Call:
    """How few rows of an automaton are computed; kept with its tables."""
    found: Call = kept_automata.get(tables, Call, lambda: _call_of(tables))
    return found


def _call_of(tables: Sequence[Tensor]) -> Call:
    g, codes = graph(tables, FLOAT32), codes_of(AutomatonTables(*tables).codes)
    if codes.n_entries <= 1:
        find_possible_labels(g, codes.n_entries)
    plan = plan_of(tables, FLOAT32)

    def work(batch: int) -> np.ndarray:
        return kept_lanes(plan.rows + scratch_rows(codes, batch), batch)

    arguments = *codes, plan.rows, plan.graph.address, plan.layout.address, plan.guard
    run = posterior_of_few_states if g.few else posterior
    cost = row_cost(g, LINEAR_COST)
    return Call(run, most_of_one_range(cost), arguments, work, plan, most_alone=most_of_one_range(cost / ALONE))


@inlined
def possible_rows(work, first, label, batch, codes, graph):
    """The rows of the labels, whether all are known and possible, and the logits of a row."""
    g = graph_at(graph, work[0, 0])
    rows, good = label_rows_at(work, first, label, batch, codes)
    if good and codes[1] <= 1:
        for row in range(batch):
            good &= g.possible[rows[row, 0] if codes[1] else 0] == POSSIBLE
    return rows, good, g.n * g.n_values


@inlined
def infer(sum_product, inputs, outputs, batch, job, codes, first, graph, places, work):
    """0, or the batch where a row is left, for its label or little evidence."""
    (logits, label), (marginals, log_evidence, status) = inputs, outputs
    rows, good, size = possible_rows(work, first, label, batch, codes, graph)
    step = VECTORS * work.shape[1]
    for start in range(0, batch if good else 0, step):
        at, ours = 4 * start * size, (log_evidence + 4 * start, status + start)
        some = rows[start : start + step]
        good = good and sum_product(logits + at, marginals + at, *ours, some, graph, places, work, job) == 0
    return 0 if good else batch


@kernel
def posterior(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    batch,
    prior_share,
    factor,
    codes,
    n_entries,
    n_columns,
    first,
    graph,
    places,
    smallest,
    work,
):
    """See ``infer``."""
    inputs, outputs = (logits, label), (marginals, log_evidence, status)
    job, label_codes = (prior_share, factor, SMALLEST_NORMAL[1], smallest), (codes, n_entries, n_columns)
    return infer(linear.sum_product, inputs, outputs, batch, job, label_codes, first, graph, places, work)


@kernel
def posterior_of_few_states(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    batch,
    prior_share,
    factor,
    codes,
    n_entries,
    n_columns,
    first,
    graph,
    places,
    smallest,
    work,
):
    """The same."""
    inputs, outputs = (logits, label), (marginals, log_evidence, status)
    job, label_codes = (prior_share, factor, SMALLEST_NORMAL[1], smallest), (codes, n_entries, n_columns)
    return infer(few_states.sum_product, inputs, outputs, batch, job, label_codes, first, graph, places, work)


# All arrays belong to the caller: to count references to them would cost more than a small automaton does.
posterior.targetoptions["_nrt"] = posterior_of_few_states.targetoptions["_nrt"] = False
