"""Exact samples of the digits given their sum: forward filter, backward sample, one row at a time.

float64 and log space throughout, with the draws of ``reference.carry_chain``: the four uniforms of a position
come from Philox-4x32-10 with counter (position, sample, global row) and key seed. With addends counted from 0,
f_j is the pmf of d_j + ... + d_{k-1} at one position, and alpha_i(c) the weight of the positions below i with carry c
into it: alpha_{i-1}(c') = sum over c of alpha_i(c) f_0(digit + base c' - c). Sums of exponentials are scaled to a
largest term of 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.digit_sums import n_sums
from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out, row_status
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


class Workspace(NamedTuple):
    """The scratch arrays of a row: logarithms, but for the carries."""

    priors: np.ndarray  # [n_addends, base] of one position
    tables: np.ndarray  # [n_addends, n_addends * base]: f_j of one position
    terms: np.ndarray  # [largest of base and n_addends]
    alpha: np.ndarray  # [n_digits + 1, n_addends]: message over the carry into position i at index i + 1
    carries: np.ndarray  # int64 [n_samples]: carry out of the position under way


@lane_function
def log_sum_exp(values, size):
    """log of the sum of exp(values[index]) over index < size; -inf where all are."""
    largest = -np.inf
    for index in range(size):
        largest = max(largest, values[index])
    if largest == -np.inf:
        return largest
    total = 0.0
    for index in range(size):
        total += math.exp(values[index] - largest)
    return largest + math.log(total)


@lane_function
def draw(log_weights, size, uniform):
    """The first index whose running sum of weights exceeds uniform * total."""
    largest = -np.inf
    for index in range(size):
        largest = max(largest, log_weights[index])
    total = 0.0
    for index in range(size):
        total += math.exp(log_weights[index] - largest)
    running, last = 0.0, 0
    for index in range(size):
        weight = math.exp(log_weights[index] - largest)
        running += weight
        if running > uniform * total:
            return index
        if weight > 0.0:
            last = index
    return last


@lane_function
def at(table, index, size):
    """An entry of a table of that size, and -inf beyond it."""
    return table[index] if 0 <= index < size else -np.inf


@lane_function
def log_priors(logits, i, priors):
    """priors[j] = log-softmax of digit j at position i."""
    k, _, base = logits.shape
    for j in range(k):
        for v in range(base):
            priors[j, v] = logits[j, i, v]
        denominator = log_sum_exp(priors[j], base)
        for v in range(base):
            priors[j, v] -= denominator


@lane_function
def log_pmfs(priors, base, tables, terms):
    """tables[j] = log f_j of one position."""
    k = len(priors)
    for v in range(base):
        tables[k - 1, v] = priors[k - 1, v]
    for j in range(k - 2, -1, -1):
        size = n_sums(k - j - 1, base)
        for u in range(size + base - 1):
            low, high = max(0, u - size + 1), min(base, u + 1)
            for v in range(low, high):
                terms[v - low] = priors[j, v] + tables[j + 1, u - v]
            tables[j, u] = log_sum_exp(terms, high - low)


@lane_function
def filter_forward(logits, digits, workspace):
    """alpha[i] = log weight of the carry out of position i; alpha[n] is the start."""
    priors, tables, terms, alpha, _ = workspace
    k, n, base = logits.shape
    size = n_sums(k, base)
    for c in range(k):
        alpha[n, c] = 0.0 if c == 0 else -np.inf
    for i in range(n - 1, -1, -1):
        log_priors(logits, i, priors)
        log_pmfs(priors, base, tables, terms)
        for c_out in range(k):
            for c in range(k):
                terms[c] = alpha[i + 1, c] + at(tables[0], digits[i] + base * c_out - c, size)
            alpha[i, c_out] = log_sum_exp(terms, k)


@lane_function
def draw_position(uniforms, total, i, workspace, drawn):
    """Digits of position i whose sum and carry-in are total; returns the carry-in."""
    priors, tables, terms, alpha, _ = workspace
    k, base = priors.shape
    for c in range(k):
        terms[c] = alpha[i + 1, c] + at(tables[0], total - c, n_sums(k, base))
    carry = draw(terms, k, uniforms[0])
    rest = total - carry
    for j in range(k - 1):
        for v in range(base):
            terms[v] = priors[j, v] + at(tables[j + 1], rest - v, n_sums(k - j - 1, base))
        drawn[j] = draw(terms, base, uniforms[j + 1])
        rest -= drawn[j]
    drawn[k - 1] = rest
    return carry


@lane_function
def draw_samples(digit, possible, i, workspace, stream, drawn):
    """Position i of all samples of one row, drawn [n_samples, n_addends, n_digits], and the carries into it.

    Digits of a row that is not possible come from their priors. stream: seed, and number of the row among all.
    """
    priors, carries = workspace.priors, workspace.carries
    k, base = priors.shape
    seed, row = stream
    for sample in range(len(drawn)):
        uniforms = philox_uniforms(i, sample, row, seed)
        out = drawn[sample, :, i]
        if possible:
            carries[sample] = draw_position(uniforms, digit + base * carries[sample], i, workspace, out)
        else:
            for j in range(k):
                out[j] = draw(priors[j], base, uniforms[j])


@kernel
def sample_rows(logits, label, drawn, status, first, seed, first_row):
    """float64 logits and labels of some rows into rows ``first`` and on of drawn and status.

    drawn: [n_samples, batch, n_addends, n_digits]; row 0 of that is row first_row of all.
    """
    rows, k, n, base = logits.shape
    tables, terms = np.empty((k, k * base)), np.empty(max(base, k))
    alpha, carries = np.empty((n + 1, k)), np.empty(len(drawn), np.int64)
    workspace = Workspace(np.empty((k, base)), tables, terms, alpha, carries)
    for index in range(rows):
        row = first + index
        code = row_status(logits[index], label[index], base)
        carry = carry_out(label[index], n, base)
        digits = label[index, label.shape[1] - n :]
        if code == POSSIBLE:
            filter_forward(logits[index], digits, workspace)
            if carry >= k or workspace.alpha[0, carry] == -np.inf:
                code = IMPOSSIBLE
        status[row] = code
        workspace.carries[:] = carry
        for i in range(n):
            log_priors(logits[index], i, workspace.priors)
            log_pmfs(workspace.priors, base, workspace.tables, workspace.terms)
            draw_samples(digits[i], code == POSSIBLE, i, workspace, (seed, first_row + row), drawn[:, row])
