"""Sum-product on an automaton for logits of any size: float64 logarithms, one row at a time.

Notation of ``reference.automaton``. log alpha is kept at the starts of blocks of positions, as ``linear`` does.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.automaton.log_space import block_size, class_sums, log_seen, new_filter
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.priors import log_softmax
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def log_alpha(g, layer, t, before, classes):
    """log of the sum over the edges into t."""
    first = layer * (g.n_states + 1) + t
    largest = -np.inf
    for e in range(item(g.numbers, g.in_first + first), item(g.numbers, g.in_first + first + 1)):
        largest = max(
            largest,
            before[item(g.numbers, g.in_source + e)]
            + g.weights[g.in_weight + e]
            + classes[item(g.numbers, g.in_class + e)],
        )
    if largest == -np.inf:
        return largest
    total = 0.0
    for e in range(item(g.numbers, g.in_first + first), item(g.numbers, g.in_first + first + 1)):
        total += math.exp(
            before[item(g.numbers, g.in_source + e)]
            + g.weights[g.in_weight + e]
            + classes[item(g.numbers, g.in_class + e)]
            - largest
        )
    return largest + math.log(total)


@lane_function
def forward_block(logits, label_row, g, span, f, alphas):
    """alphas[j + 1] after every position of the block, from alphas[0]."""
    for i in range(span[0], span[1]):
        log_softmax(logits[i], f.priors)
        class_sums(f.priors, g, item(g.numbers, g.layer + i), f.classes)
        before, after = alphas[i - span[0]], alphas[i - span[0] + 1]
        for t in range(g.n_states):
            after[t] = log_alpha(g, item(g.numbers, g.layer + i), t, before, f.classes) + log_seen(g, label_row, i, t)


@lane_function
def step_backward(g, layer, f, alpha, beta, rest, largest):
    """beta from f.ahead in place, and rest(c), both as logarithms. largest: memory of the size of rest."""
    largest[:] = -np.inf
    rest[:] = 0.0
    for s in range(g.n_states):
        first = layer * (g.n_states + 1) + s
        top = -np.inf
        for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
            c, ahead = (
                item(g.numbers, g.out_class + e),
                g.weights[g.out_weight + e] + f.ahead[item(g.numbers, g.out_target + e)],
            )
            top = max(top, f.classes[c] + ahead)
            largest[c] = max(largest[c], alpha[s] + ahead)
        beta[s] = top
    for s in range(g.n_states):
        first = layer * (g.n_states + 1) + s
        total, top = 0.0, beta[s]
        for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
            c, ahead = (
                item(g.numbers, g.out_class + e),
                g.weights[g.out_weight + e] + f.ahead[item(g.numbers, g.out_target + e)],
            )
            if top > -np.inf:
                total += math.exp(f.classes[c] + ahead - top)
            if largest[c] > -np.inf:
                rest[c] += math.exp(alpha[s] + ahead - largest[c])
        beta[s] = top + math.log(total) if top > -np.inf else top
    for c in range(len(rest)):
        rest[c] = largest[c] + math.log(rest[c]) if largest[c] > -np.inf else -np.inf


@lane_function
def write_values(g, layer, f, rest, result, job):
    """(posterior - prior_share * prior) * factor of one position."""
    top = -np.inf
    for v in range(g.n_values):
        top = max(top, f.priors[v] + rest[item(g.numbers, g.classes + layer * g.n_values + v)])
    total = 0.0
    for v in range(g.n_values):
        total += math.exp(f.priors[v] + rest[item(g.numbers, g.classes + layer * g.n_values + v)] - top)
    for v in range(g.n_values):
        posterior = math.exp(f.priors[v] + rest[item(g.numbers, g.classes + layer * g.n_values + v)] - top) / total
        result[v] = (posterior - job[0] * math.exp(f.priors[v])) * job[1]


@lane_function
def backward_block(logits, label_row, g, span, f, alphas, messages, result, job):
    """Values of a block, last position first; messages: log beta after it, and memory for rest."""
    beta, rest, largest = messages
    for i in range(span[1] - 1, span[0] - 1, -1):
        log_softmax(logits[i], f.priors)
        class_sums(f.priors, g, item(g.numbers, g.layer + i), f.classes)
        for t in range(g.n_states):
            f.ahead[t] = log_seen(g, label_row, i, t) + beta[t]
        step_backward(g, item(g.numbers, g.layer + i), f, alphas[i - span[0]], beta, rest, largest)
        write_values(g, item(g.numbers, g.layer + i), f, rest, result[i], job)


@kernel
def wide_rows(logits, label_rows, marginals, log_evidence, status, g, job):
    """logits float64 [batch, n, K], g with logarithms, job (prior_share, factor).

    Every row becomes POSSIBLE or IMPOSSIBLE. The values of impossible rows are not written.
    """
    n, states = g.n, g.n_states
    block = block_size(n, states)
    last_block = (n - 1) // block
    f = new_filter(g)
    alphas, starts = np.empty((block + 1, states)), np.empty((last_block + 1, states))
    messages = np.empty(states), np.empty(g.n_classes + 1), np.empty(g.n_classes + 1)
    for row in range(len(logits)):
        alphas[0] = g.weights[g.start : g.start + states]
        for b in range(last_block + 1):
            span = b * block, min(n, (b + 1) * block)
            starts[b] = alphas[0]
            forward_block(logits[row], label_rows[row], g, span, f, alphas)
            if b < last_block:
                alphas[0] = alphas[block]
        final = alphas[n - last_block * block]
        top = np.max(final)
        status[row] = POSSIBLE if top > -np.inf else IMPOSSIBLE
        log_evidence[row] = -np.inf
        if status[row] == IMPOSSIBLE:
            continue
        log_evidence[row] = top + math.log(np.sum(np.exp(final - top))) + g.log_scale
        messages[0][:] = 0.0
        for b in range(last_block, -1, -1):
            span = b * block, min(n, (b + 1) * block)
            if b < last_block:
                alphas[0] = starts[b]
                forward_block(logits[row], label_rows[row], g, span, f, alphas)
            backward_block(logits[row], label_rows[row], g, span, f, alphas, messages, marginals[row], job)
