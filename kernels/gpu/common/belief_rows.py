"""Reads the logits of a row of the batch and stores its results, for belief propagation on any graph."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import one, softmax

ONES_AT_ONCE = tl.constexpr(128)


class Rows(NamedTuple):
    """Pointers to the inputs and results of the batch, or of the batch from one row on."""

    logits: object  # [batch, N, K]
    label: object  # int64 [batch]
    marginals: object  # [batch, N, K]
    evidence: object  # [batch]
    status: object  # uint8 [batch]
    sweeps: object  # int32 [batch]
    change: object  # [batch]
    redo: object  # uint8 [batch]: 1 where the float64 launch has to compute the row


class Schedule(NamedTuple):
    """When to stop, and how much of an old message stays."""

    iterations: object
    damping: object
    tolerance: object


@triton.jit
def is_wanted(rows, row, LOG: tl.constexpr):
    """Whether this launch computes a row: every one with probabilities, and marked ones with logarithms.

    A launch that gives float64 results of other logits computes rows with label 0 too, see kernels.gpu.given_label.
    """
    wanted = 1
    if LOG:
        wanted = tl.load(rows.redo + row).to(tl.int32)
        if rows.marginals.dtype.element_ty == tl.float64 and rows.logits.dtype.element_ty != tl.float64:
            wanted = (wanted >= tl.load(rows.label + row)).to(tl.int32)
    return wanted == 1


@triton.jit
def rows_from(rows, row, offset):
    """The batch from one row on, whose logits start at an offset."""
    return Rows(
        rows.logits + offset, rows.label + row, rows.marginals + offset, rows.evidence + row, rows.status + row,
        rows.sweeps + row, rows.change + row, rows.redo + row,
    )  # fmt: skip


@triton.jit
def label_status(label):
    """INVALID_LABEL unless the label is 0 or 1."""
    return tl.where((label == 0) | (label == 1), POSSIBLE, INVALID_LABEL)


@triton.jit
def store_prior(
    logits_ptr, prior_ptr, n_variables, K: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, LOG: tl.constexpr
):
    """Stores the prior [N, K] of one row, and returns INVALID_LOGITS where its logits [N, K] are no prior.

    Such a symbol gets ones: the interpreter refuses the maximum of nothing but NaN.
    """
    value = tl.arange(0, PADDED)[None, :]
    code = POSSIBLE
    for start in range(0, n_variables, TILE):
        variable = start + tl.arange(0, TILE)[:, None]
        inside = (variable < n_variables) & (value < K)
        at = variable * K + value
        logits = bounded(tl.load(logits_ptr + at, mask=inside, other=float("-inf")))
        logits = tl.where(variable < n_variables, logits, 0.0).to(prior_ptr.dtype.element_ty)
        prior, sums = softmax(logits, 1, LOG)
        code = tl.maximum(code, tl.max(tl.max(tl.where(sums == sums, POSSIBLE, INVALID_LOGITS), 1), 0))
        tl.store(prior_ptr + at, tl.where(sums == sums, prior, one(LOG)), mask=inside)
    return code


@triton.jit
def store_ones(pointers, count, LOG: tl.constexpr):
    """Ones in the `count` numbers from a pointer on."""
    for start in range(0, count, ONES_AT_ONCE):
        entry = start + tl.arange(0, ONES_AT_ONCE)
        ones = tl.zeros((ONES_AT_ONCE,), pointers.dtype.element_ty) + one(LOG)
        tl.store(pointers + entry, ones, mask=entry < count)


@triton.jit
def store_outcome(row, code, failed, certain, evidence, sweep, change):
    """The results of one row but for the marginals. failed: no digits left, or impossible; certain: label 0 is."""
    possible = (code == POSSIBLE) & ((failed | certain) == 0)
    tl.store(row.evidence, tl.where(possible, evidence, float("-inf")))
    tl.store(row.status, tl.where(code == POSSIBLE, failed * IMPOSSIBLE, code).to(tl.uint8))
    tl.store(row.sweeps, tl.where(possible, sweep, 0))
    tl.store(row.change, tl.where(possible, change, 0.0))
    if row.marginals.dtype.element_ty == row.logits.dtype.element_ty or row.marginals.dtype.element_ty == tl.float32:
        tl.store(row.redo, tl.where(code == POSSIBLE, failed, 0).to(tl.uint8))
