"""Fused sampling from the prior: draw, score by constraints and histogram, a block of samples at a time.

A value is a bit of a uint16, so that the values of a constraint are all different where no bit is met twice. The
samples of a block live in the cache and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

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
from emnesy_gpu.kernels.cpu.common.prior_draws import Prior, Stream, draw_words_of, values_of

BLOCK = 256
"""Samples of a row that are drawn and scored together."""

COUNT, WEIGH = 1, 2
"""What a row asks for: counts of scores, or those and the weighted histogram; 0 for nothing."""

U16 = np.uint16

draw_words = draw_words_of(BLOCK)


class Scoring(NamedTuple):
    """What samples are scored by."""

    constraints: np.ndarray  # int32 [n_constraints, members], padded with -1: the members must all differ
    weights: np.ndarray  # int32 [batch, rows of scores, columns]
    local: bool  # a row of scores for each symbol, from its own constraints; otherwise one for all of them


class Sums(NamedTuple):
    """What is counted."""

    counts: np.ndarray  # int64 [batch, rows of scores, columns]
    histogram: np.ndarray  # int64 [batch, N, K]


class Workspace(NamedTuple):
    """The scratch arrays of a block of samples."""

    words: np.ndarray  # int32 [4, BLOCK]
    bits: np.ndarray  # uint16 [N, BLOCK]: 1 << value
    score: np.ndarray  # uint16 [rows of scores, BLOCK]: column of each sample
    checks: np.ndarray  # uint16 [4, BLOCK]: total, holds, seen, twice
    lanes: np.ndarray  # int32 [1, BLOCK]: weights


def draw(thresholds: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Tensor:
    """int64 [n_samples, batch, N]: see ``emnesy_gpu.reference.abc_sampling``."""
    batch, n, _ = thresholds.shape
    z = torch.empty(n_samples, batch, n, dtype=torch.int64, device="cpu")
    arrays, stream = (thresholds.numpy(), z.numpy()), Stream(np.uint64(seed), first_row, first_sample)

    def some_rows(first: int, last: int) -> None:
        draw_rows(*arrays, stream, first, last)

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
    counts = torch.zeros(weights.shape, dtype=torch.int64, device="cpu")
    histogram = torch.zeros(batch, n, k, dtype=torch.int64, device="cpu")
    prior = Prior(thresholds.numpy(), n_samples, Stream(np.uint64(seed), first_row, first_sample))
    scoring = Scoring(constraints.numpy(), weights.numpy(), incident.shape[1] > 0)
    sums, what = Sums(counts.numpy(), histogram.numpy()), work.numpy()

    def some_rows(first: int, last: int) -> None:
        weigh_rows(prior, scoring, what, sums, first, last)

    for_rows(some_rows, batch, 1, n_samples * n * 2.0)
    return counts, histogram


@lane_function
def draw_bits(thresholds, words, first_sample, row, seed, bits):
    """bits[i, lane] = 1 << value of symbol i: uint16 [N, BLOCK]."""
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
def score_block(scoring, workspace):
    """score[r, lane]: the column of row r that counts this sample, the last one where all constraints hold."""
    constraints, local, last_column = scoring.constraints, scoring.local, scoring.weights.shape[2] - 1
    bits, score, checks = workspace.bits, workspace.score, workspace.checks
    total, holds, seen, twice = checks[0], checks[1], checks[2], checks[3]
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


@lane_function
def weigh_block(weights, local, n_lanes, workspace, histogram):
    """histogram[i, v] += the weights of the samples whose symbol i has value v."""
    for symbol in range(len(histogram)):
        if local or symbol == 0:
            weight_lanes(weights[symbol if local else 0], workspace.score, symbol, n_lanes, workspace.lanes)
        add_block(workspace.bits, workspace.lanes, symbol, histogram[symbol])


@kernel
def weigh_rows(prior, scoring, work, sums, first, last):
    """Rows first .. last - 1, all samples of a row in turn; work: uint8 [batch]."""
    n, rows = prior.thresholds.shape[1], scoring.weights.shape[1]
    seed, first_row, first_sample = prior.stream
    workspace = Workspace(
        np.empty((4, BLOCK), np.int32),
        np.empty((n, BLOCK), U16),
        np.empty((rows, BLOCK), U16),
        np.empty((4, BLOCK), U16),
        np.empty((1, BLOCK), np.int32),
    )
    for row in range(first, last):
        thresholds, weights = prior.thresholds[row], scoring.weights[row]
        for start in range(0, prior.n_samples if work[row] >= COUNT else 0, BLOCK):
            n_lanes = min(BLOCK, prior.n_samples - start)
            draw_bits(thresholds, workspace.words, first_sample + start, first_row + row, seed, workspace.bits)
            score_block(scoring, workspace)
            count_block(workspace.score, n_lanes, sums.counts[row])
            if work[row] == WEIGH:
                weigh_block(weights, scoring.local, n_lanes, workspace, sums.histogram[row])


@lane_function
def draw_values(thresholds, words, first_sample, row, seed, values):
    """values[i, lane] = value of symbol i: int32 [N, BLOCK]."""
    for i in range(len(thresholds)):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        for lane in range(0, BLOCK, INTEGER_LANES):
            store(values, i, lane, values_of(load(words, i % 4, lane), thresholds[i]))


@kernel
def draw_rows(thresholds, z, stream, first, last):
    """Rows first .. last - 1 of z [n_samples, batch, N]."""
    n_samples, _, n = z.shape
    seed, first_row, first_sample = stream
    words, values = np.empty((4, BLOCK), np.int32), np.empty((n, BLOCK), np.int32)
    for row in range(first, last):
        for start in range(0, n_samples, BLOCK):
            draw_values(thresholds[row], words, first_sample + start, first_row + row, seed, values)
            for lane in range(min(BLOCK, n_samples - start)):
                for i in range(n):
                    z[start + lane, row, i] = values[i, lane]
