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
    """Columns of a square of vectors, by log2(size) rounds.

    Squares as wide as a quarter of a vector are transposed first: numbers that stay in their quarter take shuffles of
    fewer cycles. Then the quarters change places as the numbers of a 4 x 4 matrix.
    """
    size = len(vectors)
    quarter = size // 4
    starts = range(0, size, quarter)
    first, second = (
        [start + part * quarter // 2 + i // 2 + size * (i % 2) for start in starts for i in range(quarter)]
        for part in range(2)
    )
    even, odd = (
        [start + i for start in range(begin, 2 * size, 2 * quarter) for i in range(quarter)] for begin in (0, quarter)
    )
    squares = [vectors[start : start + quarter] for start in starts]
    for _ in range(quarter.bit_length() - 1):
        squares = [_interleaved(builder, square, first, second) for square in squares]
    columns = [list(quarters) for quarters in zip(*squares, strict=True)]
    for _ in range(2):
        columns = [_parted(builder, quarters, even, odd) for quarters in columns]
    return [vector for together in zip(*columns, strict=True) for vector in together]


def _shuffled(builder, low, high, order: list[int]):
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(INDEX, len(order)), order))


def _interleaved(builder, vectors: list, first: list[int], second: list[int]) -> list:
    """Both orders of each vector of the first half and one of the second."""
    half = len(vectors) // 2
    pairs = zip(vectors[:half], vectors[half:], strict=True)
    return [_shuffled(builder, low, high, order) for low, high in pairs for order in (first, second)]


def _parted(builder, vectors: list, even: list[int], odd: list[int]) -> list:
    """One order of all pairs of neighbours, then the other."""
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    return [_shuffled(builder, low, high, order) for order in (even, odd) for low, high in pairs]


def _rows(context, builder, typed_array, row, column, size: int, last_row=None) -> list:
    """Addresses of array[row + r, column] for r < size; past the last row, if it is given, that of the last one."""
    kind, array = typed_array
    vector = _vector(kind, size)
    if last_row is not None:
        rows = [builder.add(row, INTP(r)) for r in range(size)]
        rows = [builder.select(builder.icmp_signed("<", at, last_row), at, last_row) for at in rows]
        return [vector_pointer_2d(context, builder, typed_array, at, column, vector) for at in rows]
    # A product for each row would take longer than the transposition.
    stride = builder.extract_value(context.make_array(kind)(context, builder, array).strides, 0)
    first = vector_pointer_2d(context, builder, typed_array, row, column, vector)
    addresses = [builder.bitcast(first, ir.IntType(8).as_pointer())]
    while len(addresses) < size:
        addresses.append(builder.gep(addresses[-1], [stride]))
    return [builder.bitcast(address, vector.as_pointer()) for address in addresses]


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


def _read_tile(every_row: bool):
    """The function that reads a tile whose rows all exist, or one whose rows past the last one are that again."""

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
            clamp = None if every_row else last_row
            vectors = [
                _converted(builder, _call(builder, name, kind, [pointer, _align(source), mask, zeros]), wanted)
                for pointer in _rows(context, builder, (source, matrix), row, column, size, clamp)
            ]
            targets = _rows(context, builder, (target, lanes), lane_row, lane, size)
            for vector, pointer in zip(_transposed(builder, vectors), targets, strict=True):
                builder.store(vector, pointer, align=target.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(matrix, *[types.intp] * 4, lanes, *[types.intp] * 2), codegen

    return read_tile


_read_whole_tile, _read_some_rows = _read_tile(True), _read_tile(False)


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
            vectors = [
                builder.load(pointer, align=source.dtype.bitwidth // 8, typ=kind)
                for pointer in _rows(context, builder, (source, lanes), lane_row, lane, size)
            ]
            targets = _rows(context, builder, (target, matrix), row, column, size)
            for r, (vector, pointer) in enumerate(zip(_transposed(builder, vectors), targets, strict=True)):
                at = builder.add(row, INTP(r))
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
            (kind, *_), (matrix, row, column) = signature.args, args
            pointer = vector_pointer_2d(context, builder, (kind, matrix), row, column, _vector(kind, 1))
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
    # A loop of its own: the compiler computes the addresses of all rows that a loop may prefetch before it starts.
    if columns < LONG and row + lanes.shape[1] - 1 <= last_row:
        for lane in range(0, lanes.shape[1], tile):
            for first in range(0, columns, tile):
                width = min(tile, columns - first)
                _read_whole_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)
        return
    for lane in range(0, lanes.shape[1], tile):
        for first in range(0, columns, tile):
            width = min(tile, columns - first)
            if columns >= LONG:
                for r in range(row + lane, row + lane + tile):
                    _prefetch_to_read(matrix, min(r, last_row), column + first + AHEAD)
            _read_some_rows(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)


@lane_function
def write_columns(matrix, row, last_row, column, columns, lanes, lane_row):
    """Rows of lanes into columns of a matrix, a row of the matrix from each lane, up to its last row."""
    tile = tile_of(lanes)
    # A loop of its own, as there.
    if columns < LONG and row + lanes.shape[1] - 1 <= last_row:
        for lane in range(0, lanes.shape[1], tile):
            for first in range(0, columns, tile):
                width = min(tile, columns - first)
                _write_whole_tile(matrix, row + lane, last_row, column + first, width, lanes, lane_row + first, lane)
        return
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
