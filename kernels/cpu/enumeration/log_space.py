"""The posterior over a list of assignments one row at a time, in float64 and log space: logits of any size.

p(z_m) is the product of the priors p_i(z_m,i); marginals are sums of p(z_m) over the assignments with a value. Weights
are scaled to a largest one of 1, so that no exponential overflows.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.symbol_rows import log_softmax, write_prior
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def log_joints(table, k, assignments, log_weights):
    """log_weights[m] = log p(z_m), symbols in ascending order; returns the largest."""
    largest = -np.inf
    for m in range(len(assignments)):
        total = 0.0
        for i in range(assignments.shape[1]):
            total += table[i * k + assignments[m, i]]
        log_weights[m] = total
        largest = max(largest, total)
    return largest


@lane_function
def posterior_row(logits, code, assignments, table, weights, marginals):
    """Marginals of one row, its log evidence and its status; rows without a posterior get the prior and -inf."""
    n, k = logits.shape
    log_softmax(logits, table)
    largest = log_joints(table, k, assignments, weights) if code == POSSIBLE else -np.inf
    if largest == -np.inf:
        write_prior(table, marginals)
        return -np.inf, IMPOSSIBLE if code == POSSIBLE else code
    total = 0.0
    table[:] = 0.0
    for m in range(len(assignments)):
        weight = math.exp(weights[m] - largest)
        total += weight
        for i in range(n):
            table[i * k + assignments[m, i]] += weight
    for i in range(n):
        for v in range(k):
            marginals[i, v] = table[i * k + v] / total
    return largest + math.log(total), code
