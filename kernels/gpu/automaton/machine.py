"""The tables of an automaton as the kernels read them, from those of ``kernels.automaton_tables.AutomatonTables``.

A warp reads one number for each of 32 states at a time, so that tables have the states along their last axis. Edges
into a state fill columns of one width, twice what a layer has on average, so that no state with many edges makes all
others wait in memory; what exceeds the width is read from the list of edges.
"""

from typing import NamedTuple

import triton
import triton.language as tl

CLASS_SHIFT = tl.constexpr(11)
SOURCE_MASK = tl.constexpr(2047)
"""An edge into a state is its source, at most 1,024, and from bit CLASS_SHIFT on its class."""

LAYER_SIZES = tl.constexpr(5)
"""Numbers that are kept of a layer: the next five constants."""
BASE = tl.constexpr(0)
WIDTH = tl.constexpr(1)
DEGREE = tl.constexpr(2)
LARGEST_CLASS = tl.constexpr(3)
N_CLASSES = tl.constexpr(4)


class Sizes(NamedTuple):
    """What a kernel is compiled for. All tiles are powers of two."""

    n_states: int
    n_values: int
    n_classes: int
    single: bool  # class v has the value v alone, in all layers
    rows: int  # rows of the batch that a program takes at once
    tile: int  # states
    row_lanes: int  # threads that have the same states, for different rows
    lanes: int  # threads that have different states
    chunk: int  # classes
    parts: int  # of the lanes, summed at once
    value_tile: int
    class_tile: int  # of at least C + 1
    symbols: int  # of which priors are computed at once
    items: int  # positions and values of which results are computed at once
    positions: int  # groups of scales of which the logarithms are summed at once
    layered: bool
    weighted: bool
    ordered: bool = False  # results go to the symbols that positions read


class Machine(NamedTuple):
    """Pointers to the tables. L layers, S states, K values, C classes, E edges, M entries of the label, Y rows of each."""

    layer: object  # int32 [n]
    sizes: object  # int32 [L, LAYER_SIZES]: where its columns begin, their width, the largest degree, the largest class, the number of classes
    incoming: object  # int32 [2 E + L S]: for each layer [WIDTH, S], source and class of an edge; source S: none
    successor: object  # int32 [L, C, S], S: none
    classes: object  # int32 [L, K]
    class_first: object  # int32 [L, C + 1]: where the values of a class begin
    class_values: object  # int32 [L, K]: values by class
    in_first: object  # int32 [L, S + 1]
    in_source: object  # int32 [E]
    in_class: object  # int32 [E]
    in_weight: object  # float64 [E]
    out_first: object  # int32 [L, S + 1]
    out_class: object  # int32 [E]
    out_target: object  # int32 [E]
    out_weight: object  # float64 [E]
    start: object  # float64 [S]
    entry: object  # int32 [n]
    emissions: object  # float64 [M, Y, S]
    n_entries: object
    n_emissions: object


@triton.jit
def layer_at(machine, position, SIZES: tl.constexpr):
    if SIZES.layered:
        return tl.load(machine.layer + position)
    else:
        return position * 0


@triton.jit
def _store_edges(machine, layer, SIZES: tl.constexpr):
    """The columns of incoming edges and the successors of one layer; where they begin, their width, the degree."""
    S: tl.constexpr = SIZES.n_states
    state = tl.arange(0, SIZES.tile)
    exists = state < S
    first = tl.load(machine.in_first + layer * (S + 1) + state, mask=exists, other=0)
    end = tl.load(machine.in_first + layer * (S + 1) + state + 1, mask=exists, other=0)
    degree = tl.max(end - first, 0)
    begin = tl.load(machine.in_first + layer * (S + 1))
    n_edges = tl.load(machine.in_first + layer * (S + 1) + S) - begin
    base = 2 * begin + layer * S
    width = 0
    if not SIZES.weighted:
        width = tl.minimum((2 * n_edges + S - 1) // S, degree)
        for d in range(width):
            inside = first + d < end
            source = tl.load(machine.in_source + first + d, mask=inside, other=S)
            klass = tl.load(machine.in_class + first + d, mask=inside, other=0)
            tl.store(machine.incoming + base + d * S + state, source | (klass << CLASS_SHIFT), mask=exists)
    return base, width, degree


@triton.jit
def _store_classes(machine, layer, SIZES: tl.constexpr):
    """Where the values of each class begin, and the values by class; the size of the largest, and their number."""
    K: tl.constexpr = SIZES.n_values
    C: tl.constexpr = SIZES.n_classes
    value = tl.arange(0, SIZES.value_tile)
    klass = tl.arange(0, SIZES.class_tile)
    own = tl.load(machine.classes + layer * K + value, mask=value < K, other=-1)
    own = tl.where(own < 0, C, own)
    rank = tl.zeros(value.shape, tl.int32)
    first = tl.zeros(klass.shape, tl.int32)
    size = tl.zeros(klass.shape, tl.int32)
    for u in range(K):
        other = tl.load(machine.classes + layer * K + u)
        other = tl.where(other < 0, C, other)
        rank += ((other < own) | ((other == own) & (u < value))).to(tl.int32)
        first += (other < klass).to(tl.int32)
        size += (other == klass).to(tl.int32)
    tl.store(machine.class_values + layer * K + rank, value, mask=value < K)
    tl.store(machine.class_first + layer * (C + 1) + klass, first, mask=klass <= C)
    return tl.max(tl.where(klass < C, size, 0), 0), tl.sum(((klass < C) & (size > 0)).to(tl.int32), 0)


@triton.jit(do_not_specialize=["n_layers"])
def tables_kernel(
    successors_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, sizes_ptr, incoming_ptr, successor_ptr,
    class_first_ptr, class_values_ptr, n_layers, SIZES: tl.constexpr,
):  # fmt: skip
    """Everything of Machine that AutomatonTables lack. Grid (L,). successors int32 [L, S, C]."""
    layer = tl.program_id(0)
    nothing = classes_ptr
    machine = Machine(
        nothing, sizes_ptr, incoming_ptr, successor_ptr, classes_ptr, class_first_ptr, class_values_ptr, in_first_ptr,
        in_source_ptr, in_class_ptr, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, 0, 0,
    )  # fmt: skip
    base, width, degree = _store_edges(machine, layer, SIZES)
    largest, n_classes = _store_classes(machine, layer, SIZES)
    tl.store(sizes_ptr + layer * LAYER_SIZES + BASE, base)
    tl.store(sizes_ptr + layer * LAYER_SIZES + WIDTH, width)
    tl.store(sizes_ptr + layer * LAYER_SIZES + DEGREE, degree)
    tl.store(sizes_ptr + layer * LAYER_SIZES + LARGEST_CLASS, largest)
    tl.store(sizes_ptr + layer * LAYER_SIZES + N_CLASSES, n_classes)
    if not SIZES.weighted:
        state = tl.arange(0, SIZES.tile)
        exists = state < SIZES.n_states
        at = layer.to(tl.int64) * SIZES.n_classes * SIZES.n_states
        for c in range(SIZES.n_classes):
            target = tl.load(successors_ptr + at + state * SIZES.n_classes + c, mask=exists, other=0)
            tl.store(successor_ptr + at + c * SIZES.n_states + state, target, mask=exists)
