"""How many constraints of a row an assignment satisfies: see emnesy_gpu.kernels.score_tables.

A lane is an assignment, whatever the shape of the lanes. A score takes where its symbols are, the row and its label,
the tables, the number of symbols and of constraints, and what it is compiled for. It gives an int32 for every lane.
"""

from typing import NamedTuple

import triton
import triton.language as tl


class Symbols(NamedTuple):
    """An assignment for every lane: what is held in memory, but for one symbol."""

    held: object  # int16 pointers, a column for every lane, the rows of which are LANES apart
    changed: object  # the number of the symbol that has another value, -1 for none
    value: object  # int32: this value
    LANES: tl.constexpr


class Row(NamedTuple):
    """What all assignments are scored against."""

    label: object  # int64 [entries]
    tables: object  # a tuple of pointers
    number: object  # int64: of the row in the batch
    batch: object  # rows
    n: object  # symbols
    n_constraints: object
    scratch: object  # int32 pointers, a column for every lane as above


@triton.jit
def value_of(symbols, i):
    """The values of symbol i, int32."""
    return tl.where(symbols.changed == i, symbols.value, tl.load(symbols.held + i * symbols.LANES).to(tl.int32))


@triton.jit
def equal_digits(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """The digits of a sum, from the least significant one on."""
    ADDENDS: tl.constexpr = SIZES[0]
    BASE: tl.constexpr = SIZES[1]
    n_digits = row.n // ADDENDS
    carry = symbols.value * 0
    equal = symbols.value * 0
    for place in range(1, row.n_constraints + 1):
        total = carry
        if place <= n_digits:
            for addend in tl.static_range(ADDENDS):
                total += value_of(symbols, (addend + 1) * n_digits - place)
        carry = total // BASE
        digit = tl.load(row.label + row.n_constraints - place)
        equal += (total - carry * BASE == digit).to(tl.int32)
    return equal


@triton.jit
def equal_entries(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """The entries of a label that an automaton gives; the last of its states is a sink."""
    S: tl.constexpr = SIZES[0]
    K: tl.constexpr = SIZES[1]
    successor_ptr, place_ptr, code_ptr = row.tables
    state = symbols.value * 0
    equal = symbols.value * 0
    for position in range(row.n):
        layer = tl.load(place_ptr + 3 * position)
        symbol = tl.load(place_ptr + 3 * position + 1)
        entry = tl.load(place_ptr + 3 * position + 2)
        state = tl.load(successor_ptr + (layer * S + state) * K + value_of(symbols, symbol))
        if entry >= 0:
            wanted = tl.load(row.label + entry)
            found = tl.load(code_ptr + entry * S + state)
            equal += ((found != -1) & ((found == wanted) | (wanted == -1))).to(tl.int32)
    return tl.where(state == S - 1, 0, equal)


@triton.jit
def listed(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """The score from a table of all assignments; values that a symbol does not have count as its last."""
    scores_ptr, sizes_ptr, _ = row.tables
    index = symbols.value * 0
    for i in range(row.n):
        size = tl.load(sizes_ptr + i)
        index = index * size + tl.minimum(value_of(symbols, i), size - 1)
    return tl.load(scores_ptr + index.to(tl.int64) * row.batch + row.number).to(tl.int32)


@triton.jit
def of_function(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """The score of the user, who takes tuples of the symbols and of the entries of the label."""
    N: tl.constexpr = SIZES[0]
    ENTRIES: tl.constexpr = SIZES[1]
    z = ()
    for i in tl.static_range(N):
        z = z + (value_of(symbols, i),)
    y = ()
    for j in tl.static_range(ENTRIES):
        y = y + (tl.load(row.label + j),)
    return symbols.value * 0 + FUNCTION(z, y)


@triton.jit
def satisfied(symbols, row, SCORE: tl.constexpr, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """The score within 0..n_constraints."""
    return tl.minimum(tl.maximum(SCORE(symbols, row, SIZES, FUNCTION), 0), row.n_constraints)
