"""Explicit SIMD for Numba on distances: a value of type DistanceLanes holds an integer of each of several maps.

uint16 or uint32, by the arrays that they come from, C-contiguous [rows, DISTANCE_LANES]. Sums stop at the largest
number, so that it stands for "unreachable" whatever is added to it.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer

DISTANCE_LANES = 32


class DistanceLanes(types.Type):
    """The Numba type of a vector of DISTANCE_LANES unsigned integers of one width."""

    def __init__(self, dtype: types.Integer) -> None:
        self.dtype = dtype
        super().__init__(name=f"DistanceLanes({dtype})")

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), DISTANCE_LANES)


@register_model(DistanceLanes)
class DistanceLanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type: DistanceLanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _pointer(context, builder, array_type, array, row):
    """Address of one row of an array."""
    start = builder.mul(row, ir.Constant(row.type, DISTANCE_LANES))
    return vector_pointer(context, builder, array_type, array, start, DistanceLanes(array_type.dtype).vector)


@intrinsic
def load(typingctx, array, row):
    """The lanes in one row of an array."""
    lanes = DistanceLanes(array.dtype)

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

    return types.void(array, types.intp, DistanceLanes(array.dtype)), codegen


@intrinsic
def zeros_like(typingctx, lanes):
    """Lanes that are all 0, of the type of others."""

    def codegen(context, builder, signature, args):
        return ir.Constant(lanes.vector, [0] * DISTANCE_LANES)

    return lanes(lanes), codegen


def _call(name: str) -> Callable:
    """An intrinsic that applies an instruction of LLVM to each lane of two values."""

    @intrinsic
    def of_two(typingctx, x, y):
        def codegen(context, builder, signature, args):
            kind = ir.FunctionType(x.vector, [x.vector, x.vector])
            full_name = f"llvm.{name}.v{DISTANCE_LANES}i{x.dtype.bitwidth}"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, full_name), args)

        return x(x, y), codegen

    return of_two


minimum = _call("umin")
maximum = _call("umax")
add = _call("uadd.sat")
subtract = _call("usub.sat")


@intrinsic
def any_positive(typingctx, lanes):
    """Whether some lane is not 0."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(lanes.vector.element, [lanes.vector])
        name = f"llvm.vector.reduce.umax.v{DISTANCE_LANES}i{lanes.dtype.bitwidth}"
        largest = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)
        return builder.icmp_unsigned(">", largest, ir.Constant(lanes.vector.element, 0))

    return types.boolean(lanes), codegen
