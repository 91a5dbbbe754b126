"""What kernels over N symbols of K values with a label of 0 or 1 share: the status of a row, and its prior.

Tables are flat: entry i K + v belongs to value v of symbol i.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import exp_nonpositive, exponent_of, filled, load, power_of_two, store
from emnesy_gpu.kernels.cpu.common.priors import log_sum
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE


@lane_function
def is_prior(logits):
    """Whether the logits [K] of one symbol are a distribution: no NaN, no +inf, and not all -inf."""
    largest = -np.inf
    for v in range(len(logits)):
        value = logits[v]
        if not value < np.inf:
            return False
        largest = max(largest, value)
    return largest > -np.inf


@lane_function
def row_status(logits, label):
    """INVALID_LABEL, INVALID_LOGITS or POSSIBLE (so far), for one row [N, K] and a label that should be 0 or 1."""
    if label < 0 or label > 1:
        return INVALID_LABEL
    for i in range(len(logits)):
        if not is_prior(logits[i]):
            return INVALID_LOGITS
    return POSSIBLE


@lane_function
def count_left(status):
    """How many rows are not POSSIBLE."""
    left = 0
    for code in status:
        left += code != POSSIBLE
    return left


@lane_function
def normaliser(logits):
    """The largest of logits [K], and log sum_v exp(logits_v - largest), in float64."""
    largest = np.float64(logits[0])
    for v in range(1, len(logits)):
        largest = max(largest, np.float64(logits[v]))
    return largest, log_sum(logits, largest)


@lane_function
def log_softmax(logits, table):
    """Log probabilities of logits [N, K] into a table [N K] of float64."""
    n, k = logits.shape
    for i in range(n):
        largest, log_total = normaliser(logits[i])
        for v in range(k):
            table[i * k + v] = logits[i, v] - largest - log_total


@lane_function
def write_prior(table, marginals):
    """Probabilities from a table of their logarithms."""
    n, k = marginals.shape
    for i in range(n):
        for v in range(k):
            marginals[i, v] = math.exp(table[i * k + v])


@lane_function
def write_softmax(logits, marginals):
    """Probabilities of logits [N, K], in float64 on the way: those of ``log_softmax``, without a table."""
    n, k = logits.shape
    for i in range(n):
        largest, log_total = normaliser(logits[i])
        for v in range(k):
            marginals[i, v] = math.exp(logits[i, v] - largest - log_total)


@lane_function
def read_row(logits, values, lane):
    """Logits less the largest one of their symbol, into one lane."""
    n, k = logits.shape
    for i in range(n):
        largest = np.float64(logits[i, 0])
        for v in range(1, k):
            largest = max(largest, np.float64(logits[i, v]))
        for v in range(k):
            values[i * k + v, lane] = logits[i, v] - largest


@lane_function
def exponentials(values, n, k, denominator):
    """Probabilities in units of the largest one of their symbol, in place of their logarithms.

    The product of the sums over the values of each symbol is row 0 of the denominator times 2^row 1.
    """
    mantissa, exponent = filled(values, 1.0), filled(values, 0.0)
    for i in range(n):
        total = filled(values, 0.0)
        for row in range(i * k, (i + 1) * k):
            value = exp_nonpositive(load(values, row))
            store(values, row, value)
            total += value
        mantissa *= total
        shift = exponent_of(mantissa)
        mantissa *= power_of_two(shift * -1.0)
        exponent += shift
    store(denominator, 0, mantissa)
    store(denominator, 1, exponent)
