"""The labels of assignments: a circuit of bits, 64 assignments in a word.

A symbol that is known has leaves 0 and 1, so that all values and derivatives are 0 or 1: a product is "and", and a sum,
whose parts exclude each other, is "or". The derivative of a leaf of the label says whether its value is that of the
assignment.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.program import term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.flat_tables import item

WORD = 64
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def read_symbols(words, p, z, first, last):
    """The leaves of the symbols; values that do not exist are those of no leaf."""
    words[: p.n * p.n_values] = 0
    for row in range(first, last):
        bit = np.uint64(1) << np.uint64(row - first)
        for i in range(p.n):
            value = z[row, i]
            if 0 <= value < p.n_values:
                words[i * p.n_values + value] |= bit


@inlined
def play(words, p):
    """All instructions of a program."""
    i, e = p.out, 0
    for run in range(p.runs, p.runs + 2 * p.n_runs, 2):
        last, size = i + item(p.numbers, run), item(p.numbers, run + 1)
        while i < last:
            total, end = np.uint64(0), e + size
            while e < end:
                left, right = term_at(p.terms, e)
                total |= words[left] & words[right]
                e += 1
            words[item(p.numbers, i)] = total
            i += 1


@kernel
def truth_rows(z, truth, p):
    """z int64 [batch, n]; truth bool [batch, leaves of the label]; p: the tape of a prediction."""
    words, first_leaf = np.empty(p.rows, np.uint64), p.n * p.n_values
    for first in range(0, len(z), WORD):
        last = min(first + WORD, len(z))
        read_symbols(words, p, z, first, last)
        words[first_leaf : p.one + 1] = ALL
        words[p.zero] = 0
        play(words, p)
        for leaf in range(first_leaf, p.one):
            word = words[item(p.numbers, p.derivatives + leaf)]
            for row in range(first, last):
                truth[row, leaf - first_leaf] = word >> np.uint64(row - first) & np.uint64(1)
