"""Addresses of vectors in the arrays of a kernel, for intrinsics that load and store them."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


def vector_pointer(context, builder: ir.IRBuilder, array_type: types.Array, array, start, vector: ir.VectorType):
    """Address of the vector that begins at number ``start`` of a C-contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


def vector_pointer_2d(context, builder: ir.IRBuilder, typed_array, row, column, vector: ir.VectorType):
    """Address of the vector that begins at array[row, column].

    typed_array: the Numba type of a matrix whose rows are contiguous, and its value.
    """
    array_type, array = typed_array
    matrix = context.make_array(array_type)(context, builder, array)
    stride = builder.extract_value(matrix.strides, 0)
    data = builder.bitcast(matrix.data, ir.IntType(8).as_pointer())
    first = builder.gep(data, [builder.mul(row, stride)])
    start = builder.gep(builder.bitcast(first, matrix.data.type), [column])
    return builder.bitcast(start, vector.as_pointer())


def _array_at(ndim: int):
    """The code of an array at an address; unlike carray it does without the runtime that counts references."""

    def codegen(context, builder, signature, args):
        kind, (address, *shape, _) = signature.return_type, args
        item = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        strides = [builder.mul(shape[1], item), item] if ndim == 2 else [item]
        array = context.make_array(kind)(context, builder)
        data = builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=item, meminfo=None)
        return array._getvalue()

    return codegen


@intrinsic
def numbers_at(typingctx, address, size, like):
    """The array of so many numbers at an address: a tensor costs a call 0.6 us as an array, and 0.1 as an address.

    like: a number of their type.
    """
    return types.Array(like, 1, "C")(types.intp, types.intp, like), _array_at(1)


@intrinsic
def matrix_at(typingctx, address, rows, columns, like):
    """The array [rows, columns] of numbers at an address."""
    return types.Array(like, 2, "C")(types.intp, types.intp, types.intp, like), _array_at(2)


def address_of(array: np.ndarray) -> int:
    """Where the numbers of a contiguous array begin, for ``numbers_at``; the array must outlive the call."""
    if not array.flags.c_contiguous:
        raise ValueError("an array that is passed by its address must be contiguous")
    address: int = array.__array_interface__["data"][0]
    return address
