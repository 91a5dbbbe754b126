"""Tables of all assignments, each with the code of its label, and how kernels count assignments."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from torch import Tensor

MOST_LABELS = 1 << 16
"""Labels that kernels find in two steps, of 256 labels each."""


class JointTable(NamedTuple):
    """The labels of all assignments, M = left * right of them, in lexicographic order: the last symbol is the fastest.

    The first n_left symbols are the left side of an assignment and the others its right side: assignment m has number
    m // right among the left sides, and m % right among the right ones. So a kernel scores left + right sides, not M
    assignments.

    symbols: int32 [n, 2], the number of values of each symbol, and its stride in the numbers of its side.
    codes: uint8, int16 or int32 [M], for each assignment the row of ``known`` that is its label; or, if ``known`` has
        no rows, integers or bool [M, batch], the score of each assignment given the label of each row of the batch.
    known: int64 [L, entries], the different labels in lexicographic order, at most MOST_LABELS.
    least_score: assignments with this score or a larger one have the label; of no account where labels are known.
    """

    symbols: Tensor
    codes: Tensor
    known: Tensor
    n_left: int
    left: int
    right: int
    least_score: int = 1


def left_symbols(sizes: Sequence[int]) -> int:
    """How many symbols are the left side: as many as make both sides together smallest.

    >>> left_symbols([2, 2, 2, 2]), left_symbols([9]), left_symbols([3, 40])
    (2, 0, 1)
    """
    return min(range(len(sizes)), key=lambda first: prod(sizes[:first]) + prod(sizes[first:]))


def sizes_and_strides(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Of each symbol the number of values, and how far apart its values are in the numbers of its side.

    >>> sizes_and_strides([2, 3, 4, 5])
    [(2, 3), (3, 1), (4, 5), (5, 1)]
    """
    first = left_symbols(sizes)
    return [(size, prod(sizes[i + 1 : first if i < first else len(sizes)])) for i, size in enumerate(sizes)]
