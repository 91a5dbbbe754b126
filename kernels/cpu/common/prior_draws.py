"""Draws from the priors of symbols by integer thresholds, for a block of samples in integer lanes.

Symbol i of a sample takes word i % 4 of the Philox counter (i // 4, sample, row), less its lowest bit so that it is an
int32; its value is the number of thresholds below the word. So the same seed gives the same samples to the bit,
whatever the size of the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.integer_lanes import filled, where_greater
from emnesy_gpu.kernels.cpu.common.philox import philox_words

U64 = np.uint64


class Stream(NamedTuple):
    """Where the random numbers of a call begin."""

    seed: np.uint64
    first_row: int  # the number of row 0 of the batch
    first_sample: int


class Prior(NamedTuple):
    """The distribution that samples come from, and which of its samples they are."""

    thresholds: np.ndarray  # int32 [batch, N, K - 1]
    n_samples: int
    stream: Stream


def draw_words_of(samples: int) -> Callable[..., Any]:
    """A device function that draws the words of so many samples, a number known when it is compiled."""

    @lane_function
    def draw_words(position, first_sample, row, seed, words):
        """Four words less their lowest bit for each sample: int32 [4, samples]."""
        for lane in range(samples):
            a, b, c, d = philox_words(position, first_sample + lane, row, seed)
            words[0, lane] = a >> U64(1)
            words[1, lane] = b >> U64(1)
            words[2, lane] = c >> U64(1)
            words[3, lane] = d >> U64(1)

    return draw_words


@lane_function
def values_of(word, thresholds):
    """The value of a symbol in every lane, from lanes of words and its thresholds int32 [K - 1]."""
    value = filled(0)
    for v in range(len(thresholds)):
        value = where_greater(word, thresholds[v], np.int32(v + 1), value)
    return value
