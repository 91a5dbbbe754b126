"""Lanes with numbers from many places of a flat array, for kernels whose lanes are parts of one sample.

``like`` is scratch of the lanes that are wanted: see ``lanes``. Numbers are read in pairs, which halves the steps: two
lanes x and y of a pair lie as x[0], y[0], x[1], y[1], ...
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.lanes import lanes_of
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer

INDEX = ir.IntType(32)

EIGHT = 8
"""Pairs of float32 in a register."""


def _shuffled(builder, left, right, order: list[int]):
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(INDEX, len(order)), order))


def joined(builder, vectors: list):
    """One vector of all numbers of several, a power of two, in their order."""
    while len(vectors) > 1:
        both = list(range(2 * vectors[0].type.count))
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [_shuffled(builder, left, right, both) for left, right in pairs]
    return vectors[0]


def _parted(builder, vector) -> list:
    """The numbers at even places, and those at odd ones."""
    return [_shuffled(builder, vector, vector, list(range(odd, vector.type.count, 2))) for odd in range(2)]


@intrinsic
def read(typingctx, like, numbers, start):
    """The lanes numbers[start], numbers[start + 1], ..."""
    lanes = lanes_of(like)

    def codegen(context, builder, signature, args):
        pointer = vector_pointer(context, builder, signature.args[1], args[1], args[2], lanes.floats)
        return builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=lanes.floats)

    return lanes(like, numbers, types.intp), codegen


@intrinsic
def write(typingctx, numbers, start, value):
    """Write lanes to numbers[start], numbers[start + 1], ..."""

    def codegen(context, builder, signature, args):
        floats = signature.args[2].floats
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1], floats)
        builder.store(args[2], pointer, align=signature.args[2].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, value), codegen


@intrinsic
def read_pair(typingctx, like, numbers, start):
    """The lanes numbers[start], numbers[start + 2], ..., and those between them."""
    lanes = lanes_of(like)

    def codegen(context, builder, signature, args):
        both = ir.VectorType(lanes.floats.element, 2 * lanes.count)
        pointer = vector_pointer(context, builder, signature.args[1], args[1], args[2], both)
        vector = builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=both)
        return context.make_tuple(builder, signature.return_type, _parted(builder, vector))

    return types.UniTuple(lanes, 2)(like, numbers, types.intp), codegen


@intrinsic
def write_pair(typingctx, numbers, start, x, y):
    """Write lanes to numbers[start], numbers[start + 2], ..., and others between them."""

    def codegen(context, builder, signature, args):
        lanes = signature.args[2]
        order = [place for lane in range(lanes.count) for place in (lane, lane + lanes.count)]
        vector = _shuffled(builder, args[2], args[3], order)
        pointer = vector_pointer(context, builder, signature.args[0], args[0], args[1], vector.type)
        builder.store(vector, pointer, align=lanes.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, x, y), codegen


@intrinsic
def gather_pair(typingctx, like, numbers, start, places, first):
    """The lanes numbers[start + places[first]], numbers[start + places[first + 1]], ..., and those behind each of them.

    places: int32.
    """
    lanes = lanes_of(like)

    def codegen(context, builder, signature, args):
        _, numbers, start, places, first = args
        data = builder.gep(context.make_array(signature.args[1])(context, builder, numbers).data, [start])
        index = builder.gep(context.make_array(signature.args[3])(context, builder, places).data, [first])
        at_once = lanes.dtype == types.float32 and lanes.count % EIGHT == 0 and _gathers_fast(context)
        found = (_eight_pairs if at_once else _one_pair)(builder, lanes, data, index)
        return context.make_tuple(builder, signature.return_type, _parted(builder, joined(builder, found)))

    return types.UniTuple(lanes, 2)(like, numbers, types.intp, places, types.intp), codegen


def _gathers_fast(context) -> bool:
    """Whether the processor has an instruction for eight pairs of float32 that takes less time than eight loads."""
    _, processor, features = context.codegen().magic_tuple()
    return "+avx512f" in features.split(",") and not processor.startswith("znver")


def _eight_pairs(builder, lanes, data, index) -> list:
    """Vectors of eight pairs of float32, each of which is read as one number of 8 bytes."""
    places, numbers = ir.VectorType(INDEX, EIGHT), ir.VectorType(ir.DoubleType(), EIGHT)
    mask = ir.Constant(ir.VectorType(ir.IntType(1), EIGHT), [1] * EIGHT)
    address = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(numbers, [numbers, address, places, mask.type, INDEX])
    gather = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.gather.dpd.512")
    data, nothing, found = builder.bitcast(data, address), ir.Constant(numbers, ir.Undefined), []
    for lane in range(0, lanes.count, EIGHT):
        first = builder.bitcast(builder.gep(index, [INDEX(lane)]), places.as_pointer())
        eight = builder.call(gather, [nothing, data, builder.load(first, align=4, typ=places), mask, INDEX(4)])
        found.append(builder.bitcast(eight, ir.VectorType(lanes.floats.element, 2 * EIGHT)))
    return found


def _one_pair(builder, lanes, data, index) -> list:
    """Vectors of a pair."""
    two, found = ir.VectorType(lanes.floats.element, 2), []
    for lane in range(lanes.count):
        place = builder.sext(builder.load(builder.gep(index, [INDEX(lane)])), ir.IntType(64))
        pointer = builder.bitcast(builder.gep(data, [place]), two.as_pointer())
        found.append(builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=two))
    return found
