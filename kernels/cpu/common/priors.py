"""The prior of one symbol at a time, in float64 logarithms: for rows without a posterior, and for draws."""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function


@lane_function
def largest_logit(logits):
    """-inf where the logits are no prior."""
    largest, valid = -np.inf, True
    for value in logits:
        valid &= value < np.inf
        largest = max(largest, value)
    return largest if valid else -np.inf


@lane_function
def log_sum(logits, largest):
    """log sum exp(logits), less the largest of them."""
    total = 0.0
    for value in logits:
        total += math.exp(value - largest)
    return math.log(total)


@lane_function
def log_softmax(logits, result):
    """A symbol whose logits are no prior gets the uniform one."""
    largest = largest_logit(logits)
    if largest == -np.inf:
        result[:] = -math.log(len(logits))
        return
    log_total = log_sum(logits, largest)
    for v in range(len(logits)):
        result[v] = logits[v] - largest - log_total


@lane_function
def exponentiate(log_weights, size):
    """Weights in units of the largest one, in place of their logarithms; returns their sum."""
    largest = -np.inf
    for index in range(size):
        largest = max(largest, log_weights[index])
    total = 0.0
    for index in range(size):
        log_weights[index] = math.exp(log_weights[index] - largest)
        total += log_weights[index]
    return total


@lane_function
def pick(weights, size, wanted):
    """The first index whose running sum of weights exceeds a number."""
    running, last = 0.0, 0
    for index in range(size):
        running += weights[index]
        if running > wanted:
            return index
        if weights[index] > 0.0:
            last = index
    return last


@lane_function
def draw(log_weights, size, uniform):
    """The first index whose running sum of weights exceeds uniform * total; overwrites the logarithms."""
    total = exponentiate(log_weights, size)
    return pick(log_weights, size, uniform * total)


@kernel
def write_priors(logits, values, factor):
    """softmax times factor, for rows without a posterior; float64 logits."""
    priors = np.empty(logits.shape[2])
    for row in range(len(logits)):
        for i in range(logits.shape[1]):
            log_softmax(logits[row, i], priors)
            for v in range(len(priors)):
                values[row, i, v] = math.exp(priors[v]) * factor
