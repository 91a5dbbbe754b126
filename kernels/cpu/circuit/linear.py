"""Sum-product on a circuit in probabilities, rows of the batch in lanes, with a bound of its own error.

Notation of ``reference.circuit``. All values V and derivatives D are probabilities of events, at most 1. An operation
that underflows to 0, or a leaf that does, loses at most the smallest normal number m. That enters the evidence Z times
a derivative, and p_i(v) D_(i,v) times a probability, both at most 1. So with T products of the tape and leaves
together, Z and every p_i(v) D_(i,v) miss at most T m besides rounding, and marginals at most T m / Z. Rows for which
that may exceed the rounding of one operation, Z < T m / epsilon, are handed back (``RECOMPUTE``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import read_leaves, write_marginals
from emnesy_gpu.kernels.cpu.circuit.program import Program, player, term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lane_scratch import half_lanes, kept_doubles, kept_lanes, kept_scratch
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES, FLOAT64_LANES, load, load_doubles, multiply_add, store
from emnesy_gpu.kernels.cpu.common.log_lanes import logarithm
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, Combination, Results
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

LIKE = {dtype: dtype(0) for dtype in (np.float32, np.float64)}

SMALLEST_SHARE = {dtype: float(np.finfo(dtype).tiny) / float(np.finfo(dtype).eps) for dtype in LIKE}
"""The smallest normal number over the rounding of one operation."""


class Predictions(NamedTuple):
    """What a prediction says about each row."""

    log_p: np.ndarray  # [batch, leaves of the label]
    status: np.ndarray  # uint8 [batch]


def run(
    p: Program, lanes: type[np.floating], combination: Combination, logits: np.ndarray, rows: np.ndarray, out: Results
) -> int:
    """Marginals combined with the prior, log evidence and status; returns how many rows are left.

    lanes: the float type of the arithmetic, float32 or float64; logits and results may be narrower.
    """
    if not logits.flags.c_contiguous:
        raise ValueError("logits must be contiguous: a kernel takes them by their address")
    work = table(p.rows, lanes, len(rows))
    # A plain tuple: telling the type of a named one takes longer than a small circuit.
    return sum_product_of(logits, *out, rows, tuple(p), work, (guard(p, lanes), *combination))


def run_prediction(p: Program, lanes: type[np.floating], logits: np.ndarray, rows: np.ndarray, out: Predictions) -> int:
    """log p of every leaf of the label, and status; returns how many rows are left. rows: int32 [batch, M] zeros."""
    flat = logits.reshape(len(logits), -1)
    whole = table(p.rows, lanes, FLOAT32_LANES)
    return predict_rows(flat, rows, out.log_p, out.status, p, whole, guard(p, lanes))


def table(rows: int, lanes: type[np.floating], batch: int) -> np.ndarray:
    """Uninitialised [rows, lanes], half as many for a batch that fits in these: rows of 128 bytes in both types."""
    if lanes is np.float32:
        return kept_lanes(rows, batch)
    whole = kept_doubles(rows, one_lane=False)
    return half_lanes(whole) if batch <= whole.shape[1] // 2 else whole


def two_tables(p: Program) -> tuple[np.ndarray, np.ndarray]:
    """Two of float64."""
    kept = kept_scratch(2 * p.rows).view(np.float64)
    return kept[: p.rows], kept[p.rows : 2 * p.rows]


def guard(p: Program, lanes: type[np.floating]) -> float:
    """The smallest evidence that is trusted."""
    return p.operations * SMALLEST_SHARE[lanes]


@inlined
def product(table, p, e):
    left, right = term_at(p.terms, e)
    return load(table, left) * load(table, right)


@inlined
def add_product(table, p, e, total):
    left, right = term_at(p.terms, e)
    return multiply_add(load(table, left), load(table, right), total)


play = player(product, add_product)


@inlined
def status_of(table, p, label_rows, row, lane):
    """INVALID_LABEL, INVALID_LOGITS or POSSIBLE (so far)."""
    for entry in range(p.n_entries):
        if label_rows[row, entry] < 0:
            return INVALID_LABEL
    return POSSIBLE if table[p.checks, lane] == table[p.checks, lane] else INVALID_LOGITS


@inlined
def write_evidence(table, p, label_rows, span, log_evidence, status, smallest):
    """Log evidence and status of the lanes; returns how many are left."""
    left, doubles = 0, matrix_at(table.ctypes.data, len(table), FLOAT64_LANES, 0.0)
    for start in range(span[0], span[1], FLOAT64_LANES):
        evidence = load_doubles(table, p.root, (start - span[0]) // FLOAT64_LANES)
        store(doubles, p.spare, logarithm(doubles, evidence))
        for row in range(start, min(start + FLOAT64_LANES, span[1])):
            lane = row - span[0]
            code = status_of(table, p, label_rows, row, lane)
            if code == POSSIBLE and not table[p.root, lane] >= smallest:
                code = RECOMPUTE
                left += 1
            status[row] = code
            log_evidence[row] = doubles[p.spare, row - start] if code == POSSIBLE else -np.inf
    return left


@kernel
def sum_product(logits, marginals, log_evidence, status, label_rows, like, program, table, job):
    """As many rows at a time as there are lanes; returns how many are left.

    program: a Program without names. job: the guard, prior_share, factor.
    """
    left, combination, p = 0, Combination(job[1], job[2]), Program(*program)
    batch, columns = len(label_rows), p.n * p.n_values
    logits, marginals = matrix_at(logits, batch, columns, like), matrix_at(marginals, batch, columns, like)
    log_evidence, status = numbers_at(log_evidence, batch, like), numbers_at(status, batch, np.uint8(0))
    before = flush_subnormals()
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        read_leaves(table, p, logits, label_rows, span)
        play(table, p)
        write_marginals(table, p, marginals, span, 1.0 / load(table, p.root), combination)
        left += write_evidence(table, p, label_rows, span, log_evidence, status, job[0])
    subnormals_as_before(before)
    return left


@kernel
def sum_product_of(logits, marginals, log_evidence, status, label_rows, program, table, job):
    """The same for arrays. To ask NumPy for an address takes a microsecond, and a kernel next to nothing."""
    addresses = logits.ctypes.data, marginals.ctypes.data, log_evidence.ctypes.data, status.ctypes.data
    return sum_product(*addresses, label_rows, logits.dtype.type(0), program, table, job)


@kernel
def predict_rows(logits, label_rows, log_p, status, p, table, smallest):
    """log p of the leaves of the label; the tape is that of a prediction. Returns how many rows are left."""
    left, first_leaf, before = 0, p.n * p.n_values, flush_subnormals()
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        read_leaves(table, p, logits, label_rows, span)
        play(table, p)
        for row in range(span[0], span[1]):
            lane = row - span[0]
            code = status_of(table, p, label_rows, row, lane)
            if code == POSSIBLE and not table[p.root, lane] >= smallest:
                code = RECOMPUTE
            for leaf in range(first_leaf, p.one):
                place = item(p.numbers, p.derivatives + leaf)
                value = np.float64(table[place, lane])
                # A leaf that has a derivative can be reached: less is an underflow, or a hard zero.
                if code == POSSIBLE and place != p.zero and not value >= smallest:
                    code = RECOMPUTE
                log_p[row, leaf - first_leaf] = math.log(value) if code == POSSIBLE and value > 0.0 else -np.inf
            status[row] = code
            left += code == RECOMPUTE
    subnormals_as_before(before)
    return left


# All arrays belong to the caller: to count references to them would cost more than a small circuit does.
for _kernel in (sum_product, sum_product_of, predict_rows):
    _kernel.targetoptions["_nrt"] = False
