"""Addresses of vectors in the arrays of a kernel, for intrinsics that load and store them."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.compile import lane_function


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


@intrinsic
def _pointer(typingctx, address, like):
    """The address, an integer, as a pointer to numbers of the type of ``like``."""
    kind = types.CPointer(like)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(address, like), codegen


@lane_function
def numbers_at(address, size, like):
    """The array of so many numbers at an address: a tensor costs a call 0.6 us as an array, and 0.1 as an address."""
    return carray(_pointer(address, like), (size,))


@lane_function
def matrix_at(address, rows, columns, like):
    """The array [rows, columns] of numbers at an address."""
    return carray(_pointer(address, like), (rows, columns))


def address_of(array: np.ndarray) -> int:
    """Where the numbers of a contiguous array begin, for ``numbers_at``; the array must outlive the call."""
    if not array.flags.c_contiguous:
        raise ValueError("an array that is passed by its address must be contiguous")
    address: int = array.__array_interface__["data"][0]
    return address
