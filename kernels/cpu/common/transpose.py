"""Between rows of numbers in memory and Lanes: transposition of tiles in registers.

Lanes of float64 take matrices of float32 as well, and all write integers to those of int64: numbers are converted on
the way.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.pointers import vector_pointer_2d

TILE = 16
"""Rows and columns that are transposed in registers together; half as many for float64 lanes."""

LONG, AHEAD = 2048, 64
"""Columns from which on lines are fetched, and how many columns ahead: so many rows are too many for the machine."""

INDEX = ir.IntType(32)
INTP = ir.IntType(64)


def _tile(lanes: types.Array) -> int:
    return TILE if lanes.dtype == types.float32 else TILE // 2


def _vector(array_type: types.Array, size: int) -> ir.VectorType:
    numbers = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int64: INTP}
    return ir.VectorType(numbers[array_type.dtype], size)


def _converted(builder, vector, wanted: ir.VectorType):
    if vector.type == wanted:
        return vector
    if wanted.element == INTP:
        return builder.fptosi(vector, wanted)
    return (builder.fpext if wanted.element == ir.DoubleType() else builder.fptrunc)(vector, wanted)


def _transposed(builder, vectors: list) -> list:
    """Columns of a square of vectors: log2(size) rounds of interleaving the first half with the second."""
    size = len(vectors)
    half = size // 2
    halves = [
        ir.Constant(ir.VectorType(INDEX, size), [i // 2 + start + size * (i % 2) for i in range(size)])
        for start in (0, half)
    ]
    for _ in range(size.bit_length() - 1):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [builder.shuffle_vector(low, high, order) for low, high in pairs for order in halves]
    return vectors


def _pointer(context, builder, array_type, array, row, column, size=TILE):
    """Address of some numbers that start at array[row, column]."""
    return vector_pointer_2d(context, builder, (array_type, array), row, column, _vector(array_type, size))


def _column_mask(builder, columns, size: int):
    counts = builder.insert_element(ir.Constant(ir.VectorType(INTP, size), ir.Undefined), columns, INDEX(0))
    counts = builder.shuffle_vector(counts, counts, ir.Constant(ir.VectorType(INDEX, size), [0] * size))
    return builder.icmp_signed("<", ir.Constant(counts.type, list(range(size))), counts)


def _align(array_type: types.Array) -> ir.Constant:
    return INDEX(array_type.dtype.bitwidth // 8)


def _call(builder, name: str, result, arguments: list):
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


@intrinsic
def tile_of(typingctx, lanes):
    """Rows and columns of the tiles of an array of lanes."""
    return types.intp(lanes), lambda context, builder, signature, args: INTP(_tile(signature.args[0]))


@intrinsic
def read_tile(typingctx, matrix, row, last_row, column, columns, lanes, lane_row, lane):
    """lanes[lane_row + v, lane + r] = matrix[min(row + r, last_row), column + v] for v < columns; r, v < tile.

    Rows of lanes from lane_row + columns to lane_row + tile are overwritten with zeros.
    """

    def codegen(context, builder, signature, args):
        matrix, row, last_row, column, columns, lanes, lane_row, lane = args
        source, target = signature.args[0], signature.args[5]
        size = _tile(target)
        kind, wanted = _vector(source, size), _vector(target, size)
        mask, zeros = _column_mask(builder, columns, size), ir.Constant(kind, [0.0] * size)
        name = f"llvm.masked.load.v{size}f{source.dtype.bitwidth}.p0"
        vectors = []
        for r in range(size):
            at = builder.add(row, INTP(r))
            at = builder.select(builder.icmp_signed("<", at, last_row), at, last_row)
            pointer = _pointer(context, builder, source, matrix, at, column, size)
            vectors.append(
                _converted(builder, _call(builder, name, kind, [pointer, _align(source), mask, zeros]), wanted)
            )
        for v, vector in enumerate(_transposed(builder, vectors)):
            at = builder.add(lane_row, INTP(v))
            pointer = _pointer(context, builder, target, lanes, at, lane, size)
            builder.store(vector, pointer, align=target.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(matrix, *[types.intp] * 4, lanes, *[types.intp] * 2), codegen


def _write_tile(every_row: bool):
    """The function that writes a tile: of every row, or of rows up to last_row."""

    @intrinsic
    def write_tile(typingctx, matrix, row, last_row, column, columns, lanes, lane_row, lane):
        """matrix[row + r, column + v] = lanes[lane_row + v, lane + r] for v < columns; r, v < tile."""

        def codegen(context, builder, signature, args):
            matrix, row, last_row, column, columns, lanes, lane_row, lane = args
            target, source = signature.args[0], signature.args[5]
            size = _tile(source)
            kind, wanted = _vector(source, size), _vector(target, size)
            mask, nowhere = (
                _column_mask(builder, columns, size),
                ir.Constant(ir.VectorType(ir.IntType(1), size), [0] * size),
            )
            letter = "i" if target.dtype == types.int64 else "f"
            name = f"llvm.masked.store.v{size}{letter}{target.dtype.bitwidth}.p0"
            vectors = []
            for v in range(size):
                at = builder.add(lane_row, INTP(v))
                pointer = _pointer(context, builder, source, lanes, at, lane, size)
                vectors.append(builder.load(pointer, align=source.dtype.bitwidth // 8, typ=kind))
            for r, vector in enumerate(_transposed(builder, vectors)):
                at = builder.add(row, INTP(r))
                pointer = _pointer(context, builder, target, matrix, at, column, size)
                row_mask = mask
                if not every_row:
                    row_mask = builder.select(builder.icmp_signed("<=", at, last_row), mask, nowhere)
                arguments = [_converted(builder, vector, wanted), pointer, _align(target), row_mask]
                _call(builder, name, ir.VoidType(), arguments)
            return context.get_dummy_value()

        return types.void(matrix, *[types.intp] * 4, lanes, *[types.intp] * 2), codegen

    return write_tile


_write_whole_tile, _write_some_rows = _write_tile(True), _write_tile(False)


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
    tile = tile_of(lanes)
    for lane in range(0, lanes.shape[1], tile):
        for first in range(0, columns, tile):
            width = min(tile, columns - first)
            if columns >= LONG:
                for r in range(row + lane, row + lane + tile):
                    _prefetch_to_read(matrix, min(r, last_row), column + first + AHEAD)
            read_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)


@lane_function
def write_columns(matrix, row, last_row, column, columns, lanes, lane_row):
    """Rows of lanes into columns of a matrix, a row of the matrix from each lane, up to its last row."""
    tile = tile_of(lanes)
    for lane in range(0, lanes.shape[1], tile):
        for first in range(0, columns, tile):
            width = min(tile, columns - first)
            if columns >= LONG:
                for r in range(row + lane, row + lane + tile):
                    _prefetch_to_write(matrix, min(r, last_row), column + first + AHEAD)
            # To ask for each row whether it is one takes as many instructions as the transposition.
            if row + lane + tile - 1 <= last_row:
                _write_whole_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)
            else:
                _write_some_rows(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)


@lane_function
def prefetch_share(matrix, row, columns, part, to_write):
    """Bring the lines near that many rows from ``row`` on have for each part, of as many columns as a part has.

    So all parts together are all of whole rows, one after the other in memory.
    """
    if row < len(matrix):
        for first in range(part * columns, (part + 1) * columns, TILE):
            if to_write:
                _prefetch_to_write(matrix, row, first)
            else:
                _prefetch_to_read(matrix, row, first)


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
