"""Explicit SIMD for Numba on distances: a value of type DistanceLanes holds an integer of each of several maps.

uint16 or uint32, by the arrays that they come from, C-contiguous [rows, DISTANCE_LANES]. ``unreachable`` is no
distance, and sums of two numbers up to that do not wrap around: those of uint16 stop there, and those of uint32 have a
bit more. Arrays of FEW_LANES columns that are taken by a slice of all of them (``few_lanes``) have as many lanes: few
maps then cost what they need.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer

DISTANCE_LANES, FEW_LANES = 32, 8


class DistanceLanes(types.Type):
    """The Numba type of a vector of unsigned integers of one width."""

    def __init__(self, dtype: types.Integer, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"DistanceLanes({dtype}, {count})")

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.count)


@register_model(DistanceLanes)
class DistanceLanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type: DistanceLanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def lanes_of(array: types.Array) -> DistanceLanes:
    """The lanes of an array's rows: Numba does not know that a slice is contiguous."""
    return DistanceLanes(array.dtype, FEW_LANES if array.layout == "A" else DISTANCE_LANES)


@lane_function
def unreachable(numbers):
    """The largest distance in the type of an array."""
    return numbers.dtype.type(2**31 - 1 if numbers.itemsize == 4 else 2**16 - 1)


@lane_function
def few_lanes(rows, dtype):
    """Uninitialised [rows, FEW_LANES] for as many lanes."""
    return np.empty((rows, FEW_LANES), dtype)[:, :FEW_LANES]


def _pointer(context, builder, array_type, array, row):
    """Address of one row of an array."""
    lanes = lanes_of(array_type)
    start = builder.mul(row, ir.Constant(row.type, lanes.count))
    return vector_pointer(context, builder, array_type, array, start, lanes.vector)


@intrinsic
def load(typingctx, array, row):
    """The lanes in one row of an array."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=lanes.vector)

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx, array, row, value):
    """Write lanes into one row of an array."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_of(array)), codegen


@intrinsic
def zeros_like(typingctx, lanes):
    """Lanes that are all 0, of the type of others."""

    def codegen(context, builder, signature, args):
        return ir.Constant(lanes.vector, [0] * lanes.count)

    return lanes(lanes), codegen


def _call(name: str) -> Callable:
    """An intrinsic that applies an instruction of LLVM to each lane of two values."""

    @intrinsic
    def of_two(typingctx, x, y):
        def codegen(context, builder, signature, args):
            kind = ir.FunctionType(x.vector, [x.vector, x.vector])
            full_name = f"llvm.{name}.v{x.count}i{x.dtype.bitwidth}"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, full_name), args)

        return x(x, y), codegen

    return of_two


minimum = _call("umin")
maximum = _call("umax")
subtract = _call("usub.sat")
_add_up_to_largest = _call("uadd.sat")


@intrinsic
def _add_plainly(typingctx, x, y):
    def codegen(context, builder, signature, args):
        return builder.add(*args)

    return x(x, y), codegen


def add(x, y):
    """In kernels: x + y of numbers up to ``unreachable``; that or more where the sum is no distance."""
    raise NotImplementedError


@overload(add)
def _add(x, y):
    # Processors have no instruction for sums of 32 bits that stop.
    if x.dtype.bitwidth == 32:
        return lambda x, y: _add_plainly(x, y)
    return lambda x, y: _add_up_to_largest(x, y)


@intrinsic
def any_positive(typingctx, lanes):
    """Whether some lane is not 0."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(lanes.vector.element, [lanes.vector])
        name = f"llvm.vector.reduce.umax.v{lanes.count}i{lanes.dtype.bitwidth}"
        largest = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)
        return builder.icmp_unsigned(">", largest, ir.Constant(lanes.vector.element, 0))

    return types.boolean(lanes), codegen
