"""The most probable digits given their sum: max-product on the carry chain, one row at a time.

Scores are sums of raw logits in float64, and maxima are taken in ascending order with a strict comparison, so
that ties go to the smallest carry-in, then the smallest d_1, d_2, ... of the position nearest the top. With
addends counted from 0, h_j(r) = max over v of logit_j(v) + h_{j+1}(r - v) is the best score of
d_j + ... + d_{k-1} = r at one position, and the best score of the positions down to i with carry-out c' is the maximum
over the carry-in c of that of the positions below plus h_0(digit + base c' - c).
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.digit_sums import n_sums
from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out, row_status
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def suffix_scores(logits, i, tables):
    """tables[j] = h_j of position i for j >= 1; h_0 is needed at few arguments only (``best_split``)."""
    k, _, base = logits.shape
    for v in range(base):
        tables[k - 1, v] = logits[k - 1, i, v]
    for j in range(k - 2, 0, -1):
        size = n_sums(k - j - 1, base)
        for r in range(size + base - 1):
            tables[j, r] = -np.inf
        for v in range(base):
            for r in range(size):
                tables[j, v + r] = max(tables[j, v + r], logits[j, i, v] + tables[j + 1, r])


@lane_function
def best_split(logits, i, j, total, tables):
    """The smallest best digit d_j of digits j .. k-1 that add up to total, and h_j(total)."""
    k, _, base = logits.shape
    best, best_score = -1, -np.inf
    size = n_sums(k - j - 1, base)
    for v in range(max(0, total - size + 1), min(base, total + 1)):
        score = logits[j, i, v] + tables[j + 1, total - v]
        if score > best_score:
            best, best_score = v, score
    return best, best_score


@lane_function
def forward(logits, digits, tables, scores):
    """scores[i, c'] = best score of the positions up to i with carry-out c'; scores[n] is the start."""
    k, n, base = logits.shape
    for c in range(k):
        scores[n, c] = 0.0 if c == 0 else -np.inf
    for i in range(n - 1, -1, -1):
        suffix_scores(logits, i, tables)
        for c_out in range(k):
            best = -np.inf
            for c in range(k):
                _, step = best_split(logits, i, 0, digits[i] + base * c_out - c, tables)
                best = max(best, scores[i + 1, c] + step)
            scores[i, c_out] = best


@lane_function
def backtrace(logits, digits, carry, tables, scores, assignment):
    """The best digits [n_addends, n_digits], from the top carry down."""
    k, n, base = logits.shape
    for i in range(n):
        suffix_scores(logits, i, tables)
        total = digits[i] + base * carry
        best_score = -np.inf
        for c in range(k):
            _, step = best_split(logits, i, 0, total - c, tables)
            if scores[i + 1, c] + step > best_score:
                carry, best_score = c, scores[i + 1, c] + step
        rest = total - carry
        for j in range(k - 1):
            digit, _ = best_split(logits, i, j, rest, tables)
            assignment[j, i] = digit
            rest -= digit
        assignment[k - 1, i] = rest


@lane_function
def argmax_assignment(logits, assignment):
    """The most probable value of every digit by itself, the smallest of equal ones."""
    k, n, base = logits.shape
    for j in range(k):
        for i in range(n):
            best = 0
            for v in range(1, base):
                if logits[j, i, v] > logits[j, i, best]:
                    best = v
            assignment[j, i] = best


@lane_function
def log_probability(logits, assignment):
    """Sum of the log-softmax of the assigned digits."""
    k, n, base = logits.shape
    log_joint = 0.0
    for j in range(k):
        for i in range(n):
            chosen = logits[j, i, assignment[j, i]]
            largest = -np.inf
            for v in range(base):
                largest = max(largest, logits[j, i, v])
            total = 0.0
            for v in range(base):
                total += math.exp(logits[j, i, v] - largest)
            log_joint += chosen - largest - math.log(total)
    return log_joint


@kernel
def map_rows(logits, label, assignment, log_joint, status):
    """All rows of logits [rows, n_addends, n_digits, base], float64."""
    rows, k, n, base = logits.shape
    tables = np.empty((k, k * base))
    scores = np.empty((n + 1, k))
    for row in range(rows):
        code = row_status(logits[row], label[row], base)
        carry = carry_out(label[row], n, base)
        digits = label[row, label.shape[1] - n :]
        if code == POSSIBLE:
            forward(logits[row], digits, tables, scores)
            if carry >= k or scores[0, carry] == -np.inf:
                code = IMPOSSIBLE
        status[row] = code
        if code == POSSIBLE:
            backtrace(logits[row], digits, carry, tables, scores, assignment[row])
            log_joint[row] = log_probability(logits[row], assignment[row])
        else:
            argmax_assignment(logits[row], assignment[row])
            log_joint[row] = -np.inf


@kernel
def map_few_rows(logits, label, assignment, log_joint, status, batch, label_digits, k, n, base, work):
    """The same of few float32 rows by their addresses, in float64 scratch. Returns how many rows are left.

    These are all where a logit is too large.
    """
    single, integer, size = np.float32(0), np.int64(0), batch * k * n * base
    numbers, values = numbers_at(logits, size, single), work[:size]
    if any_beyond(numbers, np.float32(LARGEST_LOGIT)):
        return batch
    values[:] = numbers
    status, log_joint = numbers_at(status, batch, np.uint8(0)), numbers_at(log_joint, batch, single)
    label, assignment = matrix_at(label, batch, label_digits, integer), numbers_at(assignment, batch * k * n, integer)
    map_rows(values.reshape(batch, k, n, base), label, assignment.reshape(batch, k, n), log_joint, status)
    return count_left(status)
