"""Samples of the prior, a block at a time: drawn, scored by constraints, counted and weighed.

A value is a bit of a uint16, so that the values of a constraint are all different where no bit is met twice. The
samples of a block live in the cache and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
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
from emnesy_gpu.kernels.cpu.common.prior_draws import draw_words_of, values_of

BLOCK = 256
"""Samples of a row that are drawn and scored together."""

U16 = np.uint16

draw_words = draw_words_of(BLOCK)


class Scoring(NamedTuple):
    """What samples are scored by."""

    constraints: np.ndarray  # int32 [n_constraints, members], padded with -1: the members must all differ
    weights: np.ndarray  # int32 [rows of scores, columns]
    local: bool  # a row of scores for each symbol, from its own constraints; otherwise one for all of them


class Workspace(NamedTuple):
    """The scratch arrays of a block of samples."""

    words: np.ndarray  # int32 [4, BLOCK]
    bits: np.ndarray  # uint16 [N, BLOCK]: 1 << value
    score: np.ndarray  # uint16 [rows of scores, BLOCK]: column of each sample
    checks: np.ndarray  # uint16 [4, BLOCK]: total, holds, seen, twice
    lanes: np.ndarray  # int32 [1, BLOCK]: weights


@lane_function
def empty_workspace(n, rows):
    """For n symbols and so many rows of scores; whatever lanes beyond the samples hold is not counted."""
    return Workspace(
        np.empty((4, BLOCK), np.int32),
        np.zeros((n, BLOCK), U16),
        np.empty((rows, BLOCK), U16),
        np.empty((4, BLOCK), U16),
        np.empty((1, BLOCK), np.int32),
    )


def draw_bits_of(samples: int) -> Callable[..., Any]:
    """A device function that draws so many samples, a number known when it is compiled."""
    draw_own_words = draw_words_of(samples)

    @lane_function
    def draw_bits(thresholds, words, first_sample, row, seed, bits, column):
        """bits[i, column + lane] = 1 << value of symbol i in sample first_sample + column + lane: uint16 [N, BLOCK]."""
        n, steps = thresholds.shape
        for i in range(n):
            if i % 4 == 0:
                draw_own_words(i // 4, first_sample + column, row, seed, words)
            for lane in range(0, samples, INTEGER_LANES):
                word = load(words, i % 4, lane)
                bit = filled(1)
                for v in range(steps):
                    bit = where_greater(word, thresholds[i, v], np.int32(2 << v), bit)
                store(bits, i, column + lane, bit)

    return draw_bits


draw_block, draw_lanes = draw_bits_of(BLOCK), draw_bits_of(INTEGER_LANES)


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
    constraints, local, last_column = scoring.constraints, scoring.local, scoring.weights.shape[1] - 1
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
def weigh_block(scoring, n_lanes, workspace, histogram):
    """histogram[i, v] += the weights of the samples whose symbol i has value v."""
    for symbol in range(len(histogram)):
        if scoring.local or symbol == 0:
            row = symbol if scoring.local else 0
            weight_lanes(scoring.weights[row], workspace.score, row, n_lanes, workspace.lanes)
        add_block(workspace.bits, workspace.lanes, symbol, histogram[symbol])


@lane_function
def weigh_samples(thresholds, n_samples, stream, scoring, workspace, to_weigh, counts, histogram):
    """Count the samples of a row by score and, to_weigh, add their weights up by value; both begin at 0.

    stream: the seed, the number of the row, and the first sample.
    """
    seed, row, first_sample = stream
    counts[:] = 0
    histogram[:] = 0
    for start in range(0, n_samples, BLOCK):
        n_lanes = min(BLOCK, n_samples - start)
        if n_lanes == BLOCK:
            draw_block(thresholds, workspace.words, first_sample + start, row, seed, workspace.bits, 0)
        else:
            for lane in range(0, n_lanes, INTEGER_LANES):
                draw_lanes(thresholds, workspace.words, first_sample + start, row, seed, workspace.bits, lane)
        score_block(scoring, workspace)
        count_block(workspace.score, n_lanes, counts)
        if to_weigh:
            weigh_block(scoring, n_lanes, workspace, histogram)


@lane_function
def draw_values(thresholds, words, first_sample, row, seed, values):
    """values[i, lane] = value of symbol i: int32 [N, BLOCK]."""
    for i in range(len(thresholds)):
        if i % 4 == 0:
            draw_words(i // 4, first_sample, row, seed, words)
        for lane in range(0, BLOCK, INTEGER_LANES):
            store(values, i, lane, values_of(load(words, i % 4, lane), thresholds[i]))
