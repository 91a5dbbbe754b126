"""Columns of a matrix of rows into lanes and back: by tiles in float32, number by number in float64."""

from __future__ import annotations

from numba import types
from numba.extending import overload

from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns


def columns_to_lanes(matrix, rows, columns, work, row):
    """work[row + v, lane] = matrix[rows[0] + lane, columns[0] + v]; lanes to spare repeat the last of the rows.

    rows and columns: first and one past the last. Whole tiles of 16 rows of work are overwritten.
    """


def lanes_to_columns(matrix, rows, columns, work, row):
    """The other way round."""


@overload(columns_to_lanes)
def _columns_to_lanes(matrix, rows, columns, work, row):
    def by_tiles(matrix, rows, columns, work, row):
        read_columns(matrix, rows[0], rows[1] - 1, columns[0], columns[1] - columns[0], work, row)

    def by_numbers(matrix, rows, columns, work, row):
        for lane in range(work.shape[1]):
            source = matrix[min(rows[0] + lane, rows[1] - 1)]
            for v in range(columns[0], columns[1]):
                work[row + v - columns[0], lane] = source[v]

    return by_tiles if matrix.dtype == types.float32 else by_numbers


@overload(lanes_to_columns)
def _lanes_to_columns(matrix, rows, columns, work, row):
    def by_tiles(matrix, rows, columns, work, row):
        write_columns(matrix, rows[0], rows[1] - 1, columns[0], columns[1] - columns[0], work, row)

    def by_numbers(matrix, rows, columns, work, row):
        for lane in range(rows[1] - rows[0]):
            target = matrix[rows[0] + lane]
            for v in range(columns[0], columns[1]):
                target[v] = work[row + v - columns[0], lane]

    return by_tiles if matrix.dtype == types.float32 else by_numbers
