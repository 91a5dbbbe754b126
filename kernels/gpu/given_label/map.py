"""Finds the most probable assignment given label 0, and says of every assignment whether it has its label.

The most probable assignment with label 0 has one pair of equal values, and the most probable value at every other
symbol. One program takes one row of the batch; sums and maxima are float64, in an order that no batch changes.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.kernels.gpu.given_label.kernels import NEG_INF, exp, log

INF = tl.constexpr(float("inf"))


@triton.jit
def _tile(logits_ptr, first, n, k, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Symbols [TILE, 1] from the first on, values [1, WIDTH], logits (0 beyond the last symbol), the largest, log sum."""
    symbol = first + tl.arange(0, TILE)[:, None]
    value = tl.arange(0, WIDTH)[None, :]
    logits = tl.load(logits_ptr + symbol * k + value, mask=(symbol < n) & (value < k), other=NEG_INF)
    logits = tl.where((symbol < n) | (value > 0), bounded(logits).to(tl.float64), 0.0)
    high = tl.max(logits, 1, keep_dims=True)
    return symbol, value, logits, high, high + log(tl.sum(exp(logits - high), 1, keep_dims=True))


@triton.jit
def _log_joint(logits_ptr, z_ptr, n, k, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """The log probability of an assignment [n]."""
    total = tl.zeros((TILE, 1), tl.float64)
    for first in range(0, n, TILE):
        symbol, value, logits, _, log_sum = _tile(logits_ptr, first, n, k, TILE, WIDTH)
        z = tl.load(z_ptr + symbol, mask=symbol < n, other=0)
        chosen = tl.sum(tl.where(value == z, logits, 0.0), 1, keep_dims=True)
        total += tl.where(symbol < n, chosen - log_sum, 0.0)
    return tl.sum(tl.sum(total, 1), 0)


@triton.jit
def _store_modes(logits_ptr, z_ptr, high_ptr, n, k, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """Stores the first most probable value of every symbol, and its logit."""
    for first in range(0, n, TILE):
        symbol, value, logits, high, _ = _tile(logits_ptr, first, n, k, TILE, WIDTH)
        mode = tl.min(tl.where(logits == high, value, k - 1), 1, keep_dims=True)
        tl.store(z_ptr + symbol, mode.to(tl.int64), mask=symbol < n)
        tl.store(high_ptr + symbol, high, mask=symbol < n)


@triton.jit
def _least_loss(logits_ptr, high_ptr, pairs_ptr, n_pairs, k, PAIRS: tl.constexpr):
    """The least log probability that a pair of equal values loses, and the first pair * k + value with that loss."""
    least = tl.full((), INF, tl.float64)
    found = tl.zeros((), tl.int32)
    for start in range(0, n_pairs, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        inside = pair < n_pairs
        a = tl.load(pairs_ptr + pair, mask=inside, other=0)
        b = tl.load(pairs_ptr + n_pairs + pair, mask=inside, other=0)
        best = tl.load(high_ptr + a) + tl.load(high_ptr + b)
        for v in range(k):
            first, second = tl.load(logits_ptr + a * k + v), tl.load(logits_ptr + b * k + v)
            both = bounded(first).to(tl.float64) + bounded(second).to(tl.float64)
            loss = tl.where(inside, best - both, INF)
            here = tl.min(loss, 0)
            index = tl.min(tl.where(loss == here, pair, n_pairs), 0) * k + v
            better = (here < least) | ((here == least) & (index < found))
            found = tl.where(better, index, found)
            least = tl.minimum(least, here)
    return least, found


@triton.jit
def _holds(z_ptr, pairs_ptr, n_pairs, PAIRS: tl.constexpr):
    """Whether the values of all pairs differ."""
    equal = tl.zeros((PAIRS,), tl.int32)
    for start in range(0, n_pairs, PAIRS):
        pair = start + tl.arange(0, PAIRS)
        inside = pair < n_pairs
        a = tl.load(pairs_ptr + pair, mask=inside, other=0)
        b = tl.load(pairs_ptr + n_pairs + pair, mask=inside, other=0)
        equal |= (inside & (tl.load(z_ptr + a) == tl.load(z_ptr + b))).to(tl.int32)
    return 1 - tl.max(equal, 0)


@triton.jit(do_not_specialize=["n", "k", "n_pairs"])
def map_kernel(
    logits_ptr, label_ptr, pairs_ptr, z_ptr, log_joint_ptr, status_ptr, valid_ptr, high_ptr, n, k, n_pairs,
    ALL: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """One row: replaces z, log joint and status given label 1 by those given the label; stores whether z has the label.

    Grid (batch,). logits [batch, n, k]; z int64 [batch, n]; log_joint, status, valid [batch]; pairs int64 [2, n_pairs];
    high: scratch, float64 [batch, n]. ALL: the log joint is computed for every row.
    """
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    z_ptr += row * n
    high_ptr += row * n
    label = tl.load(label_ptr + row)
    code = tl.load(status_ptr + row).to(tl.int32)
    changed = (label == 0) & (code <= IMPOSSIBLE)
    if changed:
        _store_modes(logits_ptr, z_ptr, high_ptr, n, k, TILE, WIDTH)
        tl.debug_barrier()
        least, found = _least_loss(logits_ptr, high_ptr, pairs_ptr, n_pairs, k, PAIRS)
        code = tl.where(least < INF, POSSIBLE, IMPOSSIBLE)
        pair = found // k
        tl.store(z_ptr + tl.load(pairs_ptr + pair), (found % k).to(tl.int64), mask=least < INF)
        tl.store(z_ptr + tl.load(pairs_ptr + n_pairs + pair), (found % k).to(tl.int64), mask=least < INF)
        tl.debug_barrier()
        tl.store(status_ptr + row, code.to(tl.uint8))
    if changed | ALL:
        log_joint = _log_joint(logits_ptr, z_ptr, n, k, TILE, WIDTH)
        tl.store(log_joint_ptr + row, tl.where(code == POSSIBLE, log_joint, NEG_INF))
    holds = _holds(z_ptr, pairs_ptr, n_pairs, PAIRS)
    tl.store(valid_ptr + row, ((code == POSSIBLE) & (holds == label)).to(tl.int8))
