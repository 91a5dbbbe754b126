"""Searches for the most probable valid assignment of a row at a time: see emnesy_gpu.reference.decimation.

Each round runs max-product belief propagation, in float32 and where that loses digits in float64 logarithms, and fixes
the symbols that are certain, and of the others the one with the largest lead of its best value over the second.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.all_different.factor import Graph, Options, clear_tables
from emnesy_gpu.kernels.gpu.all_different.kernels import row_by_groups, workspace_of
from emnesy_gpu.kernels.gpu.common.belief_rows import Rows, Schedule
from emnesy_gpu.kernels.gpu.common.decimation import TOLERANCE, choose, fix, store_assignment
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL


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
            leader = choose(rows.marginals, choice_ptr, top_ptr, n, K, TILE, WIDTH)
            tl.debug_barrier()
            left = fix(symbols_ptr, choice_ptr, top_ptr, leader, n, K, TILE, WIDTH)
            step += 1
            tl.debug_barrier()
        store_assignment(symbols_ptr, z_ptr + row * n, n, K, TILE, WIDTH)
        label = tl.load(label_ptr + row)
        code = tl.where((label < 0) | (label > 1), INVALID_LABEL, code)
        tl.store(codes_ptr + row, code.to(tl.uint8))
        tl.debug_barrier()
