"""Plays the tape of a circuit: table[out] = sum of table[left] * table[right], level by level.

The threads of a program share the pairs (instruction, term) of a level, whose rows [R] of the table are 32 bytes each.
Where instructions have many terms, SPLIT neighbouring pairs share those of one.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.circuit.group import Terms, lookup, pair_lanes, pair_numbers, rows_at, sums_of_nodes
from emnesy_gpu.kernels.gpu.common.sum_product import plus_product, zero

NARROW = tl.constexpr(1)
WIDE = tl.constexpr(16)
"""Pairs that share an instruction: those of one warp at most."""


@triton.jit
def _play_run(
    table, run, out_ptr, part, parts, SPLIT: tl.constexpr, SIZES: tl.constexpr, LOG: tl.constexpr
):  # fmt: skip
    """Instructions of equal length; part: the program's, of the parts that share them."""
    NODES: tl.constexpr = SIZES.pairs // SPLIT
    lane = pair_lanes(SIZES)
    node = pair_numbers(SIZES) // SPLIT
    term = pair_numbers(SIZES) % SPLIT
    for start in tl.range(part * NODES, run.size, parts * NODES, disable_licm=True):
        exists = start + node < run.size
        sums = tl.full((SIZES.pairs, SIZES.rows), zero(LOG), table.dtype.element_ty)
        for d in tl.range(0, run.length, SPLIT, disable_licm=True):
            inside = exists & (d + term < run.length)
            at = (start + node) * run.length + d + term
            left = lookup(run.left + at, inside, SIZES)
            right = lookup(run.right + at, inside, SIZES)
            x = tl.load(rows_at(table, left, lane, SIZES), mask=inside, other=zero(LOG))
            y = tl.load(rows_at(table, right, lane, SIZES), mask=inside, other=zero(LOG))
            sums = plus_product(sums, x, y, LOG, False)
        sums = sums_of_nodes(sums, SPLIT, SIZES, LOG, False)
        target = lookup(out_ptr + run.first + start + node, exists, SIZES)
        tl.store(rows_at(table, target, lane, SIZES), sums, mask=exists & (term == 0))


@triton.jit
def _padded(size, length, SPLIT: tl.constexpr, SIZES: tl.constexpr):
    """Pairs of full tiles that a run takes."""
    NODES: tl.constexpr = SIZES.pairs // SPLIT
    return ((size + (NODES - 1)) & -NODES) * ((length + (SPLIT - 1)) & -SPLIT)


@triton.jit
def play_level(table, circuit, level, part, parts, SIZES: tl.constexpr, LOG: tl.constexpr):
    """One level; part: the program's, of the parts that share it. Each run in the way that pads it less."""
    for r in tl.range(tl.load(circuit.levels + level), tl.load(circuit.levels + level + 1), disable_licm=True):
        size = tl.load(circuit.runs + 4 * r + 1)
        term = tl.load(circuit.runs + 4 * r + 2)
        length = tl.load(circuit.runs + 4 * r + 3)
        run = Terms(tl.load(circuit.runs + 4 * r), size, length, circuit.tape_left + term, circuit.tape_right + term)
        if _padded(size, length, WIDE, SIZES) < _padded(size, length, NARROW, SIZES):
            _play_run(table, run, circuit.out, part, parts, WIDE, SIZES, LOG)
        else:
            _play_run(table, run, circuit.out, part, parts, NARROW, SIZES, LOG)
