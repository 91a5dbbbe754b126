"""Scores an assignment by a circuit: see emnesy_gpu.kernels.score_tables.

A row of the circuit is a word: bit m says whether it is true where entry m of the label is given alone. So one pass from
the leaves to the root decides WORD_BITS entries. The rows lie in scratch memory, where a thread has its own column.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.scored.scores import value_of

WORD_BITS = tl.constexpr(32)
TRUE = tl.constexpr(-1)  # whatever entry is given


class Circuit(NamedTuple):
    """Where a circuit is, and what its sizes are."""

    given: object  # int32 [M + 1]
    codes: object  # int32 [M, n_codes]
    first: object  # int32 [n_nodes + 1]
    terms: object  # int32 [T, 2]
    n_codes: object
    n_nodes: object


@triton.jit
def _circuit_of(row):
    label_ptr, first_ptr, terms_ptr = row.tables
    n_nodes = tl.load(label_ptr)
    n_codes = tl.load(label_ptr + 1)
    return Circuit(label_ptr + 2, label_ptr + 3 + row.n_constraints, first_ptr, terms_ptr, n_codes, n_nodes)


@triton.jit
def _store_symbols(symbols, row, K: tl.constexpr):
    """The leaves of the symbols."""
    for i in range(row.n):
        value = value_of(symbols, i)
        for v in range(K):
            tl.store(row.scratch + (i * K + v) * symbols.LANES, tl.where(value == v, TRUE, 0))


@triton.jit
def _store_label(symbols, row, circuit, first_entry):
    """The leaves of the label in the word whose bits begin with first_entry, and the constant."""
    every = symbols.value * 0 + TRUE
    for m in range(row.n_constraints):
        code = tl.minimum(tl.maximum(tl.load(row.label + m), -2), circuit.n_codes - 3).to(tl.int32)
        chosen = tl.load(circuit.codes + m * circuit.n_codes + code + 2)
        begin = tl.load(circuit.given + m)
        bit = m - first_entry
        in_word = (bit >= 0) & (bit < WORD_BITS)
        others = tl.where(in_word, every ^ (1 << (bit & (WORD_BITS - 1))), every)
        for leaf in range(begin, tl.load(circuit.given + m + 1)):
            fits = (chosen == 0) | (chosen == leaf - begin + 1)
            tl.store(row.scratch + leaf * symbols.LANES, tl.where(fits, every, others))
    tl.store(row.scratch + tl.load(circuit.given + row.n_constraints) * symbols.LANES, every)


@triton.jit
def _root(symbols, row, circuit):
    """The word of the last node, from those of the leaves."""
    first_node = tl.load(circuit.given + row.n_constraints) + 1
    word = symbols.value * 0
    for node in range(circuit.n_nodes):
        tl.debug_barrier()
        word = symbols.value * 0
        for term in range(tl.load(circuit.first + node), tl.load(circuit.first + node + 1)):
            left = tl.load(row.scratch + tl.load(circuit.terms + 2 * term) * symbols.LANES)
            right = tl.load(row.scratch + tl.load(circuit.terms + 2 * term + 1) * symbols.LANES)
            word |= left & right
        tl.store(row.scratch + (first_node + node) * symbols.LANES, word)
    return word


@triton.jit
def explained_entries(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """Entries of the label that the symbols have, and all that are not given, where the circuit allows the symbols."""
    circuit = _circuit_of(row)
    found = symbols.value * 0
    _store_symbols(symbols, row, SIZES[0])
    for first_entry in range(0, row.n_constraints, WORD_BITS):
        _store_label(symbols, row, circuit, first_entry)
        word = _root(symbols, row, circuit)
        for bit in range(tl.minimum(row.n_constraints - first_entry, WORD_BITS)):
            found += (word >> bit) & 1
        tl.debug_barrier()
    return found
