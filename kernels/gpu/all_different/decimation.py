"""Searches for the most probable valid assignment of a row at a time: see emnesy_gpu.reference.decimation.

Each round runs max-product belief propagation, in float32 and where that loses digits in float64 logarithms, and fixes
the symbols that are certain, and of the others the one with the largest lead of its best value over the second.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.all_different.factor import Graph, Options, clear_tables
from emnesy_gpu.kernels.gpu.all_different.kernels import row_by_groups, workspace_of
from emnesy_gpu.kernels.gpu.common.belief_rows import Rows, Schedule
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL

CERTAIN = tl.constexpr(0.999)  # as in emnesy_gpu.reference.decimation
TOLERANCE = tl.constexpr(1e-3)
NONE = tl.constexpr(1 << 30)


@triton.jit
def _choose(beliefs_ptr, choice_ptr, top_ptr, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Stores the first best value of every open symbol [n], and its belief [n]; the choice of fixed ones is -1.

    Returns the first open symbol with the largest lead of its best value over the second.
    """
    value = tl.arange(0, WIDTH)[None, :]
    largest = tl.full((), -2.0, tl.float64)
    leader = tl.zeros((), tl.int32)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < K)
        belief = tl.load(beliefs_ptr + symbol * K + value, mask=inside, other=-1.0).to(tl.float64)
        top = tl.max(belief, 1, keep_dims=True)
        best = tl.min(tl.where(belief == top, value, WIDTH - 1), 1, keep_dims=True)
        second = tl.max(tl.where(value == best, -1.0, belief), 1, keep_dims=True)
        before = tl.load(choice_ptr + symbol, mask=symbol < n, other=-1)
        is_open = (symbol < n) & (before >= 0)
        lead = tl.where(is_open, top - second, -1.0)
        tl.debug_barrier()
        tl.store(choice_ptr + symbol, tl.where(is_open, best, before), mask=symbol < n)
        tl.store(top_ptr + symbol, top, mask=symbol < n)
        high = tl.max(tl.max(lead, 1), 0)
        here = tl.min(tl.min(tl.where(is_open & (lead == high), symbol, NONE), 1), 0)
        leader = tl.where(high > largest, here, leader)
        largest = tl.maximum(largest, high)
    return leader


