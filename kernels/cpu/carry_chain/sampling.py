"""Exact samples of the digits given their sum: forward filter, backward sample, one row at a time.

float64 and log space throughout, with the draws of ``reference.carry_chain``: the four uniforms of a position
come from Philox-4x32-10 with counter (position, sample, global row) and key seed. With addends counted from 0,
f_j is the pmf of d_j + ... + d_{k-1} at one position.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out, row_status
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def log_sum_exp(values, size):
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
        size = (k - j - 1) * (base - 1) + 1
        for u in range(size + base - 1):
            low, high = max(0, u - size + 1), min(base, u + 1)
            for v in range(low, high):
                terms[v - low] = priors[j, v] + tables[j + 1, u - v]
            tables[j, u] = log_sum_exp(terms, high - low)


@lane_function
def filter_forward(logits, digits, priors, tables, terms, alpha):
    """alpha[i] = log weight of the carry out of position i; alpha[n] is the start."""
    k, n, base = logits.shape
    size = k * (base - 1) + 1
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
def draw_position(uniforms, total, base, priors, tables, terms, alpha, drawn):
    """Digits of one position whose sum and carry-in are total; returns the carry-in."""
    k = len(priors)
    for c in range(k):
        terms[c] = alpha[c] + at(tables[0], total - c, k * (base - 1) + 1)
    carry = draw(terms, k, uniforms[0])
    rest = total - carry
    for j in range(k - 1):
        for v in range(base):
            terms[v] = priors[j, v] + at(tables[j + 1], rest - v, (k - j - 1) * (base - 1) + 1)
        drawn[j] = draw(terms, base, uniforms[j + 1])
        rest -= drawn[j]
    drawn[k - 1] = rest
    return carry


@kernel
def sample_rows(logits, label, first, last, seed, first_row, drawn, status):
    """Rows first .. last - 1 of float64 logits; drawn [n_samples, batch, n_addends, n_digits]."""
    _, k, n, base = logits.shape
    samples = len(drawn)
    priors, tables, terms = np.empty((k, base)), np.empty((k, k * base)), np.empty(max(base, k))
    alpha = np.empty((n + 1, k))
    carries = np.empty(samples, np.int64)
    for row in range(first, last):
        code = row_status(logits[row], label[row], base)
        carry = carry_out(label[row], n, base)
        digits = label[row, label.shape[1] - n :]
        if code == POSSIBLE:
            filter_forward(logits[row], digits, priors, tables, terms, alpha)
            if carry >= k or alpha[0, carry] == -np.inf:
                code = IMPOSSIBLE
        status[row] = code
        for sample in range(samples):
            carries[sample] = carry
        for i in range(n):
            log_priors(logits[row], i, priors)
            log_pmfs(priors, base, tables, terms)
            for sample in range(samples):
                uniforms = philox_uniforms(i, sample, first_row + row, seed)
                out = drawn[sample, row, :, i]
                if code == POSSIBLE:
                    total = digits[i] + base * carries[sample]
                    carries[sample] = draw_position(uniforms, total, base, priors, tables, terms, alpha[i + 1], out)
                else:
                    for j in range(k):
                        out[j] = draw(priors[j], base, uniforms[j])
