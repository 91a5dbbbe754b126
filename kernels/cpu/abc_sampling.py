"""Fused sampling from the prior: draw, score by constraints and histogram, a block of samples at a time.

A value is a bit of a uint16, so that the values of a constraint are all different where no bit is met twice. The
samples of a block live in the cache and nowhere else.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import (
    INTEGER_LANES,
    add_where_bit,
    add_where_equal,
    filled,
    load,
    store,
    sum_lanes,
    where_equal,
    where_greater,
)
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.philox import philox

BLOCK = 256
COUNT, WEIGH = 1, 2
U16, U64, MASK = np.uint16, np.uint64, np.uint64(0xFFFFFFFF)


def draw(thresholds: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Tensor:
    """int64 [n_samples, batch, N]: see ``emnesy_gpu.reference.abc_sampling``."""
    batch, n, _ = thresholds.shape
    z = torch.empty(n_samples, batch, n, dtype=torch.int64)
    arrays = thresholds.numpy(), z.numpy()

    def some_rows(first: int, last: int) -> None:
        draw_rows(*arrays, first, last, U64(seed), first_row, first_sample)

    for_rows(some_rows, batch, 1, n_samples * n * 2.0)
    return z


def weigh(
    thresholds: Tensor,
    weights: Tensor,
    work: Tensor,
    constraints: Tensor,
    incident: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> tuple[Tensor, Tensor]:
    """Counts and weighted histogram: see ``emnesy_gpu.reference.abc_sampling``."""
    batch, n, k = thresholds.shape[0], thresholds.shape[1], thresholds.shape[2] + 1
    counts = torch.zeros(weights.shape, dtype=torch.int64)
    histogram = torch.zeros(batch, n, k, dtype=torch.int64)
    arrays = [tensor.numpy() for tensor in (thresholds, weights, work, constraints, counts, histogram)]
    local = incident.shape[1] > 0

    def some_rows(first: int, last: int) -> None:
        weigh_rows(*arrays, local, first, last, n_samples, U64(seed), first_row, first_sample)

    for_rows(some_rows, batch, 1, n_samples * n * 2.0)
    return counts, histogram


@lane_function
def draw_words(position, first_sample, row, seed, words):
    """Four words less their lowest bit for each sample of a block: int32 [4, BLOCK]."""
    low, high = row & MASK, row >> U64(32)
    for lane in range(BLOCK):
        a, b, c, d = philox(U64(position), U64(first_sample + lane), low, high, seed)
        words[0, lane] = a >> U64(1)
        words[1, lane] = b >> U64(1)
        words[2, lane] = c >> U64(1)
        words[3, lane] = d >> U64(1)


@lane_function
def draw_bits(thresholds, words, first_sample, row, seed, bits):
    """bits[i, lane] = 1 << value of symbol i."""
    n, steps = thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        for lane in range(0, BLOCK, INTEGER_LANES):
            word = load(words, i % 4, lane)
            bit = filled(1)
            for v in range(steps):
                bit = where_greater(word, thresholds[i, v], np.int32(2 << v), bit)
            store(bits, i, lane, bit)


@lane_function
def satisfied_pair(first, second, holds, total):
    """holds[lane] = 1 where the values differ, else 0; added to the total."""
    for lane in range(BLOCK):
        holds[lane] = (first[lane] & second[lane]) == 0
        total[lane] += holds[lane]


@lane_function
def satisfied_group(members, bits, seen, twice, holds, total):
    """The same for any number of members, padded with -1, that must all differ."""
    for lane in range(BLOCK):
        seen[lane], twice[lane] = 0, 0
    for member in members:
        if member >= 0:
            bit = bits[member]
            for lane in range(BLOCK):
                twice[lane] |= seen[lane] & bit[lane]
                seen[lane] |= bit[lane]
    for lane in range(BLOCK):
        holds[lane] = twice[lane] == 0
        total[lane] += holds[lane]


@lane_function
def score_block(constraints, bits, local, last_column, scratch, score):
    """score[r, lane]: the column of row r that counts this sample."""
    total, holds, seen, twice = scratch[0], scratch[1], scratch[2], scratch[3]
    n_constraints, size = constraints.shape
    total[:] = 0
    score[:] = 0
    for index in range(n_constraints):
        members = constraints[index]
        if size == 2 and members[1] >= 0:
            satisfied_pair(bits[members[0]], bits[members[1]], holds, total)
        else:
            satisfied_group(members, bits, seen, twice, holds, total)
        for member in members:
            if local and member >= 0:
                touching = score[member]
                for lane in range(BLOCK):
                    touching[lane] += holds[lane]
    for row in range(len(score)):
        columns = score[row] if local else total
        for lane in range(BLOCK):
            score[row, lane] = U16(last_column) if total[lane] == n_constraints else columns[lane]


@lane_function
def count_block(score, n_lanes, counts):
    """One more sample in the column of each score; few columns are counted by lanes, many one sample at a time."""
    rows, width = counts.shape
    for row in range(rows):
        if width > 2 * BLOCK // INTEGER_LANES or n_lanes < BLOCK:
            for lane in range(n_lanes):
                counts[row, score[row, lane]] += 1
        else:
            for column in range(width):
                total = filled(0)
                for lane in range(0, BLOCK, INTEGER_LANES):
                    total = add_where_equal(total, load(score, row, lane), column, 1)
                counts[row, column] += sum_lanes(total)


@lane_function
def weight_lanes(weights, score, row, n_lanes, lanes):
    """lanes[0, lane] = weight of the sample by one row of scores, 0 from n_lanes on."""
    if len(weights) > BLOCK // INTEGER_LANES * 4:
        for lane in range(BLOCK):
            lanes[0, lane] = weights[score[row, lane]]
    else:
        for lane in range(0, BLOCK, INTEGER_LANES):
            total, column = filled(0), load(score, row, lane)
            for s in range(len(weights)):
                total = where_equal(column, s, weights[s], total)
            store(lanes, 0, lane, total)
    for lane in range(n_lanes, BLOCK):
        lanes[0, lane] = 0


@lane_function
def add_block(bits, lanes, symbol, histogram):
    """histogram[v] += the weights of the samples whose symbol has value v."""
    for v in range(len(histogram)):
        total = filled(0)
        for lane in range(0, BLOCK, INTEGER_LANES):
            total = add_where_bit(total, load(bits, symbol, lane), np.int32(1 << v), load(lanes, 0, lane))
        histogram[v] += sum_lanes(total)


@kernel
def weigh_rows(
    thresholds,
    weights,
    work,
    constraints,
    counts,
    histogram,
    local,
    first,
    last,
    n_samples,
    seed,
    first_row,
    first_sample,
):
    """Rows first .. last - 1, all samples of a row in turn."""
    _, n, _ = thresholds.shape
    rows, width = weights.shape[1:]
    words, bits = np.empty((4, BLOCK), np.int32), np.empty((n, BLOCK), U16)
    score, scratch, lanes = np.empty((rows, BLOCK), U16), np.empty((4, BLOCK), U16), np.empty((1, BLOCK), np.int32)
    for row in range(first, last):
        for start in range(0, n_samples if work[row] >= COUNT else 0, BLOCK):
            n_lanes = min(BLOCK, n_samples - start)
            draw_bits(thresholds[row], words, first_sample + start, U64(first_row + row), seed, bits)
            score_block(constraints, bits, local, width - 1, scratch, score)
            count_block(score, n_lanes, counts[row])
            if work[row] == WEIGH:
                for symbol in range(n):
                    if local or symbol == 0:
                        weight_lanes(weights[row, symbol if local else 0], score, symbol, n_lanes, lanes)
                    add_block(bits, lanes, symbol, histogram[row, symbol])


@lane_function
def draw_values(thresholds, words, first_sample, row, seed, values):
    """values[i, lane] = value of symbol i: int32 [N, BLOCK]."""
    n, steps = thresholds.shape
    for i in range(n):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        for lane in range(0, BLOCK, INTEGER_LANES):
            word, value = load(words, i % 4, lane), filled(0)
            for v in range(steps):
                value = where_greater(word, thresholds[i, v], np.int32(v + 1), value)
            store(values, i, lane, value)


@kernel
def draw_rows(thresholds, z, first, last, seed, first_row, first_sample):
    """Rows first .. last - 1 of z [n_samples, batch, N]."""
    n_samples, _, n = z.shape
    words, values = np.empty((4, BLOCK), np.int32), np.empty((n, BLOCK), np.int32)
    for row in range(first, last):
        for start in range(0, n_samples, BLOCK):
            draw_values(thresholds[row], words, first_sample + start, U64(first_row + row), seed, values)
            for lane in range(min(BLOCK, n_samples - start)):
                for i in range(n):
                    z[start + lane, row, i] = values[i, lane]
