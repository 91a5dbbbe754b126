"""Between rows of numbers in memory and Lanes: transposition of float32 tiles in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer_2d

TILE = 16
"""Rows and columns that are transposed in registers together."""

VECTOR = ir.VectorType(ir.FloatType(), TILE)
MASK = ir.VectorType(ir.IntType(1), TILE)
INDEX = ir.IntType(32)
INTP = ir.IntType(64)


def _transposed(builder, vectors: list) -> list:
    """Columns of a square of vectors: log2(TILE) rounds of interleaving the first half with the second."""
    half = TILE // 2
    halves = [
        ir.Constant(ir.VectorType(INDEX, TILE), [i // 2 + start + TILE * (i % 2) for i in range(TILE)])
        for start in (0, half)
    ]
    for _ in range(TILE.bit_length() - 1):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [builder.shuffle_vector(low, high, order) for low, high in pairs for order in halves]
    return vectors


def _pointer(context, builder, array_type, array, row, column):
    """Address of TILE numbers that start at array[row, column]."""
    return vector_pointer_2d(context, builder, (array_type, array), row, column, VECTOR)


def _column_mask(builder, columns):
    counts = builder.insert_element(ir.Constant(ir.VectorType(INTP, TILE), ir.Undefined), columns, INDEX(0))
    counts = builder.shuffle_vector(counts, counts, ir.Constant(ir.VectorType(INDEX, TILE), [0] * TILE))
    return builder.icmp_signed("<", ir.Constant(counts.type, list(range(TILE))), counts)


def _call(builder, name: str, result, arguments: list):
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


@intrinsic
def read_tile(typingctx, matrix, row, last_row, column, columns, lanes, lane_row, lane):
    """lanes[lane_row + v, lane + r] = matrix[min(row + r, last_row), column + v] for v < columns, r < TILE.

    Rows of lanes from lane_row + columns to lane_row + TILE are overwritten with zeros.
    """

    def codegen(context, builder, signature, args):
        matrix, row, last_row, column, columns, lanes, lane_row, lane = args
        mask = _column_mask(builder, columns)
        zeros = ir.Constant(VECTOR, [0.0] * TILE)
        vectors = []
        for r in range(TILE):
            wanted = builder.add(row, INTP(r))
            wanted = builder.select(builder.icmp_signed("<", wanted, last_row), wanted, last_row)
            pointer = _pointer(context, builder, signature.args[0], matrix, wanted, column)
            vectors.append(_call(builder, "llvm.masked.load.v16f32.p0", VECTOR, [pointer, INDEX(4), mask, zeros]))
        for v, vector in enumerate(_transposed(builder, vectors)):
            at = builder.add(lane_row, INTP(v))
            builder.store(vector, _pointer(context, builder, signature.args[5], lanes, at, lane), align=4)
        return context.get_dummy_value()

    return types.void(matrix, *[types.intp] * 4, lanes, *[types.intp] * 2), codegen


@intrinsic
def write_tile(typingctx, matrix, row, last_row, column, columns, lanes, lane_row, lane):
    """matrix[row + r, column + v] = lanes[lane_row + v, lane + r] for v < columns, r < TILE, row + r <= last_row."""

    def codegen(context, builder, signature, args):
        matrix, row, last_row, column, columns, lanes, lane_row, lane = args
        mask = _column_mask(builder, columns)
        vectors = []
        for v in range(TILE):
            at = builder.add(lane_row, INTP(v))
            pointer = _pointer(context, builder, signature.args[5], lanes, at, lane)
            vectors.append(builder.load(pointer, align=4, typ=VECTOR))
        for r, vector in enumerate(_transposed(builder, vectors)):
            wanted = builder.add(row, INTP(r))
            exists = builder.icmp_signed("<=", wanted, last_row)
            pointer = _pointer(context, builder, signature.args[0], matrix, wanted, column)
            row_mask = builder.select(exists, mask, ir.Constant(MASK, [0] * TILE))
            arguments = [vector, pointer, INDEX(4), row_mask]
            _call(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(matrix, *[types.intp] * 4, lanes, *[types.intp] * 2), codegen


def _prefetch(to_write: int):
    @intrinsic
    def prefetch(typingctx, matrix, row, column):
        """Bring the cache line of matrix[row, column] near."""

        def codegen(context, builder, signature, args):
            pointer = _pointer(context, builder, signature.args[0], *args)
            everywhere, data = INDEX(3), INDEX(1)
            _call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, INDEX(to_write), everywhere, data])
            return context.get_dummy_value()

        return types.void(matrix, types.intp, types.intp), codegen

    return prefetch


_prefetch_to_read, _prefetch_to_write = _prefetch(0), _prefetch(1)


@lane_function
def read_columns(matrix, row, last_row, column, columns, lanes, lane_row):
    """Columns of a matrix into rows of lanes, a row of the matrix in each lane, whole tiles at a time."""
    for lane in range(0, lanes.shape[1], TILE):
        for first in range(0, columns, TILE):
            width = min(TILE, columns - first)
            read_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)


@lane_function
def write_columns(matrix, row, last_row, column, columns, lanes, lane_row):
    """Rows of lanes into columns of a matrix, a row of the matrix from each lane, up to its last row."""
    for lane in range(0, lanes.shape[1], TILE):
        for first in range(0, columns, TILE):
            width = min(TILE, columns - first)
            write_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)


@lane_function
def prefetch_columns(matrix, row, last_row, column, columns, part, parts, to_write):
    """One of several parts of the rows that read_columns or write_columns will touch.

    Their strides are too large for the prefetchers of the machine, and all lines at once too many.
    """
    for lane in range(FLOAT32_LANES * part // parts, FLOAT32_LANES * (part + 1) // parts):
        for ahead in range(0, columns, TILE):
            if to_write:
                _prefetch_to_write(matrix, min(row + lane, last_row), column + ahead)
            else:
                _prefetch_to_read(matrix, min(row + lane, last_row), column + ahead)
