"""Explicit SIMD for Numba: a value of type Lanes holds one number of each of several samples.

A kernel that computes on Lanes treats every sample alike, whatever its neighbours are, so a row has the same
bits in any batch. LLVM maps the vectors on the registers of the machine at hand. Lanes live in local variables
and in the rows of C-contiguous arrays with one column per lane (``load``, ``store``); plain numbers mix with them.
A kernel that is given a view of the first half of the columns (``lane_scratch.half_lanes``) is compiled for half as
many lanes, and one that is given a flat array (``as_lanes``) for one lane: few rows then cost what they need, with the
same bits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numpy.polynomial import Chebyshev, Polynomial

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer

FLOAT32_LANES = 32
FLOAT64_LANES = 16

CACHE_LINE = 64
"""Bytes."""

LOG2_E = math.log2(math.e)

LOG_2_PARTS = {
    types.float32: (0.693145751953125, 1.4286068203094173e-06),
    types.float64: (0.6931471803691238, 1.9082149292705877e-10),
}
"""log(2) in two parts, the first so short that its product with an exponent is exact without fused operations."""

SHORT_EXP = Chebyshev.interpolate(np.exp, 6, [-math.log(2) / 2, math.log(2) / 2]).convert(kind=Polynomial).coef.tolist()
"""Coefficients of exp between these, with an error of 3e-9: as good as those of Taylor to the power 7."""


class Lanes(types.Type):
    """The Numba type of a vector of floats of one precision."""

    def __init__(self, dtype: types.Float, layout: str = "C") -> None:
        self.dtype = dtype
        single = dtype == types.float32
        columns = FLOAT32_LANES if single else FLOAT64_LANES
        self.columns = 1 if layout == "F" else columns
        self.count = columns // 2 if layout == "A" else self.columns
        self.mantissa_bits, self.exponent_bias = (23, 127) if single else (52, 1023)
        super().__init__(name=f"Lanes({dtype}, {self.count})")

    @property
    def floats(self) -> ir.VectorType:
        return ir.VectorType(ir.FloatType() if self.dtype == types.float32 else ir.DoubleType(), self.count)

    @property
    def bits(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.count)

    def float_constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.floats, [value] * self.count)

    def bits_constant(self, value: int) -> ir.Constant:
        return ir.Constant(self.bits, [value] * self.count)


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, fe_type.floats)


def lanes_of(array: types.Array) -> Lanes:
    """The lanes of an array's rows: half as many for a view of half the columns, and one for a single column.

    The former is not contiguous, and the latter lies as columns do.
    """
    return Lanes(array.dtype, array.layout)


def _pointer(context, builder, array_type, array, start):
    return vector_pointer(context, builder, array_type, array, start, lanes_of(array_type).floats)


def row_pointer(context, builder, array_type, array, row):
    start = builder.mul(row, ir.Constant(row.type, lanes_of(array_type).columns))
    return _pointer(context, builder, array_type, array, start)


@intrinsic
def load(typingctx, array, row):
    """The lanes in one row of an array."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        pointer = row_pointer(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=lanes.floats)

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx, array, row, value):
    """Write lanes, or one number for all of them, into one row of an array."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        pointer = row_pointer(context, builder, signature.args[0], *args[:2])
        filling = spread(context, builder, lanes, signature.args[2], args[2])
        builder.store(filling, pointer, align=lanes.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def load_doubles(typingctx, array, row, part):
    """FLOAT64_LANES lanes of one row, the first ones or those of a later part, as float64."""
    kind, lanes = lanes_of(array), Lanes(types.float64)
    numbers = ir.VectorType(kind.floats.element, lanes.count)

    def codegen(context, builder, signature, args):
        array, row, part = args
        first = builder.mul(row, ir.Constant(row.type, kind.columns))
        start = builder.add(first, builder.mul(part, ir.Constant(part.type, lanes.count)))
        pointer = vector_pointer(context, builder, signature.args[0], array, start, numbers)
        values = builder.load(pointer, align=kind.dtype.bitwidth // 8, typ=numbers)
        return values if numbers == lanes.floats else builder.fpext(values, lanes.floats)

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def load_at(typingctx, array, start):
    """The lanes array[start], array[start + 1], ..."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=lanes.dtype.bitwidth // 8, typ=lanes.floats)

    return lanes(array, types.intp), codegen


