"""The values of all nodes of a circuit, level by level, as float64 logarithms: sums, or maxima.

Maxima add raw logits less the largest of each symbol, in which symbols of equal logits tie exactly, and a symbol that
is not mentioned is a factor 1; sums add log2 of priors. R rows of the batch lie side by side in a table [rows, R], with
two more rows: the status, and for maxima what is to be added to the value of the root.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.circuit.group import Nodes, pair_lanes, pair_numbers, sums_of_nodes
from emnesy_gpu.kernels.gpu.circuit.leaves import label_status, store_constant, store_label_leaves
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as NEVER
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import plus_product
from emnesy_gpu.kernels.gpu.common.symbol_priors import Batch, row_of, store_priors

LOG = tl.constexpr(2)
SHARE = tl.constexpr(4)
"""Pairs that share a node."""

MORE_ROWS = 2
"""Rows of a table after those of the circuit."""

MORE = tl.constexpr(MORE_ROWS)


@triton.jit
def _store_relative_logits(table, batch, SIZES: tl.constexpr):
    """Logits less the largest of their symbol, 0 for symbols without a prior.

    Returns minus the logarithms of the sums of their exponentials, summed over symbols, and INVALID_LOGITS or POSSIBLE:
    [1, R].
    """
    K: tl.constexpr = SIZES.n_values
    R: tl.constexpr = SIZES.rows
    value = tl.max_contiguous(tl.arange(0, SIZES.value_tile)[:, None], (1, 1))
    code = tl.full((1, SIZES.symbols), 0, tl.int32)
    scale = tl.full((1, SIZES.symbols), 0, tl.float64)
    for start in tl.range(0, batch.n * R, SIZES.symbols, disable_licm=True):
        index = tl.max_contiguous(start + tl.arange(0, SIZES.symbols)[None, :], (1, 1))
        exists = index < batch.n * R
        inside = exists & (value < K)
        at = (row_of(batch, index % R) * batch.n + index // R) * K + value
        logits = bounded(tl.load(batch.logits + at, mask=inside, other=float("-inf"))).to(tl.float64)
        relative = tl.where(exists, logits, 0.0)
        relative = relative - tl.max(relative, 0, keep_dims=True)
        sums = tl.sum(exp2(relative * LOG2_E), 0, keep_dims=True)
        valid = sums == sums
        relative = tl.where(valid, tl.maximum(relative, NEVER), 0.0)
        tl.store(table + ((index // R) * K + value) * R + index % R, relative, mask=inside)
        scale -= tl.where(exists & valid, LN_2 * log2(tl.where(valid, sums, 1.0)), 0.0)
        code = tl.maximum(code, tl.where(valid, POSSIBLE, INVALID_LOGITS))
    scale = tl.sum(tl.reshape(scale, (SIZES.symbols // R, R)), 0)[None, :]
    return scale, tl.max(tl.reshape(code, (SIZES.symbols // R, R)), 0)[None, :]


@triton.jit
def _store_leaves(table, batch, nodes, SIZES: tl.constexpr, MAX: tl.constexpr):
    """All leaves, the status, and what is to be added to the value of the root."""
    scale = tl.full((1, SIZES.rows), 0, tl.float64)
    if MAX:
        scale, code = _store_relative_logits(table, batch, SIZES)
    else:
        code = store_priors(table, batch, 0, batch.n, SIZES, LOG)
    code = tl.maximum(code, label_status(batch, nodes, SIZES))
    store_label_leaves(table, batch, nodes, SIZES, LOG)
    store_constant(table, nodes, SIZES, LOG)
    more = table + nodes.n_rows * SIZES.rows + tl.arange(0, SIZES.rows)[None, :]
    tl.store(more, code.to(tl.float64))
    tl.store(more + SIZES.rows, scale)


@triton.jit
def _climb(table, nodes, level, part, parts, SIZES: tl.constexpr, MAX: tl.constexpr):
    """The values of the nodes of a level; part: the program's, of the parts that share them."""
    NODES: tl.constexpr = SIZES.pairs // SHARE
    lane = pair_lanes(SIZES)
    end = tl.load(nodes.node_levels + level + 1)
    target = tl.load(nodes.given + nodes.n_entries) + 1
    for start in tl.range(tl.load(nodes.node_levels + level) + part * NODES, end, parts * NODES, disable_licm=True):
        node = start + pair_numbers(SIZES) // SHARE + lane * 0
        exists = node < end
        term = tl.load(nodes.first + node, mask=exists, other=0) + pair_numbers(SIZES) % SHARE
        stop = tl.load(nodes.first + node + 1, mask=exists, other=0)
        value = tl.full((SIZES.pairs, SIZES.rows), NEVER, tl.float64)
        for d in tl.range(0, tl.max(stop - term), SHARE, disable_licm=True):
            inside = term + d < stop
            left = tl.load(nodes.left + term + d, mask=inside, other=0)
            right = tl.load(nodes.right + term + d, mask=inside, other=0)
            x = tl.load(table + left * SIZES.rows + lane, mask=inside, other=NEVER)
            y = tl.load(table + right * SIZES.rows + lane, mask=inside, other=NEVER)
            value = plus_product(value, x, y, LOG, MAX)
        value = sums_of_nodes(value, SHARE, SIZES, LOG, MAX)
        at = table + (target + node) * SIZES.rows + lane
        tl.store(at, value, mask=exists & (pair_numbers(SIZES) % SHARE == 0))


@triton.jit(do_not_specialize=["first_row", "batch", "n", "n_entries", "n_rows", "first_level", "last_level", "parts"])
def values_kernel(
    logits_ptr, label_ptr, given_ptr, first_ptr, left_ptr, right_ptr, node_levels_ptr, scratch_ptr, first_row, batch, n,
    n_entries, n_rows, first_level, last_level, parts, SIZES: tl.constexpr, MAX: tl.constexpr, LEAVES: tl.constexpr,
):  # fmt: skip
    """Levels first_level .. last_level - 1 of groups of R rows, from row first_row on; with LEAVES their leaves first.

    Grid (groups, parts): programs share the nodes of a group, where there is at most one level and no leaves. logits
    [batch, n, K]; label int32 [batch, M]; scratch float64 [groups, n_rows + MORE_ROWS, R]; the tables as in Nodes.
    """
    group = tl.program_id(0)
    nodes = Nodes(
        given_ptr, first_ptr, left_ptr, right_ptr, node_levels_ptr, given_ptr, n_entries, n_rows
    )  # fmt: skip
    table = scratch_ptr + group.to(tl.int64) * (n_rows + MORE) * SIZES.rows
    if LEAVES:
        rows = Batch(logits_ptr, label_ptr, first_row.to(tl.int64) + group * SIZES.rows, batch, n)
        _store_leaves(table, rows, nodes, SIZES, MAX)
    for level in tl.range(first_level, last_level, disable_licm=True):
        tl.debug_barrier()
        _climb(table, nodes, level, tl.program_id(1), parts, SIZES, MAX)
