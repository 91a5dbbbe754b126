"""The priors of symbols, side by side for some rows of the batch."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import constant, one, over, softmax


class Batch(NamedTuple):
    """Where the rows of a program are, R of them from the first on. Missing rows stand for the last."""

    logits: object  # [batch, n, K]
    label: object  # int32 [batch, M]
    first: object  # int64
    size: object
    n: object


@triton.jit
def row_of(batch, r):
    """The number of row r of the program in the batch."""
    return tl.minimum(batch.first + r, batch.size - 1)


@triton.jit
def symbols_from(start, SIZES: tl.constexpr):
    """Symbols [1, SYMBOLS], not known to be neighbours: threads hold values of one symbol in all tiles."""
    return tl.max_contiguous(start + tl.arange(0, SIZES.symbols)[None, :], (1, 1))


@triton.jit
def store_priors(prior_ptr, batch, first, count, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The priors [count, K, R] of the symbols from the first on; INVALID_LOGITS or POSSIBLE [1, R].

    A symbol whose logits are no prior gets the uniform one.
    """
    COMPUTE: tl.constexpr = prior_ptr.dtype.element_ty
    K: tl.constexpr = SIZES.n_values
    R: tl.constexpr = SIZES.rows
    value = tl.max_contiguous(tl.arange(0, SIZES.value_tile)[:, None], (1, 1))
    code = tl.full((1, SIZES.symbols), 0, tl.int32)
    uniform = over(one(LOG), constant(tl.full((1, 1), K, tl.int32), tl.zeros((1, 1), COMPUTE), LOG), LOG)
    for start in tl.range(0, count * R, SIZES.symbols, disable_licm=True):
        symbol = symbols_from(start, SIZES)
        exists = symbol < count * R
        inside = exists & (value < K)
        r = symbol % R
        at = (row_of(batch, r) * batch.n + first + symbol // R) * K
        logits = bounded(tl.load(batch.logits + at + value, mask=inside, other=float("-inf"))).to(COMPUTE)
        prior, sums = softmax(tl.where(exists, logits, 0.0), 0, LOG)
        valid = sums == sums
        prior = tl.where(valid, prior, uniform)
        tl.store(prior_ptr + (symbol // R * K * R + r) + value * R, prior, mask=inside)
        code = tl.maximum(code, tl.where(valid, POSSIBLE, INVALID_LOGITS))
    return tl.max(tl.reshape(code, (SIZES.symbols // R, R)), 0)[None, :]
