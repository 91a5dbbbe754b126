"""Products and convolutions of float32 tables whose numbers lie in rows of the scratch, rows of the batch in lanes."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import filled, load, multiply_add, store

SUMS_AT_A_TIME = 5
"""Outputs of sliding_products: half the usual base."""


@lane_function
def inner_product(work, left, left_step, right, right_step, size):
    """Sum over i of row left + i left_step times row right + i right_step."""
    total = load(work, left) * load(work, right)
    for i in range(1, size):
        total = multiply_add(load(work, left + i * left_step), load(work, right + i * right_step), total)
    return total


@lane_function
def sliding_products(work, out, window, taps, tap_step, size):
    """Row out + t = sum over i of row window + t + i times row taps + i tap_step, for t < SUMS_AT_A_TIME."""
    total_0 = total_1 = total_2 = total_3 = total_4 = filled(work, 0.0)
    row_0, row_1 = load(work, window), load(work, window + 1)
    row_2, row_3 = load(work, window + 2), load(work, window + 3)
    for i in range(size):
        tap = load(work, taps + i * tap_step)
        row_4 = load(work, window + 4 + i)
        total_0 = multiply_add(row_0, tap, total_0)
        total_1 = multiply_add(row_1, tap, total_1)
        total_2 = multiply_add(row_2, tap, total_2)
        total_3 = multiply_add(row_3, tap, total_3)
        total_4 = multiply_add(row_4, tap, total_4)
        row_0, row_1, row_2, row_3 = row_1, row_2, row_3, row_4
    store(work, out, total_0)
    store(work, out + 1, total_1)
    store(work, out + 2, total_2)
    store(work, out + 3, total_3)
    store(work, out + 4, total_4)


@lane_function
def convolve(work, out, left, left_size, right, right_size):
    """Needs zeros in SUMS_AT_A_TIME - 1 rows before and behind right; overwrites as many rows behind out."""
    for u in range(0, left_size + right_size - 1, SUMS_AT_A_TIME):
        first, last = max(0, u - right_size + 1), min(u + SUMS_AT_A_TIME - 1, left_size - 1)
        sliding_products(work, out + u, right + u - last, left + last, -1, last - first + 1)


@lane_function
def correlate(work, out, out_size, left, right, right_size):
    """Reads SUMS_AT_A_TIME - 1 rows behind left, whatever they hold, and overwrites as many behind out."""
    for u in range(0, out_size, SUMS_AT_A_TIME):
        sliding_products(work, out + u, left + u, right, 1, right_size)
