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
from emnesy_gpu.kernels.cpu.common.lanes import kept_lanes
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.label_rows import codes_of, known_rows, scratch_rows
from emnesy_gpu.kernels.status import POSSIBLE


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
    return Call(run, most_of_one_range(row_cost(g, LINEAR_COST)), arguments, work, plan)


@inlined
def possible_rows(work, first, logits, label, batch, codes, graph):
    """The rows of the labels, and whether all are known and possible, and no logit is too large."""
    g = graph_at(graph, work[0, 0])
    rows, good = known_rows(work, first, logits, label, batch, g.n * g.n_values, codes)
    if good and codes[1] <= 1:
        for row in range(batch):
            good &= g.possible[rows[row, 0] if codes[1] else 0] == POSSIBLE
    return rows, good


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
    """How many rows are left; all of them where a label is unknown or impossible, or a logit is too large."""
    rows, good = possible_rows(work, first, logits, label, batch, (codes, n_entries, n_columns), graph)
    if not good:
        return batch
    job = prior_share, factor, SMALLEST_NORMAL[1], smallest
    return linear.sum_product(logits, marginals, log_evidence, status, rows, graph, places, work, job)


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
    rows, good = possible_rows(work, first, logits, label, batch, (codes, n_entries, n_columns), graph)
    if not good:
        return batch
    job = prior_share, factor, SMALLEST_NORMAL[1], smallest
    return few_states.sum_product(logits, marginals, log_evidence, status, rows, graph, places, work, job)


# All arrays belong to the caller: to count references to them would cost more than a small automaton does.
posterior.targetoptions["_nrt"] = posterior_of_few_states.targetoptions["_nrt"] = False
