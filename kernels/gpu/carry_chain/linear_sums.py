"""Tabulates sums of digits as probabilities, one sum a lane, tiles [S, SUMS]; messages over carries likewise.

SUMS is a power of two of at least n_addends * base. A rotation therefore carries nothing but zeros round the end of a
table, or numbers to sums that no digits have, which count with weight zero.
"""

import triton
import triton.language as tl


@triton.jit
def places(table):
    """The lane of every entry of a tile [S, SUMS]."""
    return tl.broadcast_to(tl.arange(0, table.shape[1])[None, :], table.shape)


@triton.jit
def at(table, index):
    """table[index] in all lanes, for a scalar below SUMS."""
    return tl.gather(table, tl.full(table.shape, index, tl.int32), 1)
