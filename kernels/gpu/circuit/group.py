"""What the kernels of circuits share: sizes, tables, and the rows of the batch that a program takes at once."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.sum_product import total

LANES = tl.constexpr(2)
"""Threads that share a row of a table: 32 bytes, of which each reads half at once."""


class Sizes(NamedTuple):
    """What a kernel is compiled for. All but n_values are powers of two.

    Shapes of tiles are made of them by tl.full: tl.zeros of Triton 3.6 and 3.7 does not take numbers of a tuple.
    """

    n_values: int
    rows: int  # R, of the batch that a program takes at once: 32 bytes of numbers
    value_tile: int
    symbols: int  # of which priors are computed at once, times R
    pairs: int  # of an instruction and a term that are computed at once, a pair by two threads


class Circuit(NamedTuple):
    """Pointers to ``kernels.circuit_tables.CircuitTables``, as far as a tape needs them."""

    given: object
    levels: object
    runs: object
    out: object
    tape_left: object
    tape_right: object
    derivatives: object
    mentioned: object
    n_entries: object  # M
    n_levels: object


class Nodes(NamedTuple):
    """Pointers to ``kernels.circuit_tables.CircuitTables``, as far as values of nodes and walks need them."""

    given: object
    first: object
    left: object
    right: object
    node_levels: object
    draws: object
    n_entries: object  # M
    n_rows: object  # leaves, constant and nodes


class Terms(NamedTuple):
    """Sums of products that do not depend on each other: instructions or nodes, with as many terms each or fewer."""

    first: object  # the first of them
    size: object
    length: object  # terms of each, at most
    left: object
    right: object


@triton.jit
def pair_lanes(SIZES: tl.constexpr):
    """The rows [P, R] of every pair: all tiles are then in the threads that hold those of pairs."""
    return tl.broadcast_to(tl.arange(0, SIZES.rows)[None, :], (SIZES.pairs, SIZES.rows))


@triton.jit
def pair_numbers(SIZES: tl.constexpr):
    """The pairs [P, 1], not known to be neighbours: threads with two of them would trade what they look up."""
    return tl.max_contiguous(tl.arange(0, SIZES.pairs)[:, None], (1, 1))


@triton.jit
def lookup(pointers, inside, SIZES: tl.constexpr):
    """Numbers of all pairs, pointers [P, 1], for every row [P, R]; 0 outside.

    Read once for the rows that a thread has, by the threads that need them.
    """
    at = tl.broadcast_to(pointers, (SIZES.pairs, LANES))
    number = tl.load(at, mask=inside, other=0)[:, :, None]
    number = tl.broadcast_to(number, (SIZES.pairs, LANES, SIZES.rows // LANES))
    return tl.reshape(number, (SIZES.pairs, SIZES.rows))


@triton.jit
def rows_at(table, number, lane, SIZES: tl.constexpr):
    """Pointers to rows [P, R] of a table: number as `lookup` gives it, lane as `pair_lanes`.

    Triton 3.6 and 3.7 must be told that numbers are the same for the rows of a thread, which it then reads at once.
    """
    return table + tl.max_constancy(number * SIZES.rows, (1, SIZES.rows // LANES)) + lane


@triton.jit
def sums_of_nodes(x, SPLIT: tl.constexpr, SIZES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr):
    """The sum of x [P, R] over each SPLIT neighbours, for all of them."""
    if SPLIT == 1:
        return x
    else:
        parts = tl.reshape(x, (SIZES.pairs // SPLIT, SPLIT, SIZES.rows))
        sums = tl.broadcast_to(total(parts, 1, LOG, MAX), (SIZES.pairs // SPLIT, SPLIT, SIZES.rows))
        return tl.reshape(sums, (SIZES.pairs, SIZES.rows))