@intrinsic
def store_at(typingctx, array, start, value):
    """Write lanes to array[start], array[start + 1], ..."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=lanes.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def spread(context, builder, lanes: Lanes, value_type, value):
    """Lanes as they are; a number as the same float in every lane."""
    if isinstance(value_type, Lanes):
        return value
    index = ir.IntType(32)
    undefined = ir.Constant(lanes.floats, ir.Undefined)
    number = context.cast(builder, value, value_type, lanes.dtype)
    first = builder.insert_element(undefined, number, ir.Constant(index, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, lanes.count), [0] * lanes.count))


@intrinsic
def filled(typingctx, array, value):
    """Lanes of the float type of an array that all hold one number."""
    lanes = lanes_of(array)

    def codegen(context, builder, signature, args):
        return spread(context, builder, lanes, signature.args[1], args[1])

    return lanes(array, value), codegen


def _elementwise(emit: Callable, *argument_types):
    """Signature and code of an intrinsic that emits instructions on vectors of one Lanes type."""
    found = {t for t in argument_types if isinstance(t, Lanes)}
    if len(found) != 1 or not all(isinstance(t, (Lanes, types.Number)) for t in argument_types):
        return None
    lanes = found.pop()

    def codegen(context, builder, signature, args):
        typed = zip(signature.args, args, strict=True)
        return emit(builder, lanes, *(spread(context, builder, lanes, t, value) for t, value in typed))

    return lanes(*argument_types), codegen


def _define_operator(function: Callable, instruction: str) -> None:
    @intrinsic
    def emit(typingctx, left, right):
        return _elementwise(lambda builder, lanes, x, y: getattr(builder, instruction)(x, y), left, right)

    @overload(function)
    def on_lanes(left, right):
        if isinstance(left, Lanes) or isinstance(right, Lanes):
            return lambda left, right: emit(left, right)
        return None


for _instruction, _functions in {
    "fadd": (operator.add, operator.iadd),
    "fsub": (operator.sub, operator.isub),
    "fmul": (operator.mul, operator.imul),
    "fdiv": (operator.truediv, operator.itruediv),
}.items():
    for _function in _functions:
        _define_operator(_function, _instruction)


def emit_multiply_add(builder, lanes: Lanes, x, y, z):
    name = f"llvm.fmuladd.v{lanes.count}f{lanes.dtype.bitwidth}"
    signature = ir.FunctionType(lanes.floats, [lanes.floats] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [x, y, z])


@intrinsic
def multiply_add(typingctx, x, y, z):
    """x * y + z, fused where the machine can."""
    return _elementwise(emit_multiply_add, x, y, z)


@intrinsic
def maximum(typingctx, x, y):
    """The larger one; y if either is NaN."""

    def emit(builder, lanes, x, y):
        return builder.select(builder.fcmp_ordered(">", x, y), x, y)

    return _elementwise(emit, x, y)


@intrinsic
def minimum(typingctx, x, y):
    """The smaller one; y if either is NaN."""

    def emit(builder, lanes, x, y):
        return builder.select(builder.fcmp_ordered("<", x, y), x, y)

    return _elementwise(emit, x, y)


@intrinsic
def where_less(typingctx, x, y, then, otherwise):
    """then where x < y, otherwise elsewhere (also where x or y is NaN)."""

    def emit(builder, lanes, x, y, then, otherwise):
        return builder.select(builder.fcmp_ordered("<", x, y), then, otherwise)

    return _elementwise(emit, x, y, then, otherwise)


@intrinsic
def any_lane_beyond(typingctx, x, limit):
    """Whether a lane is NaN or at least ``limit`` in magnitude."""

    def codegen(context, builder, signature, args):
        lanes = signature.args[0]
        signless = builder.and_(
            builder.bitcast(args[0], lanes.bits), lanes.bits_constant(2 ** (lanes.dtype.bitwidth - 1) - 1)
        )
        limits = spread(context, builder, lanes, signature.args[1], args[1])
        beyond = builder.fcmp_unordered(">=", builder.bitcast(signless, lanes.floats), limits)
        bits = builder.bitcast(beyond, ir.IntType(lanes.count))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(x, limit), codegen


@intrinsic
def where_equal(typingctx, x, y, then, otherwise):
    """then where x == y, otherwise elsewhere."""

    def emit(builder, lanes, x, y, then, otherwise):
        return builder.select(builder.fcmp_ordered("==", x, y), then, otherwise)

    return _elementwise(emit, x, y, then, otherwise)


@intrinsic
def at_least_lanes(typingctx, x, y):
    """The lanes in which x >= y, as the bits of an integer, from the lowest on."""

    def codegen(context, builder, signature, args):
        lanes = signature.args[0]
        limits = spread(context, builder, lanes, signature.args[1], args[1])
        bits = builder.bitcast(builder.fcmp_ordered(">=", args[0], limits), ir.IntType(lanes.count))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(x, y), codegen


@intrinsic
def where_lanes(typingctx, bits, then, otherwise):
    """then in the lanes that are set in bits, otherwise elsewhere."""

    def codegen(context, builder, signature, args):
        lanes = signature.return_type
        some = builder.trunc(args[0], ir.IntType(lanes.count))
        some = builder.bitcast(some, ir.VectorType(ir.IntType(1), lanes.count))
        kinds = signature.args[1:]
        values = (spread(context, builder, lanes, kind, value) for kind, value in zip(kinds, args[1:], strict=True))
        return builder.select(some, *values)

    return otherwise(types.int64, then, otherwise), codegen


@intrinsic
def nearest_integer(typingctx, x):
    """Round to an integer; for magnitudes below 2^22 (2^51 in double precision)."""

    def emit(builder, lanes, x):
        magic = lanes.float_constant(1.5 * 2.0**lanes.mantissa_bits)
        return builder.fsub(builder.fadd(x, magic), magic)

    return _elementwise(emit, x)


@intrinsic
def power_of_two(typingctx, exponent):
    """2^exponent, for integers in the range of normal numbers."""

    def emit(builder, lanes, exponent):
        # Adding 1.5 * 2^mantissa_bits leaves the biased exponent in the lowest bits of the sum.
        magic = lanes.float_constant(1.5 * 2.0**lanes.mantissa_bits + lanes.exponent_bias)
        biased = builder.bitcast(builder.fadd(exponent, magic), lanes.bits)
        return builder.bitcast(builder.shl(biased, lanes.bits_constant(lanes.mantissa_bits)), lanes.floats)

    return _elementwise(emit, exponent)


@intrinsic
def exponent_of(typingctx, x):
    """floor(log2(x)) of positive normal numbers; for 0 one less than the smallest normal exponent."""

    def emit(builder, lanes, x):
        biased = builder.lshr(builder.bitcast(x, lanes.bits), lanes.bits_constant(lanes.mantissa_bits))
        # As the low bits of a number in [2^mantissa_bits, 2^(mantissa_bits + 1)) it becomes a float.
        carrier = (lanes.exponent_bias + lanes.mantissa_bits) << lanes.mantissa_bits
        raised = builder.bitcast(builder.or_(biased, lanes.bits_constant(carrier)), lanes.floats)
        offset = lanes.float_constant(2.0**lanes.mantissa_bits + lanes.exponent_bias)
        return builder.fsub(raised, offset)

    return _elementwise(emit, x)


def _emit_exp_mantissa(builder, lanes: Lanes, x, exponent):
    high, low = LOG_2_PARTS[lanes.dtype]
    rest = emit_multiply_add(builder, lanes, exponent, lanes.float_constant(-high), x)
    rest = emit_multiply_add(builder, lanes, exponent, lanes.float_constant(-low), rest)
    degree = 6 if lanes.dtype == types.float32 else 12
    return _emit_polynomial(builder, lanes, rest, [1.0 / math.factorial(power) for power in range(degree + 1)])


def _emit_polynomial(builder, lanes: Lanes, x, coefficients: list[float]):
    total = lanes.float_constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = emit_multiply_add(builder, lanes, total, x, lanes.float_constant(coefficient))
    return total


@intrinsic
def exp_mantissa(typingctx, x, exponent):
    """exp(x) / 2^exponent, for exponent = x log2(e) rounded to an integer."""
    return _elementwise(_emit_exp_mantissa, x, exponent)


def _emit_exp_nonpositive(builder, lanes: Lanes, x, emit_mantissa: Callable = _emit_exp_mantissa):
    lowest = lanes.float_constant(-lanes.exponent_bias * math.log(2))
    x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
    # The sum rounds x log2(e) to an integer and holds the biased exponent, at least 0, in its lowest bits.
    magic = lanes.float_constant(1.5 * 2.0**lanes.mantissa_bits + lanes.exponent_bias)
    raised = emit_multiply_add(builder, lanes, x, lanes.float_constant(LOG2_E), magic)
    biased = builder.bitcast(raised, lanes.bits)
    power = builder.bitcast(builder.shl(biased, lanes.bits_constant(lanes.mantissa_bits)), lanes.floats)
    return builder.fmul(emit_mantissa(builder, lanes, x, builder.fsub(raised, magic)), power)


@intrinsic
def exp_nonpositive(typingctx, x):
    """exp(x) for x <= 0; exactly 0 where that is less than about the smallest normal number."""
    return _elementwise(_emit_exp_nonpositive, x)


def _emit_short_mantissa(builder, lanes: Lanes, x, exponent):
    rest = emit_multiply_add(builder, lanes, exponent, lanes.float_constant(-math.log(2)), x)
    return _emit_polynomial(builder, lanes, rest, SHORT_EXP)


@intrinsic
def exp_for_single(typingctx, x):
    """The same in float64 lanes with an error below 2^-28 of it: a fraction of a rounding of float32."""
    return _elementwise(partial(_emit_exp_nonpositive, emit_mantissa=_emit_short_mantissa), x)


def as_lanes(work):
    """In kernels: scratch [rows, lanes] as it is, and a flat array [rows] as scratch of one lane."""
    raise NotImplementedError


@overload(as_lanes)
def _as_lanes(work):
    if work.ndim == 1:
        return lambda work: work.reshape(1, len(work)).T
    return lambda work: work


@lane_function
def lane_rows(rows, lanes, dtype):
    """``lane_scratch.scratch`` inside a kernel, where that costs less."""
    numbers = np.empty(rows * lanes + CACHE_LINE, dtype)
    first = (-numbers.ctypes.data % CACHE_LINE) // numbers.itemsize
    return numbers[first : first + rows * lanes].reshape(rows, lanes)
