"""Exact samples of an automaton's symbols given its label: filter backwards, then draw from the first position on.

float64 logarithms throughout, with the draws of ``reference.automaton``: the value and the next state together, in the
order of the values, then of the states, by word 0 of the Philox counter (position, sample, row).
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.automaton.log_space import (
    filter_backwards,
    filter_block,
    log_seen,
    new_filter,
)
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.cpu.common.priors import draw, log_softmax
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def choices(g, label_row, i, state, f, beta, terms, ways):
    """terms: log weights of every way on, in the order of values and states; ways [size, 2]: where each leads."""
    layer = item(g.numbers, g.layer + i)
    first, size = layer * (g.n_states + 1) + state, 0
    for v in range(g.n_values):
        c = item(g.numbers, g.classes + layer * g.n_values + v)
        for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
            if item(g.numbers, g.out_class + e) == c:
                t = item(g.numbers, g.out_target + e)
                terms[size] = f.priors[v] + (g.weights[g.out_weight + e] + log_seen(g, label_row, i, t) + beta[t])
                ways[size, 0], ways[size, 1] = v, t
                size += 1
    return size


@lane_function
def walk(logits, label_row, g, f, states, drawn, seed, row):
    """All samples of one row, position by position; drawn [n_samples, n]."""
    terms = np.empty(g.n_values * g.n_states)
    ways = np.empty((g.n_values * g.n_states, 2), np.int64)
    for b in range(len(f.ends)):
        if b > 0:
            filter_block(logits, label_row, g, b, f, False)
        start = b * f.block
        for i in range(start, min(g.n, start + f.block)):
            log_softmax(logits[i], f.priors)
            for sample in range(len(states)):
                size = choices(g, label_row, i, states[sample], f, f.betas[i + 1 - start], terms, ways)
                way = draw(terms, size, philox_uniforms(i, sample, row, seed)[0])
                drawn[sample, i], states[sample] = ways[way]


@lane_function
def draw_from_prior(logits, f, drawn, seed, row):
    for i in range(len(logits)):
        for sample in range(len(drawn)):
            log_softmax(logits[i], f.priors)
            drawn[sample, i] = draw(f.priors, len(f.priors), philox_uniforms(i, sample, row, seed)[0])


@kernel
def sample_rows(logits, label_rows, drawn, status, g, seed, first_row, offset):
    """logits float64 [rows, n, K], the status of the screen; g has logarithms.

    Row r is row offset + r of drawn [n_samples, batch, n], and row first_row + offset + r of the random numbers.
    """
    f = new_filter(g)
    starts, states = np.empty(g.n_states), np.empty(len(drawn), np.int64)
    for row in range(len(logits)):
        place, number = offset + row, first_row + offset + row
        if status[row] == POSSIBLE:
            filter_backwards(logits[row], label_rows[row], g, f, False)
            if np.max(g.weights[g.start : g.start + g.n_states] + f.betas[0]) == -np.inf:
                status[row] = IMPOSSIBLE
        if status[row] != POSSIBLE:
            draw_from_prior(logits[row], f, drawn[:, place], seed, number)
            continue
        for sample in range(len(drawn)):
            starts[:] = g.weights[g.start : g.start + g.n_states] + f.betas[0]
            states[sample] = draw(starts, g.n_states, philox_uniforms(0, sample, number, seed)[1])
        walk(logits[row], label_rows[row], g, f, states, drawn[:, place], seed, number)
