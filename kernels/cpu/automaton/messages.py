"""Messages of few states as tuples of Lanes, one number of every state for each row: loops over states are unrolled."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.lanes import Lanes, emit_multiply_add, lanes_of, row_pointer

INTP = ir.IntType(64)


def _parts(builder, message, kind: types.UniTuple) -> list:
    return [builder.extract_value(message, s) for s in range(kind.count)]


def _whole(context, builder, kind: types.UniTuple, parts: list):
    return context.make_tuple(builder, kind, parts)


def _load(builder, lanes: Lanes, pointer):
    return builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=lanes.floats)


def _chosen_rows(context, builder, types_and_values, indices: list) -> list:
    """The rows of an array whose numbers lie in a table, from a row on.

    A number is a multiple of the numbers of a row, so that it is an address with nothing but that of the first row.
    """
    (array_type, array), first, (numbers_type, numbers) = types_and_values
    lanes = lanes_of(array_type)
    base = row_pointer(context, builder, array_type, array, first)
    base = builder.bitcast(base, lanes.floats.element.as_pointer())
    data = context.make_array(numbers_type)(context, builder, numbers).data
    found = []
    for index in indices:
        offset = builder.sext(builder.load(builder.gep(data, [index], inbounds=True)), INTP)
        pointer = builder.bitcast(builder.gep(base, [offset]), lanes.floats.as_pointer())
        found.append(_load(builder, lanes, pointer))
    return found


def _sum_of_products(builder, lanes, left: list, right: list):
    total = builder.fmul(left[0], right[0])
    for x, y in zip(left[1:], right[1:], strict=True):
        total = emit_multiply_add(builder, lanes, x, y, total)
    return total


@intrinsic
def load_message(typingctx, array, row, like):
    """The message in the rows from one on of an array, of as many states as another one."""

    def codegen(context, builder, signature, args):
        array, row, _ = args
        rows = [builder.add(row, INTP(s)) for s in range(like.count)]
        pointers = [row_pointer(context, builder, signature.args[0], array, row) for row in rows]
        return _whole(context, builder, like, [_load(builder, like.dtype, pointer) for pointer in pointers])

    return like(array, types.intp, like), codegen


@intrinsic
def store_message(typingctx, array, row, message):
    def codegen(context, builder, signature, args):
        array, row, whole = args
        align = lanes_of(signature.args[0]).dtype.bitwidth // 8
        for s, part in enumerate(_parts(builder, whole, message)):
            pointer = row_pointer(context, builder, signature.args[0], array, builder.add(row, INTP(s)))
            builder.store(part, pointer, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, message), codegen


@intrinsic
def multiplied(typingctx, array, first, numbers, table, message, strides):
    """sum over i of array[first + numbers[table + j strides[0] + i strides[1]]] message(i), for each j."""

    def codegen(context, builder, signature, args):
        array, first, numbers, table, whole, strides = args
        source = (signature.args[0], array), first, (signature.args[2], numbers)
        strides = [builder.extract_value(strides, axis) for axis in range(2)]
        states, sums = _parts(builder, whole, message), []
        for j in range(message.count):
            start = builder.add(table, builder.mul(strides[0], INTP(j)))
            indices = [builder.add(start, builder.mul(strides[1], INTP(i))) for i in range(message.count)]
            column = _chosen_rows(context, builder, source, indices)
            sums.append(_sum_of_products(builder, message.dtype, column, states))
        return _whole(context, builder, message, sums)

    return message(array, types.intp, numbers, types.intp, message, strides), codegen


@intrinsic
def gathered_dot(typingctx, array, first, numbers, table, message):
    """sum over i of array[first + numbers[table + i]] message(i)."""

    def codegen(context, builder, signature, args):
        array, first, numbers, table, whole = args
        source = (signature.args[0], array), first, (signature.args[2], numbers)
        indices = [builder.add(table, INTP(i)) for i in range(message.count)]
        column = _chosen_rows(context, builder, source, indices)
        return _sum_of_products(builder, message.dtype, column, _parts(builder, whole, message))

    return message.dtype(array, types.intp, numbers, types.intp, message), codegen


@intrinsic
def dot(typingctx, left, right):
    def codegen(context, builder, signature, args):
        parts = (_parts(builder, whole, left) for whole in args)
        return _sum_of_products(builder, left.dtype, *parts)

    return left.dtype(left, right), codegen


def _elementwise(emit: Callable):
    """An intrinsic that applies an instruction to a message and another one, or lanes for all of its states."""

    @intrinsic
    def function(typingctx, message, other):
        def codegen(context, builder, signature, args):
            ours = _parts(builder, args[0], message)
            theirs = _parts(builder, args[1], other) if isinstance(other, types.UniTuple) else [args[1]] * len(ours)
            pairs = zip(ours, theirs, strict=True)
            return _whole(context, builder, message, [emit(builder, x, y) for x, y in pairs])

        return message(message, other), codegen

    return function


def _reduction(emit: Callable):
    @intrinsic
    def function(typingctx, message):
        def codegen(context, builder, signature, args):
            return reduce(lambda x, y: emit(builder, x, y), _parts(builder, args[0], message))

        return message.dtype(message), codegen

    return function


times = _elementwise(lambda builder, x, y: builder.fmul(x, y))
sum_of = _reduction(lambda builder, x, y: builder.fadd(x, y))
largest_of = _reduction(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))
