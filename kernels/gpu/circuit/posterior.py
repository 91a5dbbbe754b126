"""Evidence and marginals, the gradient, or predictions of a circuit, by its tape.

With leaves p_i(v) that sum to 1 for each symbol, all values and derivatives D of a circuit of which the parts exclude
each other and the factors share no symbol are probabilities, at most 1. The posterior of a value is

    q_i(v) = p_i(v) D_i(v) / Z + p_i(v) (1 - sum_u p_i(u) D_i(u) / Z)        Z: the value of the root

where the second term is for the parts of the root that do not mention the symbol; it is 0 where all do.

Two designs share the functions here. For tables that caches hold, a program plays the whole tape for its R rows of the
batch, with a barrier for each level. For larger ones a launch plays one level, and all programs share it.

A product or a leaf loses at most the smallest normal number, which enters Z, and p D, with a factor of at most 1. Hence
T terms and leaves lose less than 2^-20 of Z in float32 where Z is at least T 2^-106, and 2^-40 in float64 where it is
at least T 2^-982. Other rows are marked, and repeated in float64, and then with float64 logarithms.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.circuit.group import Circuit, pair_lanes, pair_numbers
from emnesy_gpu.kernels.gpu.circuit.leaves import (
    label_status,
    store_constant,
    store_free_label_leaves,
    store_label_leaves,
)
from emnesy_gpu.kernels.gpu.circuit.tape import play_level
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, log2
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import lost, probability, times, zero
from emnesy_gpu.kernels.gpu.common.symbol_priors import Batch, store_priors

MARGINALS = tl.constexpr(0)
GRADIENT = tl.constexpr(1)
PREDICTION = tl.constexpr(2)
"""The RESULT of a kernel."""


class Results(NamedTuple):
    """Pointers to what a launch leaves."""

    out: object  # [batch, n, K], or [batch, leaves of the label]
    evidence: object  # [batch]
    status: object  # uint8 [batch]
    redo: object  # uint8 [batch]: 1 for rows that are wanted, 0 once they are done


class Limits(NamedTuple):
    n_rows: object  # of the table, before the status
    n_terms: object  # and leaves, that underflow may make smaller


@triton.jit
def _is_wanted(results, batch, r):
    inside = batch.first + r < batch.size
    return tl.load(results.redo + batch.first + r, mask=inside, other=0) == 1


@triton.jit
def _store_leaves(table, batch, circuit, n_rows, SIZES: tl.constexpr, RESULT: tl.constexpr, LOG: tl.constexpr):
    """All leaves, and after the last row of the table INVALID_LABEL, INVALID_LOGITS or POSSIBLE."""
    code = store_priors(table, batch, 0, batch.n, SIZES, LOG)
    if RESULT == PREDICTION:
        store_free_label_leaves(table, circuit, SIZES, LOG)
    else:
        store_label_leaves(table, batch, circuit, SIZES, LOG)
        code = tl.maximum(code, label_status(batch, circuit, SIZES))
    store_constant(table, circuit, SIZES, LOG)
    tl.store(table + n_rows * SIZES.rows + tl.arange(0, SIZES.rows)[None, :], code.to(table.dtype.element_ty))


@triton.jit
def _enough(x, n_terms, LOG: tl.constexpr):
    """Where underflow does not matter for x, and x is not 0."""
    if LOG:
        return ~lost(x, LOG)
    elif x.dtype == tl.float32:
        return x >= n_terms.to(tl.float32) * 1.232595164407831e-32
    else:
        return x >= n_terms.to(tl.float64) * 2.446494580089078e-296


@triton.jit
def _log(x, LOG: tl.constexpr):
    """The natural logarithm in float64 of what x stands for."""
    return (x if LOG else log2(x.to(tl.float64))) * LN_2


@triton.jit
def _root_and_status(table, circuit, n_rows, r, SIZES: tl.constexpr):
    """Z and the status of rows r of the program."""
    root = tl.load(circuit.given + circuit.n_entries) + 1
    code = tl.load(table + n_rows * SIZES.rows + r).to(tl.int32)
    return tl.load(table + root * SIZES.rows + r), code


@triton.jit
def _posterior_over_prior(derivative, evidence, possible, LOG: tl.constexpr):
    """D / Z as what is computed with, for rows that are possible."""
    if LOG:
        return derivative - tl.where(possible, evidence, 0.0)
    else:
        return derivative * (1.0 / tl.where(possible, evidence, 1.0))


@triton.jit
def _store_marginals(
    results, table, batch, circuit, limits, scale, SIZES: tl.constexpr, RESULT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Marginals, or the gradient; the prior, or 0, where a row is not possible."""
    K: tl.constexpr = SIZES.n_values
    R: tl.constexpr = SIZES.rows
    value = tl.max_contiguous(tl.arange(0, SIZES.value_tile)[:, None], (1, 1))
    for start in tl.range(0, batch.n * R, SIZES.symbols, disable_licm=True):
        index = tl.max_contiguous(start + tl.arange(0, SIZES.symbols)[None, :], (1, 1))
        exists = index < batch.n * R
        inside = exists & (value < K)
        r = index % R
        leaf = tl.where(exists, index // R, 0) * K + value
        evidence, code = _root_and_status(table, circuit, limits.n_rows, r, SIZES)
        possible = (code == POSSIBLE) & _enough(evidence, limits.n_terms, LOG)
        prior = tl.load(table + leaf * R + r, mask=inside, other=zero(LOG))
        place = tl.load(circuit.derivatives + leaf, mask=inside, other=-1)
        derivative = tl.load(table + place * R + r, mask=place >= 0, other=zero(LOG))
        ratio = _posterior_over_prior(derivative, evidence, possible, LOG)
        result = probability(times(prior, ratio, LOG), LOG)
        prior = probability(prior, LOG)
        rest = tl.maximum(1.0 - tl.sum(result, 0, keep_dims=True), 0.0)
        free = tl.load(circuit.mentioned + index // R, mask=exists, other=1) == 0
        result = tl.where(possible, result + prior * tl.where(free, rest, 0.0), prior)
        if RESULT == GRADIENT:
            result = (prior - result) * scale
        at = (batch.first + r) * batch.n * K + leaf
        tl.store(results.out + at, result, mask=inside & _is_wanted(results, batch, r))


@triton.jit
def _store_predictions(results, table, batch, circuit, limits, SIZES: tl.constexpr, LOG: tl.constexpr):
    """log p of every value of the label; the smallest p that underflow may have made smaller [1, R]."""
    R: tl.constexpr = SIZES.rows
    lane = pair_lanes(SIZES)
    first = tl.load(circuit.given)
    width = tl.load(circuit.given + circuit.n_entries) - first
    evidence, code = _root_and_status(table, circuit, limits.n_rows, lane, SIZES)
    possible = (code == POSSIBLE) & _enough(evidence, limits.n_terms, LOG)
    least = evidence
    for start in tl.range(0, width, SIZES.pairs, disable_licm=True):
        leaf = start + pair_numbers(SIZES)
        place = tl.load(circuit.derivatives + first + leaf, mask=leaf < width, other=-1)
        derivative = tl.load(table + place * R + lane, mask=place >= 0, other=zero(LOG))
        least = tl.where(place >= 0, tl.minimum(least, derivative), least)
        never = lost(derivative, LOG) if LOG else derivative == 0.0
        result = tl.where(possible & ~never, tl.minimum(_log(derivative, LOG), 0.0), float("-inf"))
        at = (batch.first + lane) * width + leaf
        tl.store(results.out + at, result, mask=(leaf < width) & _is_wanted(results, batch, lane))
    return tl.min(least, 0)[None, :]


@triton.jit
def _store_outcome(results, table, batch, circuit, limits, least, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The log evidence, the status, and the mark of rows that are to be repeated."""
    r = tl.arange(0, SIZES.rows)[None, :]
    row = batch.first + r
    evidence, code = _root_and_status(table, circuit, limits.n_rows, r, SIZES)
    possible = (code == POSSIBLE) & _enough(evidence, limits.n_terms, LOG)
    log_evidence = tl.where(possible, tl.minimum(_log(evidence, LOG), 0.0), float("-inf"))
    wanted = _is_wanted(results, batch, r)
    tl.debug_barrier()
    again = (code == POSSIBLE) & ~(possible & _enough(least, limits.n_terms, LOG))
    code = tl.where((code == POSSIBLE) & ~possible, IMPOSSIBLE, code)
    tl.store(results.evidence + row, log_evidence.to(results.evidence.dtype.element_ty), mask=wanted)
    tl.store(results.status + row, code.to(tl.uint8), mask=wanted)
    tl.store(results.redo + row, again.to(tl.uint8), mask=wanted)


@triton.jit
def _store_results(
    results, table, batch, circuit, limits, scale, SIZES: tl.constexpr, RESULT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Everything that a launch leaves for the rows of a program, from their table."""
    if RESULT == PREDICTION:
        least = _store_predictions(results, table, batch, circuit, limits, SIZES, LOG)
    else:
        _store_marginals(results, table, batch, circuit, limits, scale, SIZES, RESULT, LOG)
        r = tl.arange(0, SIZES.rows)[None, :]
        least, _ = _root_and_status(table, circuit, limits.n_rows, r, SIZES)
    _store_outcome(results, table, batch, circuit, limits, least, SIZES, LOG)


@triton.jit
def _any_wanted(results, batch, SIZES: tl.constexpr):
    return tl.max(_is_wanted(results, batch, tl.arange(0, SIZES.rows)).to(tl.int32)) > 0


@triton.jit
def _play(
    results, table, batch, circuit, limits, scale, SIZES: tl.constexpr, RESULT: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """From logits to results, by one program."""
    _store_leaves(table, batch, circuit, limits.n_rows, SIZES, RESULT, LOG)
    for level in tl.range(circuit.n_levels, disable_licm=True):
        tl.debug_barrier()
        play_level(table, circuit, level, 0, 1, SIZES, LOG)
    tl.debug_barrier()
    _store_results(results, table, batch, circuit, limits, scale, SIZES, RESULT, LOG)


@triton.jit(do_not_specialize=["batch", "n", "n_entries", "n_levels", "n_rows", "n_terms"])
def block_kernel(
    logits_ptr, label_ptr, given_ptr, levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, derivatives_ptr,
    mentioned_ptr, scratch_ptr, out_ptr, evidence_ptr, status_ptr, redo_ptr, batch, n, n_entries, n_levels, n_rows,
    n_terms, scale_high, scale_low, SIZES: tl.constexpr, RESULT: tl.constexpr,
):  # fmt: skip
    """Rows of the batch, R at once.

    Grid (programs,), group g of R rows to program g mod programs. logits [batch, n, K]; label int32 [batch, M]; scratch
    [programs, n_rows + 1, R]; the tables as in Circuit, results as in Results.
    """
    circuit = Circuit(
        given_ptr, levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, derivatives_ptr, mentioned_ptr, n_entries,
        n_levels,
    )  # fmt: skip
    results = Results(out_ptr, evidence_ptr, status_ptr, redo_ptr)
    limits = Limits(n_rows, n_terms)
    scale = tl.zeros((), scratch_ptr.dtype.element_ty) + scale_high + scale_low
    table = scratch_ptr + tl.program_id(0).to(tl.int64) * (n_rows + 1) * SIZES.rows
    for group in tl.range(tl.program_id(0), tl.cdiv(batch, SIZES.rows), tl.num_programs(0), disable_licm=True):
        rows = Batch(logits_ptr, label_ptr, (tl.zeros((), tl.int64) + group) * SIZES.rows, batch, n)
        tl.debug_barrier()
        _play(results, table, rows, circuit, limits, scale, SIZES, RESULT, 0)


@triton.jit(do_not_specialize=["batch", "n", "n_entries", "n_levels", "n_rows", "n_terms"])
def repeat_kernel(
    logits_ptr, label_ptr, given_ptr, levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, derivatives_ptr,
    mentioned_ptr, scratch_ptr, out_ptr, evidence_ptr, status_ptr, redo_ptr, batch, n, n_entries, n_levels, n_rows,
    n_terms, scale_high, scale_low, SIZES: tl.constexpr, RESULT: tl.constexpr,
):  # fmt: skip
    """Rows that are wanted again: in float64, and where that underflows too with logarithms. All as in block_kernel."""
    circuit = Circuit(
        given_ptr, levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, derivatives_ptr, mentioned_ptr, n_entries,
        n_levels,
    )  # fmt: skip
    results = Results(out_ptr, evidence_ptr, status_ptr, redo_ptr)
    limits = Limits(n_rows, n_terms)
    scale = tl.zeros((), scratch_ptr.dtype.element_ty) + scale_high + scale_low
    table = scratch_ptr + tl.program_id(0).to(tl.int64) * (n_rows + 1) * SIZES.rows
    for group in tl.range(tl.program_id(0), tl.cdiv(batch, SIZES.rows), tl.num_programs(0), disable_licm=True):
        rows = Batch(logits_ptr, label_ptr, (tl.zeros((), tl.int64) + group) * SIZES.rows, batch, n)
        tl.debug_barrier()
        if _any_wanted(results, rows, SIZES):
            _play(results, table, rows, circuit, limits, scale, SIZES, RESULT, 0)
            tl.debug_barrier()
            if _any_wanted(results, rows, SIZES):
                _play(results, table, rows, circuit, limits, scale, SIZES, RESULT, 2)


@triton.jit
def _group_of(logits_ptr, label_ptr, scratch_ptr, group, first, batch, n, n_rows, SIZES: tl.constexpr):
    """The table of a group of R rows, and its rows in the batch; first: row of the first group."""
    table = scratch_ptr + group.to(tl.int64) * (n_rows + 1) * SIZES.rows
    return table, Batch(logits_ptr, label_ptr, first.to(tl.int64) + group * SIZES.rows, batch, n)


@triton.jit(do_not_specialize=["first", "batch", "n", "n_entries", "n_rows"])
def leaves_kernel(
    logits_ptr, label_ptr, given_ptr, scratch_ptr, first, batch, n, n_entries, n_rows, SIZES: tl.constexpr,
    RESULT: tl.constexpr,
):  # fmt: skip
    """The leaves of groups of R rows, from row `first` on. Grid (groups,); scratch [groups, n_rows + 1, R]."""
    group = tl.program_id(0)
    table, rows = _group_of(logits_ptr, label_ptr, scratch_ptr, group, first, batch, n, n_rows, SIZES)
    nothing = given_ptr
    circuit = Circuit(given_ptr, nothing, nothing, nothing, nothing, nothing, nothing, nothing, n_entries, 0)
    _store_leaves(table, rows, circuit, n_rows, SIZES, RESULT, 0)


@triton.jit(do_not_specialize=["level", "parts", "n_rows"])
def level_kernel(
    levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, scratch_ptr, level, parts, n_rows, SIZES: tl.constexpr
):  # fmt: skip
    """One level of groups of R rows. Grid (groups, parts): programs share what a level has to do for a group."""
    table = scratch_ptr + tl.program_id(0).to(tl.int64) * (n_rows + 1) * SIZES.rows
    nothing = runs_ptr
    circuit = Circuit(nothing, levels_ptr, runs_ptr, out_row_ptr, left_ptr, right_ptr, nothing, nothing, 0, 0)
    play_level(table, circuit, level, tl.program_id(1), parts, SIZES, 0)


@triton.jit(do_not_specialize=["first", "batch", "n", "n_entries", "n_rows", "n_terms"])
def results_kernel(
    given_ptr, derivatives_ptr, mentioned_ptr, scratch_ptr, out_ptr, evidence_ptr, status_ptr, redo_ptr, first, batch,
    n, n_entries, n_rows, n_terms, scale_high, scale_low, SIZES: tl.constexpr, RESULT: tl.constexpr,
):  # fmt: skip
    """The results of groups of R rows, from row `first` on. Grid (groups,)."""
    nothing = given_ptr
    group = tl.program_id(0)
    table, rows = _group_of(nothing, nothing, scratch_ptr, group, first, batch, n, n_rows, SIZES)
    circuit = Circuit(
        given_ptr, nothing, nothing, nothing, nothing, nothing, derivatives_ptr, mentioned_ptr, n_entries, 0
    )  # fmt: skip
    scale = tl.zeros((), scratch_ptr.dtype.element_ty) + scale_high + scale_low
    results = Results(out_ptr, evidence_ptr, status_ptr, redo_ptr)
    _store_results(results, table, rows, circuit, Limits(n_rows, n_terms), scale, SIZES, RESULT, 0)
