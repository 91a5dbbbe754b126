"""Explicit SIMD for Numba on integers: a value of type IntegerLanes holds one int32 of each of several samples.

Rows of C-contiguous arrays hold a block of samples; ``load`` and the like take the lanes that start at a column. A view
of the first half of the columns (``half_lanes``) has half as many lanes, as in ``lanes``.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from emnesy_gpu.kernels.cpu.common import lanes as floats
from emnesy_gpu.kernels.cpu.common.gathers import joined
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer, vector_pointer_2d

INTEGER_LANES = FLOAT32_LANES

LOOK_UP_SIZE = 32
"""Numbers of the tables of ``look_up``: two registers of 16."""


class IntegerLanes(types.Type):
    """The Numba type of a vector of int32."""

    def __init__(self, count: int = INTEGER_LANES) -> None:
        self.count = count
        self.vector = ir.VectorType(ir.IntType(32), count)
        super().__init__(name=f"IntegerLanes({count})")

    def constant(self, value: int) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.count)


integer_lanes = IntegerLanes()


def lanes_of(array: types.Array) -> IntegerLanes:
    """The lanes of an array's rows."""
    return IntegerLanes(INTEGER_LANES // 2) if array.layout == "A" else integer_lanes


@register_model(IntegerLanes)
class IntegerLanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type: IntegerLanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _pointer(context, builder, array_type, array, row, column):
    """Address of the lanes, numbers of the array's type, that start at array[row, column]."""
    vector = ir.VectorType(ir.IntType(array_type.dtype.bitwidth), lanes_of(array_type).count)
    return vector_pointer_2d(context, builder, (array_type, array), row, column, vector)


def _spread(context, builder, lanes: IntegerLanes, value_type, value):
    """Lanes as they are; a number as the same int32 in every lane."""
    if isinstance(value_type, IntegerLanes):
        return value
    undefined = ir.Constant(lanes.vector, ir.Undefined)
    number = context.cast(builder, value, value_type, types.int32)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, lanes.constant(0))


@intrinsic
def load(typingctx, array, row, column):
    """Lanes from an array of int32, or of uint16, which are extended."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        array_type = signature.args[0]
        pointer = _pointer(context, builder, array_type, *args)
        value = builder.load(pointer, align=array_type.dtype.bitwidth // 8)
        return value if array_type.dtype.bitwidth == 32 else builder.zext(value, lanes.vector)

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, array, row, column, value):
    """Write lanes to an array of int32, or their low halves to one of uint16."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        array_type = signature.args[0]
        pointer = _pointer(context, builder, array_type, *args[:3])
        value = args[3]
        if array_type.dtype.bitwidth == 16:
            value = builder.trunc(value, ir.VectorType(ir.IntType(16), lanes.count))
        builder.store(value, pointer, align=array_type.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), codegen


@intrinsic
def filled(typingctx, value):
    """Lanes that all hold one integer."""

    def codegen(context, builder, signature, args):
        return _spread(context, builder, integer_lanes, signature.args[0], args[0])

    return integer_lanes(value), codegen


