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
def posterior_row(logits, code, assignments, combination, tables, weights, marginals):
    """(posterior - prior_share * prior) * factor of one row, its log evidence and its status.

    Rows without a posterior have the prior in its place, or a gradient of 0; their log evidence is -inf.
    tables [2, N K] and weights [M]: scratch.
    """
    n, k = logits.shape
    log_prior, table = tables
    log_softmax(logits, log_prior)
    largest = log_joints(log_prior, k, assignments, weights) if code == POSSIBLE else -np.inf
    if largest == -np.inf:
        if combination.prior_share == 1.0:
            marginals[:] = 0.0
        else:
            write_prior(log_prior, marginals)
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
            prior = combination.prior_share * math.exp(log_prior[i * k + v])
            marginals[i, v] = (table[i * k + v] / total - prior) * combination.factor
    return largest + math.log(total), code
