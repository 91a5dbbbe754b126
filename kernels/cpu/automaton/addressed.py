"""The posterior of few rows by the shortest way: ``linear`` for codes of labels, with all arguments by addresses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import types
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, LINEAR_COST, Graph, graph, kept_automata, row_cost
from emnesy_gpu.kernels.cpu.automaton.linear import SMALLEST_NORMAL, Layout, guard, layout, sum_product
from emnesy_gpu.kernels.cpu.automaton.screen import find_possible_labels
from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.few_rows import Call
from emnesy_gpu.kernels.cpu.common.lanes import kept_lanes
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.records import record_of, record_reader
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
    at = layout(g.n, g.n_values, g.n_classes, g.n_states, g.one_class_each)
    records = record_of(g), record_of(at)

    def work(batch: int) -> np.ndarray:
        return kept_lanes(at.total + scratch_rows(codes, batch), batch)

    arguments = *codes, *(record.address for record in records), guard(g, True)
    return Call(posterior, most_of_one_range(row_cost(g, LINEAR_COST)), arguments, work, records)


graph_at = record_reader(
    Graph, numbers=(types.int32, 1), weights=(None, 1), log_emission=(types.float64, 2), possible=(types.uint8, 1)
)
layout_at = record_reader(Layout)


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
    graph_address,
    places,
    smallest,
    work,
):
    """How many rows are left; all of them where a label is unknown or impossible, or a logit is too large."""
    g, at = graph_at(graph_address, work[0, 0]), layout_at(places, work[0, 0])
    rows, known = known_rows(work, at.total, logits, label, batch, at.n * at.k, (codes, n_entries, n_columns))
    if not known:
        return batch
    if n_entries <= 1:
        for row in range(batch):
            if g.possible[rows[row, 0] if n_entries else 0] != POSSIBLE:
                return batch
    job = prior_share, factor, SMALLEST_NORMAL[1], smallest
    return sum_product(logits, marginals, log_evidence, status, rows, g, at, work, job)


# All arrays belong to the caller: to count references to them would cost more than a small automaton does.
posterior.targetoptions["_nrt"] = False
