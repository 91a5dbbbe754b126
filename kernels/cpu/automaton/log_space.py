"""What the passes over one row in float64 logarithms share: priors, the filter backwards, blocks of positions.

Notation of ``reference.automaton``, whose order of additions is kept, so that ties are the same. The filter keeps
log beta of a block of positions, and of the ends of all blocks; ``filter_block`` computes the rest again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.priors import largest_logit, log_softmax

BLOCK_NUMBERS = 1 << 16
"""Numbers that a block of messages may hold, where that is more than the square root of the positions."""


class Filter(NamedTuple):
    """Memory of one row; a block has ``block`` positions."""

    block: int
    betas: np.ndarray  # [block + 1, S]: log beta before each position of the block, and after the last one
    ends: np.ndarray  # [n_blocks, S]: log beta after the last position of each block
    priors: np.ndarray  # [K]: log p of one position; logits, where maxima are taken
    classes: np.ndarray  # [C + 1]: log of what each class of values weighs
    ahead: np.ndarray  # [S]: log of what the label says of a state, times beta


@lane_function
def block_size(n, states):
    size = max(BLOCK_NUMBERS // states, int(math.sqrt(n)), 16)
    return min(n, size)


@lane_function
def new_filter(g):
    n, s = g.n, g.n_states
    block = block_size(n, s)
    betas, ends = np.empty((block + 1, s)), np.empty(((n + block - 1) // block, s))
    return Filter(block, betas, ends, np.empty(g.n_values), np.empty(g.n_classes + 1), np.empty(s))


@lane_function
def read_scores(logits, result):
    """The logits as they are, whose sums are exact where those of logarithms are rounded; zeros without a prior."""
    if largest_logit(logits) == -np.inf:
        result[:] = 0.0
    else:
        result[:] = logits


@lane_function
def class_maxima(priors, g, layer, result):
    result[:] = -np.inf
    for v in range(g.n_values):
        c = item(g.numbers, g.classes + layer * g.n_values + v)
        result[c] = max(result[c], priors[v])


@lane_function
def class_sums(priors, g, layer, result):
    """log P(c); each class is shifted by its largest prior."""
    if g.one_class_each:
        result[: g.n_values] = priors
        return
    largest = np.empty_like(result)
    class_maxima(priors, g, layer, largest)
    result[:] = 0.0
    for v in range(g.n_values):
        c = item(g.numbers, g.classes + layer * g.n_values + v)
        if largest[c] > -np.inf:
            result[c] += math.exp(priors[v] - largest[c])
    for c in range(len(result)):
        result[c] = largest[c] + math.log(result[c]) if largest[c] > -np.inf else -np.inf


@lane_function
def log_seen(g, label_row, i, t):
    """log o_i(t)."""
    entry = item(g.numbers, g.entry + i)
    if entry < 0:
        return 0.0
    return g.weights[g.emissions + (entry * g.n_labels + label_row[entry]) * g.n_states + t]


@lane_function
def read_classes(logits, g, i, f, maxima):
    if maxima:
        read_scores(logits[i], f.priors)
        class_maxima(f.priors, g, item(g.numbers, g.layer + i), f.classes)
    else:
        log_softmax(logits[i], f.priors)
        class_sums(f.priors, g, item(g.numbers, g.layer + i), f.classes)


@lane_function
def log_beta(g, layer, s, f, maxima):
    """log beta(s) before a position from f.ahead: the sum over the edges of s, or the largest of them."""
    first = layer * (g.n_states + 1) + s
    largest = -np.inf
    for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
        largest = max(
            largest,
            f.classes[item(g.numbers, g.out_class + e)]
            + g.weights[g.out_weight + e]
            + f.ahead[item(g.numbers, g.out_target + e)],
        )
    if maxima or largest == -np.inf:
        return largest
    total = 0.0
    for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
        total += math.exp(
            f.classes[item(g.numbers, g.out_class + e)]
            + g.weights[g.out_weight + e]
            + f.ahead[item(g.numbers, g.out_target + e)]
            - largest
        )
    return largest + math.log(total)


@lane_function
def filter_block(logits, label_row, g, b, f, maxima):
    """f.betas of block b, from f.ends."""
    start, end = b * f.block, min(g.n, (b + 1) * f.block)
    f.betas[end - start] = f.ends[b]
    for i in range(end - 1, start - 1, -1):
        read_classes(logits, g, i, f, maxima)
        for t in range(g.n_states):
            f.ahead[t] = log_seen(g, label_row, i, t) + f.betas[i + 1 - start, t]
        for s in range(g.n_states):
            f.betas[i - start, s] = log_beta(g, item(g.numbers, g.layer + i), s, f, maxima)


@lane_function
def filter_backwards(logits, label_row, g, f, maxima):
    """f.ends of all blocks, and f.betas of the first one."""
    f.ends[-1] = 0.0
    for b in range(len(f.ends) - 1, -1, -1):
        filter_block(logits, label_row, g, b, f, maxima)
        if b > 0:
            f.ends[b - 1] = f.betas[0]
