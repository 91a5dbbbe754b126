"""Philox-4x32-10 in lanes: four uniform numbers for each of several chains, bit for bit ``philox``."""

from __future__ import annotations

from typing import SupportsInt

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.lanes import lanes_of
from emnesy_gpu.kernels.cpu.common.philox import MASK, MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer

ROUNDS = 10

UNIFORM_BITS = 23


class _Words:
    """Instructions on vectors of 64-bit integers that hold 32-bit words."""

    def __init__(self, builder: ir.IRBuilder, count: int) -> None:
        self.builder, self.type = builder, ir.VectorType(ir.IntType(64), count)

    def constant(self, value: SupportsInt) -> ir.Constant:
        return ir.Constant(self.type, [int(value)] * self.type.count)

    def low(self, words):
        return self.builder.and_(words, self.constant(MASK))

    def high(self, words):
        return self.builder.lshr(words, self.constant(32))

    def filled(self, number):
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.type.count), [0] * self.type.count)
        return self.builder.shuffle_vector(first, undefined, zeros)


def _rounds(words: _Words, counter, key):
    """The four words of a counter of four, under a key of two."""
    builder, (c0, c1, c2, c3), (k0, k1) = words.builder, counter, key
    for _ in range(ROUNDS):
        product_0 = builder.mul(c0, words.constant(MULTIPLIER_0))
        product_1 = builder.mul(c2, words.constant(MULTIPLIER_1))
        c0, c1, c2, c3 = (
            builder.xor(builder.xor(words.high(product_1), c1), k0),
            words.low(product_1),
            builder.xor(builder.xor(words.high(product_0), c3), k1),
            words.low(product_0),
        )
        k0, k1 = (words.low(builder.add(k, words.constant(weyl))) for k, weyl in ((k0, WEYL_0), (k1, WEYL_1)))
    return c0, c1, c2, c3


@intrinsic
def uniform_lanes(typingctx, like, position, samples, offset, rows, seed):
    """Four float32 Lanes in [0, 1), the upper 23 bits of the words of the counter (position, sample, row), key seed.

    like: an array with these lanes. samples, rows: int64 [lanes]; offset is added to the samples.
    """
    lanes = lanes_of(like)

    def codegen(context, builder, signature, args):
        _, position, samples, offset, rows, seed = args
        words = _Words(builder, lanes.count)
        zero, kinds = ir.Constant(ir.IntType(64), 0), signature.args
        sample, row = (
            builder.load(vector_pointer(context, builder, kind, array, zero, words.type), align=8, typ=words.type)
            for kind, array in ((kinds[2], samples), (kinds[4], rows))
        )
        sample = builder.add(sample, words.filled(offset))
        counter = words.low(words.filled(position)), words.low(sample), words.low(row), words.high(row)
        key = words.low(words.filled(seed)), words.high(words.filled(seed))
        scale = lanes.float_constant(2.0**-UNIFORM_BITS)
        found = []
        for word in _rounds(words, counter, key):
            bits = builder.trunc(builder.lshr(word, words.constant(32 - UNIFORM_BITS)), lanes.bits)
            found.append(builder.fmul(builder.sitofp(bits, lanes.floats), scale))
        return context.make_tuple(builder, signature.return_type, found)

    arguments = like, types.int64, samples, types.int64, rows, types.uint64
    return types.UniTuple(lanes, 4)(*arguments), codegen
