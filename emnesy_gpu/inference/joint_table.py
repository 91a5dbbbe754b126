"""Exact inference over a table of all assignments, for problems that are small enough to try them all.

An assignment z of symbols with k_1, ..., k_n values is counted in lexicographic order: the last symbol is the fastest.
A table over all of them, [batch, k_1 * ... * k_n], is also a tensor with one axis a symbol. So log priors add up by
broadcasting, one symbol at a time, and marginals are sums over axes. Everything is float64, and every step treats rows
alike, so that a row has the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, float64

from emnesy_gpu.kernels.joint_tables import left_symbols
from emnesy_gpu.philox import MASK, philox_words

NEG_INF = float("-inf")


def assignments(sizes: Sequence[int], device: torch.device) -> Tensor:
    """All assignments, int64 [prod(sizes), n], in lexicographic order."""
    return values_of(torch.arange(prod(sizes), device=device), sizes)


def values_of(index: Tensor, sizes: Sequence[int]) -> Tensor:
    """The assignment [..., n] at each index [...]."""
    columns = []
    for size in reversed(sizes):
        columns.append(index % size)
        index = index // size
    return torch.stack(columns[::-1], -1)


def index_of(z: Tensor, sizes: Sequence[int]) -> Tensor:
    """The index [...] of each assignment int64 [..., n]."""
    index = torch.zeros_like(z[..., 0])
    for i, size in enumerate(sizes):
        index = index * size + z[..., i]
    return index


class Scores(NamedTuple):
    """Scores of the values of symbols for a few rows, relative to the best value of each symbol.

    by_value: float64 [rows, n, K], logit - largest logit of the symbol.
    log_total: float64 [rows, n], the log of the sum of exp(score) over the values of a symbol.
    """

    by_value: Tensor
    log_total: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Scores:
        """From logits float64 [rows, n, K]."""
        by_value = logits - logits.amax(-1, keepdim=True)
        return cls(by_value, by_value.exp().sum(-1).log())

    @property
    def prior(self) -> Tensor:
        """softmax(logits), [rows, n, K]."""
        return (self.by_value - self.log_total[:, :, None]).exp()


class Joint(NamedTuple):
    """The joint distribution of symbols and label for a few rows.

    weights: float64 [rows, M], p(z, y) relative to the largest one of the row; 0 where the label of z differs.
    log_best: float64 [rows], the log of that largest one; -inf where the label is impossible.
    """

    weights: Tensor
    log_best: Tensor


def log_joint(scores: Scores, sizes: Sequence[int], has_label: Tensor) -> Tensor:
    """Scores of assignments [rows, M], -inf where has_label, bool [rows, M], is not set.

    The score of an assignment is that of its left plus that of its right symbols (``kernels.joint_tables``), each a sum
    in the order of the symbols: the same bits on every back end.
    """
    first, sides = left_symbols(sizes), []
    for symbols in (range(first), range(first, len(sizes))):
        table = scores.by_value.new_zeros(len(scores.by_value), 1)
        for i in symbols:
            table = (table[:, :, None] + scores.by_value[:, i, None, : sizes[i]]).flatten(1)
        sides.append(table)
    return (sides[0][:, :, None] + sides[1][:, None]).flatten(1).masked_fill_(~has_label, NEG_INF)


def joint(scores: Scores, sizes: Sequence[int], has_label: Tensor) -> Joint:
    """From the scores of values and the assignments that have the label, bool [rows, M]."""
    table = log_joint(scores, sizes, has_label)
    log_best = table.amax(1)
    weights = table.sub_(log_best.clamp_min(torch.finfo(float64).min)[:, None]).exp_()
    return Joint(weights, log_best - scores.log_total.sum(1))


def marginals(weights: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Sums of weights [rows, M] by the value of each symbol: n tensors [rows, k_i]."""
    found = []
    for i, size in enumerate(sizes):
        by_value = weights.view(len(weights), size, weights.shape[1] // size)
        found.append(by_value.sum(-1))
        if i + 1 < len(sizes):
            weights = by_value[:, 0].clone()
            for v in range(1, size):  # value by value: the order of additions does not depend on the batch
                weights += by_value[:, v]
    return found


def posterior(logits: Tensor, sizes: Sequence[int], has_label: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals float64 [rows, n, K], the prior where the label is impossible, and log evidence [rows], -inf there.

    logits: float64 [rows, n, K], -inf for values that a symbol does not have.
    """
    scores = Scores.of(logits)
    table = joint(scores, sizes, has_label)
    found = torch.zeros_like(logits)
    for i, column in enumerate(marginals(table.weights, sizes)):
        found[:, i, : sizes[i]] = column / column.sum(1, keepdim=True)
        if i == 0:
            log_evidence = table.log_best + column.sum(1).log()
    possible = table.log_best > NEG_INF
    return torch.where(possible[:, None, None], found, scores.prior), log_evidence.masked_fill(~possible, NEG_INF)


def most_probable(logits: Tensor, sizes: Sequence[int], has_label: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the most probable assignments with the label, int64 [rows, n], and its log prior [rows].

    Where the label is impossible: the first best value of every symbol, and -inf.
    """
    scores = Scores.of(logits)
    table = log_joint(scores, sizes, has_label)
    index = table.argmax(1)
    best, score = values_of(index, sizes), table.gather(1, index[:, None])[:, 0]
    possible = score > NEG_INF
    return torch.where(possible[:, None], best, logits.argmax(-1)), score - scores.log_total.sum(1)


def sample(
    logits: Tensor, sizes: Sequence[int], has_label: Tensor, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """Independent samples int64 [n_samples, rows, n], by the rule of ``reference.enumeration.sample``.

    Sample t of row r takes the first word u of the Philox counter (0, t, first_row + r): the first assignment whose
    running sum of weights exceeds u times their total. Where the label is impossible, symbol i is drawn from its prior
    in the same way, with counter (i, t, first_row + r).
    """
    scores = Scores.of(logits)
    table = joint(scores, sizes, has_label)
    words = uniforms(len(sizes), n_samples, len(logits), seed, first_row, logits.device)
    drawn = values_of(first_above(table.weights, words[0]), sizes)
    prior = scores.prior
    by_prior = torch.stack([first_above(prior[:, i], words[i]) for i in range(len(sizes))], -1)
    return torch.where((table.log_best > NEG_INF)[:, None, None], drawn, by_prior).movedim(1, 0)


def uniforms(n: int, n_samples: int, rows: int, seed: int, first_row: int, device: torch.device) -> Tensor:
    """Uniforms in (0, 1), float64 [n, rows, n_samples]."""
    row = (torch.arange(rows, device=device) + first_row)[:, None]
    counter = torch.arange(n, device=device)[:, None, None], torch.arange(n_samples, device=device), row & MASK
    words = philox_words(torch.broadcast_tensors(*counter, row >> 32), seed)
    return (words[0] + 0.5) * 2.0**-32


def first_above(weights: Tensor, uniforms: Tensor) -> Tensor:
    """For uniforms [rows, S] the first index whose running sum of weights [rows, M] exceeds uniform * total."""
    running = weights.cumsum(1)
    found = torch.searchsorted(running, uniforms * running[:, -1:], right=True)
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(1)
    return torch.minimum(found, last[:, None])
