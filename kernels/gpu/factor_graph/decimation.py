"""Searches for the most probable assignment of R rows at a time: see emnesy_gpu.reference.factor_graph.

Each round runs max-product belief propagation, in float32 and where that loses digits in float64 logarithms, and fixes
symbols. A program keeps the logits, beliefs and choices of its rows.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.belief_rows import Rows, Schedule
from emnesy_gpu.kernels.gpu.common.decimation import TOLERANCE, choose, fix, store_assignment
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE
from emnesy_gpu.kernels.gpu.factor_graph.graph import Chains, Graph, Queue, Space, row_of, work_of
from emnesy_gpu.kernels.gpu.factor_graph.kernels import run_rows

SWEEPS = tl.constexpr(10)  # as in emnesy_gpu.reference.decimation


class Options(NamedTuple):
    """What a search is compiled for, beside the sizes of belief propagation."""

    K: int
    tile: int  # symbols that are looked at at once
    width: int  # values, a power of two
    wide: int  # of the logarithms: 1 for results in float32, 2 for float64


class Search(NamedTuple):
    """What a program keeps of its R rows."""

    rows: object  # of belief propagation
    choice: object  # int32 [R, n]: -1 for fixed symbols
    top: object  # float64 [R, n]
    left: Any  # int32 [R]: open symbols
    code: Any  # int32 [R]: first whether a symbol has no value, then the status


@triton.jit
def _start_row(search, unary_ptr, logits_ptr, r, n, OPTIONS: tl.constexpr):
    """Row r with hard zeros at the values that its symbols cannot have, unless a symbol has no other."""
    value = tl.arange(0, OPTIONS.width)[None, :]
    contradicts = tl.zeros((), tl.int32)
    for first in range(0, n, OPTIONS.tile):
        symbol = first + tl.arange(0, OPTIONS.tile)[:, None]
        inside = (symbol < n) & (value < OPTIONS.K)
        at = symbol * OPTIONS.K + value
        logits = tl.load(logits_ptr + at, mask=inside, other=float("-inf"))
        unary = tl.load(unary_ptr + at, mask=inside, other=0.0)
        usable = tl.max(((logits != float("-inf")) & (unary > 0.0)).to(tl.int32), 1, keep_dims=True)
        contradicts = tl.maximum(contradicts, 1 - tl.min(tl.min(tl.where(symbol < n, usable, 1), 1), 0))
    for first in range(0, n, OPTIONS.tile):
        symbol = first + tl.arange(0, OPTIONS.tile)[:, None]
        inside = (symbol < n) & (value < OPTIONS.K)
        at = symbol * OPTIONS.K + value
        logits = tl.load(logits_ptr + at, mask=inside)
        unary = tl.load(unary_ptr + at, mask=inside, other=0.0)
        usable = tl.where((unary > 0.0) | (contradicts == 1), logits, float("-inf"))
        tl.store(search.rows.logits + r * n * OPTIONS.K + at, usable, mask=inside)
        tl.store(search.choice + r * n + symbol, tl.full((OPTIONS.tile, 1), 0, tl.int32), mask=symbol < n)
    return contradicts


@triton.jit
def _fix_row(search, r, n, OPTIONS: tl.constexpr):
    """One round of row r, whose beliefs are known."""
    symbols_ptr = search.rows.logits + r * n * OPTIONS.K
    beliefs_ptr = search.rows.marginals + r * n * OPTIONS.K
    choice_ptr = search.choice + r * n
    top_ptr = search.top + r * n
    leader = choose(beliefs_ptr, choice_ptr, top_ptr, n, OPTIONS.K, OPTIONS.tile, OPTIONS.width)
    tl.debug_barrier()
    left = fix(symbols_ptr, choice_ptr, top_ptr, leader, n, OPTIONS.K, OPTIONS.tile, OPTIONS.width)
    tl.store(search.left + r, left)


@triton.jit
def _round(search, narrow, wide, order, flood, step, SIZES: tl.constexpr, OPTIONS: tl.constexpr):
    """Beliefs of all rows with open symbols, of which some are fixed. narrow, wide: graph, chains and work."""
    n = wide[0].n_variables
    zero = tl.zeros((), tl.float64)
    row = tl.full((SIZES.lanes,), 0, tl.int64) + row_of(SIZES)
    queue = Queue(None, None, None, None, None, None, None)  # sweeps are serial
    wanted = tl.load(search.left + row) > 0
    again = wanted
    if OPTIONS.wide == 1:
        narrow_schedule = Schedule(SWEEPS, zero.to(tl.float32), TOLERANCE)
        run_rows(*narrow, search.rows, row, wanted, order, flood, queue, narrow_schedule, zero, SIZES, 0)
        tl.debug_barrier()
        again = wanted & (tl.load(search.rows.redo + row, mask=wanted, other=0) == 1)
    wide_schedule = Schedule(SWEEPS, zero, TOLERANCE)
    if tl.max(again.to(tl.int32)) == 1:
        run_rows(*wide, search.rows, row, again, order, flood, queue, wide_schedule, zero, SIZES, OPTIONS.wide)
    tl.debug_barrier()
    for r in range(SIZES.rows):
        if tl.load(search.left + r) > 0:
            if step == 0:
                code = tl.load(search.rows.status + r).to(tl.int32)
                impossible = (code == POSSIBLE) & (tl.load(search.code + r) == 1)
                tl.debug_barrier()  # other warps have read it
                tl.store(search.code + r, tl.where(impossible, IMPOSSIBLE, code))
            _fix_row(search, r, n, OPTIONS)
    tl.debug_barrier()
    return tl.max(tl.load(search.left + row)) > 0


@triton.jit(do_not_specialize=[
    "n_order", "n_flood", "batch", "n_variables", "n_edges", "n_values", "arity", "n_states", "layer_states", "n_classes",
])  # fmt: skip
def decimation_kernel(
    logits_ptr, label_ptr, size_ptr, unary_ptr, first_ptr, variable_ptr, which_ptr, pairs_ptr, incident_ptr,
    incident_first_ptr, layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr,
    in_weight_ptr, out_first_ptr, out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, log_unary_ptr,
    log_pairs_ptr, log_in_weight_ptr, log_out_weight_ptr, order_ptr, order_sizes_ptr, flood_ptr, flood_sizes_ptr,
    narrow_ptr, wide_ptr, symbols_ptr, ones_ptr, beliefs_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr,
    choice_ptr, top_ptr, left_ptr, code_ptr, z_ptr, codes_ptr, n_order, n_flood, batch, n_variables, n_edges, n_values,
    arity, n_states, layer_states, n_classes, SIZES: tl.constexpr, OPTIONS: tl.constexpr,
):  # fmt: skip
    """R rows of the batch after another R.

    Grid (programs,), rows i R to i R + R - 1 to program i mod programs. logits [batch, n, K]; tables and scratch as in
    belief_propagation_kernel, weights as numbers and log_* as log2; symbols and beliefs [programs, R, n, K]; choice and
    top [programs, R, n]; from evidence on, and ones, left and code [programs, R]; z int64 [batch, n], codes uint8
    [batch].
    """
    R: tl.constexpr = SIZES.rows
    n = n_variables
    ends = first_ptr, variable_ptr, which_ptr
    space = Space(n_values, arity, n_states, n_classes)
    narrow_graph = Graph(
        size_ptr, unary_ptr, *ends, pairs_ptr, incident_ptr, incident_first_ptr, n, n_edges, n_values
    )  # fmt: skip
    wide_graph = Graph(
        size_ptr, log_unary_ptr, *ends, log_pairs_ptr, incident_ptr, incident_first_ptr, n, n_edges, n_values
    )  # fmt: skip
    narrow_chains = Chains(
        layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr, in_weight_ptr, out_first_ptr,
        out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, layer_states, n_classes,
    )  # fmt: skip
    wide_chains = Chains(
        layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr, log_in_weight_ptr,
        out_first_ptr, out_source_ptr, out_class_ptr, out_target_ptr, log_out_weight_ptr, layer_states, n_classes,
    )  # fmt: skip
    narrow = (narrow_graph, narrow_chains, work_of(narrow_ptr, narrow_graph, space, SIZES))
    wide = (wide_graph, wide_chains, work_of(wide_ptr, wide_graph, space, SIZES))
    own = tl.program_id(0).to(tl.int64) * R
    rows = Rows(
        symbols_ptr + own * n * n_values, ones_ptr + own, beliefs_ptr + own * n * n_values, evidence_ptr + own,
        status_ptr + own, sweeps_ptr + own, change_ptr + own, redo_ptr + own,
    )  # fmt: skip
    search = Search(rows, choice_ptr + own * n, top_ptr + own * n, left_ptr + own, code_ptr + own)
    order = (order_ptr, order_sizes_ptr, n_order)
    flood = (flood_ptr, flood_sizes_ptr, n_flood)
    for tile in range(tl.program_id(0), tl.cdiv(batch, R), tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + tile * R
        tl.debug_barrier()
        for r in range(R):
            tl.store(search.left + r, tl.where(row + r < batch, n, 0))
            tl.store(ones_ptr + own + r, tl.full((), 1, tl.int64))
            if row + r < batch:
                contradicts = _start_row(search, unary_ptr, logits_ptr + (row + r) * n * OPTIONS.K, r, n, OPTIONS)
                tl.store(search.code + r, contradicts)
        tl.debug_barrier()
        step = 0
        going = True
        while going:
            going = _round(search, narrow, wide, order, flood, step, SIZES, OPTIONS)
            step += 1
        for r in range(R):
            if row + r < batch:
                symbols = rows.logits + r * n * OPTIONS.K
                store_assignment(symbols, z_ptr + (row + r) * n, n, OPTIONS.K, OPTIONS.tile, OPTIONS.width)
                label = tl.load(label_ptr + row + r)
                code = tl.load(search.code + r)
                code = tl.where((label == 1) | (label == -1), code, INVALID_LABEL)
                tl.store(codes_ptr + row + r, code.to(tl.uint8))