@intrinsic
def filled_like(typingctx, array, value):
    """The lanes of a row of an array that all hold one integer."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        return _spread(context, builder, lanes, signature.args[1], args[1])

    return lanes(array, value), codegen


def _elementwise(emit: Callable, *argument_types):
    """Signature and code of an intrinsic on vectors of int32; plain integers stand for all lanes."""
    lanes = next(kind for kind in argument_types if isinstance(kind, IntegerLanes))

    def codegen(context, builder, signature, args):
        typed = zip(signature.args, args, strict=True)
        return emit(builder, *(_spread(context, builder, lanes, kind, value) for kind, value in typed))

    return lanes(*argument_types), codegen


@intrinsic
def add(typingctx, x, y):
    """x + y, modulo 2^32."""
    return _elementwise(lambda builder, x, y: builder.add(x, y), x, y)


@intrinsic
def subtract(typingctx, x, y):
    """x - y, modulo 2^32."""
    return _elementwise(lambda builder, x, y: builder.sub(x, y), x, y)


@intrinsic
def multiply(typingctx, x, y):
    """x * y, modulo 2^32."""
    return _elementwise(lambda builder, x, y: builder.mul(x, y), x, y)


@intrinsic
def field(typingctx, x, first, bits):
    """The number in so many bits of x from the first one on."""

    def emit(builder, x, first, bits):
        one = ir.Constant(x.type, [1] * x.type.count)
        return builder.and_(builder.lshr(x, first), builder.sub(builder.shl(one, bits), one))

    return _elementwise(emit, x, first, bits)


@intrinsic
def shift_right(typingctx, x, bits):
    """x >> bits, of numbers that are not negative."""
    return _elementwise(lambda builder, x, bits: builder.lshr(x, bits), x, bits)


@intrinsic
def bit_below(typingctx, place, size):
    """2^place where 0 <= place < size, which is at most 32; 0 elsewhere."""

    def emit(builder, place, size):
        one, zero = (ir.Constant(place.type, [number] * place.type.count) for number in (1, 0))
        return builder.select(builder.icmp_unsigned("<", place, size), builder.shl(one, place), zero)

    return _elementwise(emit, place, size)


@intrinsic
def where_greater(typingctx, x, y, then, otherwise):
    """then where x > y (signed), otherwise elsewhere."""

    def emit(builder, x, y, then, otherwise):
        return builder.select(builder.icmp_signed(">", x, y), then, otherwise)

    return _elementwise(emit, x, y, then, otherwise)


@intrinsic
def where_equal(typingctx, x, y, then, otherwise):
    """then where x == y, otherwise elsewhere."""

    def emit(builder, x, y, then, otherwise):
        return builder.select(builder.icmp_signed("==", x, y), then, otherwise)

    return _elementwise(emit, x, y, then, otherwise)


@intrinsic
def add_where_equal(typingctx, total, x, y, addend):
    """total + addend where x == y, total elsewhere."""

    def emit(builder, total, x, y, addend):
        return builder.select(builder.icmp_signed("==", x, y), builder.add(total, addend), total)

    return _elementwise(emit, total, x, y, addend)


@intrinsic
def add_where_bit(typingctx, total, lanes, bit, addend):
    """total + addend where the lanes have a bit of ``bit`` set, total elsewhere."""

    def emit(builder, total, lanes, bit, addend):
        chosen = builder.icmp_unsigned("!=", builder.and_(lanes, bit), ir.Constant(lanes.type, None))
        return builder.select(chosen, builder.add(total, addend), total)

    return _elementwise(emit, total, lanes, bit, addend)


@intrinsic
def where_at_most(typingctx, x, y, then, otherwise):
    """then where x <= y, otherwise elsewhere; x and y are float32 Lanes, of which there are as many."""
    kind = otherwise

    def codegen(context, builder, signature, args):
        x, y, then, otherwise = args
        then = _spread(context, builder, kind, signature.args[2], then)
        return builder.select(builder.fcmp_ordered("<=", x, y), then, otherwise)

    return otherwise(x, y, then, otherwise), codegen


@intrinsic
def multiply_where_bit(typingctx, value, lanes, bit, factor):
    """value * factor where the integer lanes have a bit of ``bit`` set, value elsewhere; value: float32 Lanes."""
    kind = lanes

    def codegen(context, builder, signature, args):
        value, lanes, bit, factor = args
        bit = _spread(context, builder, kind, signature.args[2], bit)
        factor = floats.spread(context, builder, signature.return_type, signature.args[3], factor)
        chosen = builder.icmp_unsigned("!=", builder.and_(lanes, bit), kind.constant(0))
        return builder.select(chosen, builder.fmul(value, factor), value)

    return value(value, lanes, bit, factor), codegen


@intrinsic
def looks_up(typingctx):
    """Whether the processor has the instruction of ``look_up``, which is known when a kernel is compiled."""

    def codegen(context, builder, signature, args):
        return ir.IntType(1)(_has_look_up(context))

    return types.boolean(), codegen


@intrinsic
def look_up(typingctx, like, numbers, lanes):
    """float32 Lanes numbers[n] for the lowest bits n of integer lanes; not defined without ``looks_up``.

    like: an array with these lanes. numbers: of LOOK_UP_SIZE.
    """
    result, half = floats.lanes_of(like), LOOK_UP_SIZE // 2
    table, places = ir.VectorType(ir.FloatType(), half), ir.VectorType(ir.IntType(32), half)

    def codegen(context, builder, signature, args):
        if not _has_look_up(context):
            return ir.Constant(result.floats, ir.Undefined)
        _, numbers, lanes = args
        starts = (ir.Constant(ir.IntType(64), start) for start in (0, half))
        pointers = [vector_pointer(context, builder, signature.args[1], numbers, start, table) for start in starts]
        low, high = (builder.load(pointer, align=4, typ=table) for pointer in pointers)
        kind = ir.FunctionType(table, [table, places, table])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.ps.512")
        parts = (range(start, start + half) for start in range(0, result.count, half))
        some = (builder.shuffle_vector(lanes, lanes, ir.Constant(places, list(part))) for part in parts)
        return joined(builder, [builder.call(permute, [low, part, high]) for part in some])

    return result(like, numbers, lanes), codegen


def _has_look_up(context) -> bool:
    _, _, features = context.codegen().magic_tuple()
    return "+avx512f" in features.split(",")


@intrinsic
def sum_lanes(typingctx, lanes):
    """The sum of all lanes as int64; it must be less than 2^32."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [args[0].type])
        name = f"llvm.vector.reduce.add.v{args[0].type.count}i32"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.zext(builder.call(function, [args[0]]), ir.IntType(64))

    return types.int64(lanes), codegen
