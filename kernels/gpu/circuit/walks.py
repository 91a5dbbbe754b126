"""Walks down a circuit from its root, many at once: a node goes on to both rows of one of its terms.

Rows that wait lie on a stack, at most one of every level. A leaf that is reached is the value of its symbol.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.circuit.group import Nodes
from emnesy_gpu.kernels.gpu.circuit.values import MORE
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as NEVER
from emnesy_gpu.kernels.gpu.common.log2_semiring import exp2
from emnesy_gpu.kernels.gpu.common.philox import Counter, uniforms_float64
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import lost

MISSING = tl.constexpr(-1)


class Walk(NamedTuple):
    """What a walk is compiled for. All but n_values are powers of two."""

    n_values: int
    rows: int  # R, of a table
    walks: int  # at once, walk w in row w mod R
    symbols: int  # looked at at once


class Place(NamedTuple):
    """Pointers to the table of a program [n_rows + MORE_ROWS, R], and to its scratch memory."""

    table: object
    stack: object  # int32 [levels, walks]
    chosen: object  # int32 [n, walks]


@triton.jit
def place_of(scratch_ptr, stack_ptr, n, n_levels, nodes, WALK: tl.constexpr):
    group = tl.program_id(0).to(tl.int64)
    stack = stack_ptr + group * (n_levels + n) * WALK.walks
    return Place(scratch_ptr + group * (nodes.n_rows + MORE) * WALK.rows, stack, stack + n_levels * WALK.walks)


@triton.jit
def status_of(place, nodes, r, WALK: tl.constexpr):
    """The status, and the value of the root, of rows r of the program."""
    code = tl.load(place.table + nodes.n_rows * WALK.rows + r).to(tl.int32)
    root = tl.load(place.table + (nodes.n_rows - 1) * WALK.rows + r)
    return tl.where((code == POSSIBLE) & lost(root, 2), IMPOSSIBLE, code), root


@triton.jit
def _clear(place, n, WALK: tl.constexpr):
    walk = tl.arange(0, WALK.walks)[None, :]
    for start in range(0, n, WALK.symbols):
        symbol = start + tl.arange(0, WALK.symbols)[:, None]
        missing = tl.full((WALK.symbols, WALK.walks), MISSING, tl.int32)
        tl.store(place.chosen + symbol * WALK.walks + walk, missing, mask=symbol < n)


@triton.jit
def _best_term(place, nodes, begin, end, WALK: tl.constexpr):
    """The first of the terms of the largest value."""
    r = tl.arange(0, WALK.walks) % WALK.rows
    best = tl.full((WALK.walks,), 3.0 * NEVER, tl.float64)
    chosen = begin
    for d in range(tl.max(end - begin)):
        term = begin + d
        inside = term < end
        left = tl.load(nodes.left + term, mask=inside, other=0)
        right = tl.load(nodes.right + term, mask=inside, other=0)
        x = tl.load(place.table + left * WALK.rows + r) + tl.load(place.table + right * WALK.rows + r)
        better = inside & (x > best)
        best = tl.where(better, x, best)
        chosen = tl.where(better, term, chosen)
    return chosen


@triton.jit
def _drawn_term(place, nodes, row, begin, end, counter, WALK: tl.constexpr):
    """A term in proportion to its value, in the order of the circuit: the last that begins below the uniform number."""
    r = tl.arange(0, WALK.walks) % WALK.rows
    first_node = tl.load(nodes.given + nodes.n_entries) + 1
    uniform = uniforms_float64(counter, tl.load(nodes.draws + row - first_node))[0]
    total = tl.load(place.table + row * WALK.rows + r)
    running = tl.full((WALK.walks,), 0, tl.float64)
    chosen = begin
    for d in range(tl.max(end - begin)):
        term = begin + d
        inside = term < end
        left = tl.load(nodes.left + term, mask=inside, other=0)
        right = tl.load(nodes.right + term, mask=inside, other=0)
        x = tl.load(place.table + left * WALK.rows + r) + tl.load(place.table + right * WALK.rows + r)
        weight = tl.where(inside, exp2(tl.minimum(x - total, 0.0)), 0.0)
        chosen = tl.where((running <= uniform) & (weight > 0.0), term, chosen)
        running += weight
    return chosen


@triton.jit
def _arrive(place, nodes, row, top, active, WALK: tl.constexpr):
    """Writes the value of a leaf of a symbol, or puts a node on the stack; the new height of the stack."""
    walk = tl.arange(0, WALK.walks)
    leaf = active & (row < tl.load(nodes.given))
    node = active & (row > tl.load(nodes.given + nodes.n_entries))
    tl.store(place.chosen + row // WALK.n_values * WALK.walks + walk, row % WALK.n_values, mask=leaf)
    tl.store(place.stack + top * WALK.walks + walk, row, mask=node)
    return top + node.to(tl.int32)


@triton.jit
def walk_down(place, nodes, n, wanted, counter, WALK: tl.constexpr, MAX: tl.constexpr):
    """Leaves the values of symbols that the walks reach, MISSING for others, in scratch. wanted: bool [walks]."""
    walk = tl.arange(0, WALK.walks)
    root = walk * 0 + nodes.n_rows - 1
    _clear(place, n, WALK)
    tl.debug_barrier()
    top = _arrive(place, nodes, root, walk * 0, wanted, WALK)
    while tl.max(top) > 0:
        tl.debug_barrier()
        active = top > 0
        top -= active.to(tl.int32)
        row = tl.load(place.stack + top * WALK.walks + walk, mask=active, other=nodes.n_rows - 1)
        node = nodes.first + row - tl.load(nodes.given + nodes.n_entries) - 1
        begin = tl.load(node)
        end = tl.load(node + 1)
        if MAX:
            term = _best_term(place, nodes, begin, end, WALK)
        else:
            term = _drawn_term(place, nodes, row, begin, end, counter, WALK)
        left = tl.load(nodes.left + term)
        right = tl.load(nodes.right + term)
        tl.debug_barrier()
        top = _arrive(place, nodes, left, top, active, WALK)
        top = _arrive(place, nodes, right, top, active, WALK)
    tl.debug_barrier()


@triton.jit
def _most_probable(place, symbol, exists, chosen, WALK: tl.constexpr):
    """The smallest of the most probable values, where none is chosen."""
    r = tl.arange(0, WALK.walks)[None, :] % WALK.rows
    found = chosen
    for back in range(WALK.n_values):
        value = WALK.n_values - 1 - back
        x = tl.load(place.table + (symbol * WALK.n_values + value) * WALK.rows + r, mask=exists, other=NEVER)
        found = tl.where((chosen < 0) & (x == 0.0), value, found)
    return found


@triton.jit
def _drawn_value(place, symbol, exists, chosen, counter, WALK: tl.constexpr):
    """A value from the prior, where none is chosen."""
    r = tl.arange(0, WALK.walks)[None, :] % WALK.rows
    uniform = uniforms_float64(counter, symbol)[0]
    running = tl.full((WALK.symbols, WALK.walks), 0, tl.float64)
    found = chosen
    for value in range(WALK.n_values):
        x = tl.load(place.table + (symbol * WALK.n_values + value) * WALK.rows + r, mask=exists, other=NEVER)
        weight = exp2(x)
        found = tl.where((chosen < 0) & (running <= uniform) & (weight > 0.0), value, found)
        running += weight
    return found


@triton.jit(do_not_specialize=["first_row", "batch", "n", "n_entries", "n_rows", "n_levels"])
def map_kernel(
    given_ptr, first_ptr, left_ptr, right_ptr, scratch_ptr, stack_ptr, chosen_ptr, log_joint_ptr, status_ptr, first_row,
    batch, n, n_entries, n_rows, n_levels, WALK: tl.constexpr,
):  # fmt: skip
    """The most probable symbols of groups of R rows, from row first_row on, whose maxima are in scratch.

    Grid (groups,). chosen int64 [batch, n]; scratch and tables as in values_kernel; stack int32
    [groups, n_levels + n, walks].
    """
    nodes = Nodes(given_ptr, first_ptr, left_ptr, right_ptr, given_ptr, given_ptr, n_entries, n_rows)
    place = place_of(scratch_ptr, stack_ptr, n, n_levels, nodes, WALK)
    r = tl.arange(0, WALK.walks)
    row = first_row.to(tl.int64) + tl.program_id(0) * WALK.rows + r
    code, best = status_of(place, nodes, r, WALK)
    scale = tl.load(place.table + (n_rows + 1) * WALK.rows + r)
    log_joint = tl.where(code == POSSIBLE, best + scale, float("-inf"))
    tl.store(log_joint_ptr + row, log_joint.to(log_joint_ptr.dtype.element_ty), mask=row < batch)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=row < batch)
    walk_down(place, nodes, n, code == POSSIBLE, 0, WALK, True)
    for start in range(0, n, WALK.symbols):
        symbol = start + tl.arange(0, WALK.symbols)[:, None]
        chosen = tl.load(place.chosen + symbol * WALK.walks + r[None, :], mask=symbol < n, other=0)
        chosen = _most_probable(place, symbol, symbol < n, chosen, WALK)
        at = row[None, :] * n + symbol
        tl.store(chosen_ptr + at, chosen.to(tl.int64), mask=(row < batch)[None, :] & (symbol < n))


@triton.jit(
    do_not_specialize=[
        "first_row", "batch", "n", "n_entries", "n_rows", "n_levels", "n_samples", "seed", "first_number",
    ]
)  # fmt: skip
def sample_kernel(
    given_ptr, first_ptr, left_ptr, right_ptr, draws_ptr, scratch_ptr, stack_ptr, drawn_ptr, status_ptr, first_row,
    batch, n, n_entries, n_rows, n_levels, n_samples, seed, first_number, WALK: tl.constexpr,
):  # fmt: skip
    """Samples of groups of R rows, from row first_row on, whose sums are in scratch. Grid (groups,).

    drawn int64 [n_samples, batch, n]; first_number: of the first row of the batch among all rows that the seed serves;
    scratch and tables as in values_kernel, stack int32 [groups, n_levels + n, walks].
    """
    nodes = Nodes(given_ptr, first_ptr, left_ptr, right_ptr, given_ptr, draws_ptr, n_entries, n_rows)
    place = place_of(scratch_ptr, stack_ptr, n, n_levels, nodes, WALK)
    walk = tl.arange(0, WALK.walks)
    row = first_row.to(tl.int64) + tl.program_id(0) * WALK.rows + walk % WALK.rows
    code, _ = status_of(place, nodes, walk % WALK.rows, WALK)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=(row < batch) & (walk < WALK.rows))
    for start in range(0, n_samples, WALK.walks // WALK.rows):
        t = start + walk // WALK.rows
        number = first_number.to(tl.int64) + row
        wanted = (t < n_samples) & (row < batch)
        tl.debug_barrier()
        walk_down(place, nodes, n, wanted & (code == POSSIBLE), Counter(seed, t, number), WALK, False)
        for first in range(0, n, WALK.symbols):
            symbol = first + tl.arange(0, WALK.symbols)[:, None]
            chosen = tl.load(place.chosen + symbol * WALK.walks + walk[None, :], mask=symbol < n, other=0)
            if tl.min(chosen) < 0:
                counter = Counter(seed, t[None, :], number[None, :])
                chosen = _drawn_value(place, symbol, symbol < n, chosen, counter, WALK)
            at = (t.to(tl.int64)[None, :] * batch + row[None, :]) * n + symbol
            tl.store(drawn_ptr + at, chosen.to(tl.int64), mask=wanted[None, :] & (symbol < n))