@triton.jit
def _fix(symbols_ptr, choice_ptr, top_ptr, leader, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Fixes the symbols that are certain and the leader; returns how many stay open."""
    value = tl.arange(0, WIDTH)[None, :]
    left = tl.zeros((), tl.int32)
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        choice = tl.load(choice_ptr + symbol, mask=symbol < n, other=-1)
        top = tl.load(top_ptr + symbol, mask=symbol < n, other=0.0)
        is_open = choice >= 0
        fixed = is_open & ((top > CERTAIN) | (symbol == leader))
        excluded = fixed & (symbol < n) & (value < K) & (value != choice)
        tl.debug_barrier()
        tl.store(symbols_ptr + symbol * K + value, float("-inf"), mask=excluded)
        tl.store(choice_ptr + symbol, tl.full((TILE, 1), -1, tl.int32), mask=fixed & (symbol < n))
        left += tl.sum(tl.sum((is_open & ~fixed).to(tl.int32), 1), 0)
    return left


@triton.jit
def _store_assignment(symbols_ptr, z_ptr, n, K: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """The first best value of every symbol that is left."""
    value = tl.arange(0, WIDTH)[None, :]
    for first in range(0, n, TILE):
        symbol = first + tl.arange(0, TILE)[:, None]
        inside = (symbol < n) & (value < K)
        logits = tl.load(symbols_ptr + symbol * K + value, mask=inside, other=float("-inf"))
        high = tl.max(logits, 1, keep_dims=True)
        z = tl.min(tl.where(inside & (logits == high), value, WIDTH - 1), 1, keep_dims=True)
        tl.store(z_ptr + symbol, tl.minimum(z, K - 1).to(tl.int64), mask=symbol < n)


@triton.jit
def _propagate(graph, narrow, wide, rows, sweeps, NARROW: tl.constexpr, WIDE: tl.constexpr, FLOAT64: tl.constexpr):
    """Beliefs of one row, by probabilities or, where these lose digits, by logarithms."""
    by_logarithms = 1
    if not FLOAT64:
        row_by_groups(graph, narrow, rows, 1, Schedule(sweeps, tl.zeros((), tl.float32), TOLERANCE), NARROW)
        tl.debug_barrier()
        by_logarithms = tl.load(rows.redo).to(tl.int32)
    if by_logarithms == 1:
        row_by_groups(graph, wide, rows, 1, Schedule(sweeps, tl.zeros((), tl.float64), TOLERANCE), WIDE)
    tl.debug_barrier()


@triton.jit(do_not_specialize=["batch", "n", "n_groups", "width", "sweeps"])
def decimation_kernel(
    logits_ptr, label_ptr, groups_ptr, incident_ptr, degree_ptr, phase_end_ptr, bounding_ptr, subsets_ptr,
    narrow_ptr, wide_ptr, symbols_ptr, beliefs_ptr, evidence_ptr, status_ptr, sweeps_ptr, change_ptr, redo_ptr,
    choice_ptr, top_ptr, z_ptr, codes_ptr, batch, n, n_groups, width, sweeps, ROWS: tl.constexpr,
    K: tl.constexpr, LANES: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Rows of the batch one after another.

    Grid (programs,), row i to program i mod programs. logits [batch, n, K]; narrow and wide: scratch as in belief_propagation_kernel; symbols and beliefs [programs, n, K]; choice and top [programs, n];
    evidence to redo [programs]; z int64 [batch, n], codes uint8 [batch].
    """
    FLOAT64: tl.constexpr = beliefs_ptr.dtype.element_ty == tl.float64
    WIDE_LOG: tl.constexpr = 2 if FLOAT64 else 1
    NARROW: tl.constexpr = Options(ROWS, K, LANES, 0, True)
    WIDE: tl.constexpr = Options(ROWS, K, LANES, WIDE_LOG, True)
    graph = Graph(groups_ptr, incident_ptr, degree_ptr, phase_end_ptr, bounding_ptr, subsets_ptr, n, n_groups, width)
    narrow = workspace_of(narrow_ptr, graph, ROWS, K)
    wide = workspace_of(wide_ptr, graph, ROWS, K)
    program = tl.program_id(0).to(tl.int64)
    symbols_ptr += program * n * K
    choice_ptr += program * n
    top_ptr += program * n
    rows = Rows(
        symbols_ptr, label_ptr, beliefs_ptr + program * n * K, evidence_ptr + program, status_ptr + program,
        sweeps_ptr + program, change_ptr + program, redo_ptr + program,
    )  # fmt: skip
    if not FLOAT64:
        clear_tables(narrow, NARROW, 2 << K)
    clear_tables(wide, WIDE, 2 << K)
    for i in range(tl.program_id(0), batch, tl.num_programs(0)):
        row = tl.zeros((), tl.int64) + i
        for first in range(0, n * K, TILE * WIDTH):
            entry = first + tl.arange(0, TILE * WIDTH)
            logits = tl.load(logits_ptr + row * n * K + entry, mask=entry < n * K)
            tl.store(symbols_ptr + entry, logits, mask=entry < n * K)
            tl.store(choice_ptr + entry, tl.zeros((TILE * WIDTH,), tl.int32), mask=entry < n)
        tl.debug_barrier()
        code = tl.zeros((), tl.int32)
        left = tl.zeros((), tl.int32) + n
        step = tl.zeros((), tl.int32)
        while left > 0:
            _propagate(graph, narrow, wide, rows, sweeps, NARROW, WIDE, FLOAT64)
            code = tl.where(step == 0, tl.load(rows.status).to(tl.int32), code)
            leader = _choose(rows.marginals, choice_ptr, top_ptr, n, K, TILE, WIDTH)
            tl.debug_barrier()
            left = _fix(symbols_ptr, choice_ptr, top_ptr, leader, n, K, TILE, WIDTH)
            step += 1
            tl.debug_barrier()
        _store_assignment(symbols_ptr, z_ptr + row * n, n, K, TILE, WIDTH)
        label = tl.load(label_ptr + row)
        code = tl.where((label < 0) | (label > 1), INVALID_LABEL, code)
        tl.store(codes_ptr + row, code.to(tl.uint8))
        tl.debug_barrier()
