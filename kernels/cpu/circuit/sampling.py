"""Exact samples of the symbols of a circuit given a label: values of all nodes, then a walk for each sample.

Numbers are float64 with exponents of unlimited range, as in ``wide``, and the draws are those of ``reference.circuit``:
a node with several terms chooses one by word 0 of the Philox counter (draws[node], sample, row), and a symbol that no
chosen term mentions is drawn from its prior by word 0 of the counter (symbol, sample, row).
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.linear import status_of
from emnesy_gpu.kernels.cpu.circuit.program import term_at
from emnesy_gpu.kernels.cpu.circuit.walk import new_stack, terms_of, walker
from emnesy_gpu.kernels.cpu.circuit.wide import play, read_leaves
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.philox import philox_uniforms
from emnesy_gpu.kernels.cpu.common.priors import exponentiate, log_softmax, pick
from emnesy_gpu.kernels.cpu.common.wide_numbers import SMALLEST_EXPONENT
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def drawn_term(p, row, place):
    """A term of a node in proportion to its value; place: table, lane, and the counter and key of the draws."""
    table, lane, sample, number, seed = place
    e, last = terms_of(p, row)
    if last - e == 1:
        return e
    uniform = philox_uniforms(item(p.numbers, p.draws + row - p.one - 1), sample, number, seed)[0]
    wanted, running, chosen = uniform * table.mantissa[row, lane], 0.0, e
    while e < last:
        left, right = term_at(p.terms, e)
        weight = table.mantissa[left, lane] * table.mantissa[right, lane]
        exponent = table.exponent[left, lane] + table.exponent[right, lane] - table.exponent[row, lane]
        if weight > 0.0 and exponent >= SMALLEST_EXPONENT:
            running += math.ldexp(weight, int(exponent))
            chosen = e
            if running > wanted:
                return e
        e += 1
    return chosen


walk = walker(drawn_term)


@lane_function
def draw_from_prior(logits, drawn, weights, number, seed):
    """Values of the symbols that have none, -1; logits [n K], drawn [n_samples, n]."""
    size = len(weights)
    for i in range(drawn.shape[1]):
        total = 0.0
        for sample in range(len(drawn)):
            if drawn[sample, i] >= 0:
                continue
            if total == 0.0:
                log_softmax(logits[i * size : (i + 1) * size], weights)
                total = exponentiate(weights, size)
            uniform = philox_uniforms(i, sample, number, seed)[0]
            drawn[sample, i] = pick(weights, size, uniform * total)


@kernel
def sample_rows(logits, label_rows, drawn, status, p, table, seed, first):
    """logits float64 [rows, n K]; p: the nodes of a circuit, table: pairs.

    Row r is row first[0] + r of drawn int64 [n_samples, batch, n], and row first[1] + r of the random numbers.
    """
    stack, weights, lanes = new_stack(p), np.empty(p.n_values), table.mantissa.shape[1]
    for start in range(0, len(logits), lanes):
        span = start, min(start + lanes, len(logits))
        read_leaves(table, p, logits, label_rows, span)
        play(table, p)
        for row in range(span[0], span[1]):
            lane, number = row - span[0], first[1] + row
            status[row] = status_of(table.mantissa, p, label_rows, row, lane)
            if status[row] == POSSIBLE and not table.mantissa[p.root, lane] > 0.0:
                status[row] = IMPOSSIBLE
            values = drawn[:, first[0] + row]
            values[:] = -1
            if status[row] == POSSIBLE:
                for sample in range(len(values)):
                    walk(p, (table, lane, sample, number, seed), values[sample], stack)
            draw_from_prior(logits[row], values, weights, number, seed)
