"""Posteriors by weighted samples, for any problem that counts the constraints that a sample satisfies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.inference import importance
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import Marginals, Weighted
from emnesy_gpu.inference.settings import SamplingSettings
from emnesy_gpu.kernels.status import POSSIBLE

SYMBOLS_AT_A_TIME = 1 << 18
"""Symbols that are drawn at a time, at most, to bound the memory."""

COUNTS_AT_A_TIME = 1 << 22
"""Entries of the histograms that are held at a time, at most, to bound the memory."""

Satisfied = Callable[[Tensor, Tensor], Tensor]
"""A score: (z int64 [samples, batch, *latent_shape], label [batch, *label_shape]) -> integers [samples, batch]."""

DrawAndCount = Callable[[Tensor, Tensor, int, int, int], Tensor]
"""A function that draws and counts samples in one kernel.

(logits, label, samples, seed, first row) -> int64 [batch, n_constraints + 1, N, K], samples by score and by value.
"""


class Score(NamedTuple):
    """The score of a problem, which counts how many of ``n_constraints`` constraints an assignment satisfies.

    draw_and_count: draws and counts samples in one kernel; None where there is no such kernel.
    """

    satisfied: Satisfied
    n_constraints: int
    draw_and_count: DrawAndCount | None = None


def weighted_marginals(
    logits: Tensor,
    label: Tensor,
    settings: SamplingSettings,
    score: Score,
    exact_rows: Tensor | None = None,
) -> Weighted:
    """Self-normalised marginals from samples of the prior, weighted by the number of satisfied constraints.

    Samples are counted by score and value, so that each is evaluated once, whatever the weights. Memory: that of
    SYMBOLS_AT_A_TIME symbols and COUNTS_AT_A_TIME counts, and the result.

    exact_rows: bool [batch], the rows in which only samples that satisfy all constraints have a weight; None for none.
    """
    exact = torch.zeros_like(logits[..., 0], dtype=torch.bool).flatten(1).any(1) if exact_rows is None else exact_rows
    size = (score.n_constraints + 1) * logits[0].numel() if len(logits) else 1
    step = max(1, min(COUNTS_AT_A_TIME // size, SYMBOLS_AT_A_TIME))
    parts = []
    for row in range(0, max(len(logits), 1), step):
        part = slice(row, row + step)
        histogram = _histogram(logits[part], label[part], settings, score, settings.first_row + row)
        parts.append(_posterior(logits[part], exact[part], histogram, settings, score.n_constraints))
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return Weighted(Marginals(*columns[:3]), *columns[3:])


def _posterior(
    logits: Tensor, exact: Tensor, histogram: Tensor, settings: SamplingSettings, n_constraints: int
) -> tuple[Tensor, ...]:
    """The fields of ``Marginals`` and ``Weighted`` for some rows, from their histogram."""
    counts = histogram[..., 0, :].sum(-1)[:, None]
    totals = constant((n_constraints,), torch.int64, logits.device)
    exponents, only_all = (
        importance.exponents(weighting, totals, n_constraints + 1)
        for weighting in (settings.weighting or "fraction", "exact")
    )
    exponents = torch.where(exact[:, None, None], only_all, exponents)
    sharpness = torch.full(counts.shape[:1], settings.sharpness, dtype=torch.float64, device=logits.device)
    if settings.target_ess is not None:
        sharpness = importance.sharpness_for(exponents, counts, settings.target_ess)
    log_weights = importance.log_weights(exponents, sharpness)
    weights = importance.relative_weights(log_weights, importance.best_seen(log_weights, counts))[:, 0]
    weighted = torch.einsum("bs,bsnk->bnk", weights, histogram.double())
    ess, log_evidence = importance.evidence(log_weights, counts)
    status = torch.full(counts.shape[:1], POSSIBLE, dtype=torch.uint8, device=logits.device)
    marginals, log_evidence, status = importance.weighted_posterior(logits, weighted, log_evidence, status)
    acceptance = counts[:, 0, -1].double() / settings.samples
    dtype = log_evidence.dtype
    return marginals, log_evidence, status == POSSIBLE, ess.to(dtype), sharpness.to(dtype), acceptance.to(dtype)


def _histogram(logits: Tensor, label: Tensor, settings: SamplingSettings, score: Score, first_row: int) -> Tensor:
    """Samples counted by score and by the value of each symbol, int64 [batch, n_constraints + 1, N, K]."""
    if score.draw_and_count is not None:
        return score.draw_and_count(logits, label, settings.samples, settings.seed, first_row)
    batch, cardinality, n_scores = len(logits), logits.shape[-1], score.n_constraints + 1
    n = logits[0].numel() // cardinality if batch else 1
    histogram = torch.zeros(batch, n_scores * n * cardinality, dtype=torch.int64, device=logits.device)
    first_of_symbol = torch.arange(0, n * cardinality, cardinality, device=logits.device)
    for first, count in _parts(settings.samples, max(1, SYMBOLS_AT_A_TIME // max(1, batch * n))):
        # The operator is called by its name, because its module imports this package.
        z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, count, settings.seed, first_row, first)
        satisfied = checked_score(score.satisfied(z, label), z, score.n_constraints)
        index = satisfied[..., None] * (n * cardinality) + first_of_symbol + z.flatten(2)
        index = index.movedim(0, 1).flatten(1)
        histogram.scatter_add_(1, index, torch.ones_like(index))
    return histogram.view(batch, n_scores, n, cardinality)


def _parts(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the first index and the length of each part."""
    for first in range(0, total, step):
        yield first, min(step, total - first)


def checked_score(score: Tensor, z: Tensor, n_constraints: int) -> Tensor:
    """Return the score as int64 in 0..n_constraints.

    Raises TypeError or ValueError if it is no count of constraints [samples, batch]. On a GPU the range is not
    checked, which would synchronise, but values are clamped to it.
    """
    checks.is_tensor("score(z, label)", score)
    checks.has_dtype("score(z, label)", score, (torch.bool, *checks.INTEGER_DTYPES))
    if score.shape != z.shape[:2]:
        raise ValueError(f"score(z, label) must have shape {list(z.shape[:2])}, got {list(score.shape)}")
    score = score.long()
    if score.device.type == "cpu" and bool(((score < 0) | (score > n_constraints)).any()):
        raise ValueError(f"score(z, label) must lie in 0..{n_constraints}, got {int(score.min())}..{int(score.max())}")
    return score.clamp(0, n_constraints)


def check_values(logits: Tensor, label: Tensor, n_values: int | None, expected: str) -> None:
    """Raise ValueError for logits that are no prior and label entries outside 0..n_values-1 (synchronises a GPU)."""
    checks.raise_for_status(checks.row_status(logits, label, n_values), logits, label, expected, n_values or 0)
