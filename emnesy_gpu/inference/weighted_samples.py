"""Posteriors by weighted samples, for any problem that counts the constraints that a sample satisfies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for, small_kernels_for
from emnesy_gpu.inference import importance
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import Marginals, Weighted
from emnesy_gpu.inference.row_parts import in_parts, status_of_rows
from emnesy_gpu.inference.settings import SamplingSettings
from emnesy_gpu.kernels.score_tables import CompiledScore
from emnesy_gpu.kernels.status import POSSIBLE

SYMBOLS_AT_A_TIME = 1 << 18
"""Symbols that are drawn at a time, at most, to bound the memory."""

COUNTS_AT_A_TIME = 1 << 22
"""Entries of the histograms that are held at a time, at most, to bound the memory."""

ROOM_ON_GPU = 16
"""How many times as much a GPU holds at a time: a launch costs as much as thousands of samples."""

NANOSECONDS_PER_SYMBOL = 10.0
"""Rough ones: of a symbol that is drawn, scored and counted in torch."""

Satisfied = Callable[[Tensor, Tensor], Tensor]
"""A score: (z int64 [samples, batch, *latent_shape], label [batch, *label_shape]) -> integers [samples, batch]."""

DrawAndCount = Callable[[Tensor, Tensor, int, int, int], Tensor]
"""A function that draws and counts samples in one kernel.

(logits, label, samples, seed, first row) -> int64 [batch, n_constraints + 1, N, K], samples by score and by value.
"""


class Score(NamedTuple):
    """The score of a problem, which counts how many of ``n_constraints`` constraints an assignment satisfies.

    draw_and_count: draws and counts samples in one kernel on a CPU; None where there is no such kernel.
    shared: whether several threads may score at once. A function of the user is called by one at a time.
    compiled: from the labels of some rows, the score that kernels on a GPU compute, or None; None where there is none.
    """

    satisfied: Satisfied
    n_constraints: int
    draw_and_count: DrawAndCount | None = None
    shared: bool = True
    compiled: Callable[[Tensor], CompiledScore | None] | None = None


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
    on_gpu = backend_for(logits.device) == "triton"
    exact = None
    if exact_rows is not None or not on_gpu:
        exact = logits.new_zeros(len(logits), dtype=torch.bool) if exact_rows is None else exact_rows

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        part = slice(first, last)
        histogram = _histogram(logits[part], label[part], settings, score, settings.first_row + first)
        if exact is None:
            return _posterior_on_gpu(logits[part], histogram, settings, score.n_constraints)
        return _posterior(logits[part], exact[part], histogram, settings, score.n_constraints)

    symbols = settings.samples * logits.shape[1:-1].numel()
    form = _rows_at_a_time(logits, score, on_gpu), symbols * NANOSECONDS_PER_SYMBOL, SYMBOLS_AT_A_TIME // symbols
    columns = in_parts(some_rows, logits, *form, score.shared)
    return Weighted(Marginals(*columns[:3]), *columns[3:])


def _rows_at_a_time(logits: Tensor, score: Score, on_gpu: bool) -> int:
    """The rows whose counts are held together."""
    counts = (score.n_constraints + 1) * logits.shape[1:].numel()
    most = COUNTS_AT_A_TIME * (ROOM_ON_GPU if on_gpu else 1)
    return max(1, min(most // counts, SYMBOLS_AT_A_TIME))


@functools.lru_cache(maxsize=64)
def _exponents(weighting: str, n_constraints: int, device: torch.device) -> Tensor:
    """Log weights at sharpness 1 of 0 .. n_constraints, float64. The cache returns the same tensor to all calls."""
    totals = torch.tensor([n_constraints], device="cpu")
    return importance.exponents(weighting, totals, n_constraints + 1)[0].contiguous().to(device)


def _posterior_on_gpu(
    logits: Tensor, histogram: Tensor, settings: SamplingSettings, n_constraints: int
) -> tuple[Tensor, ...]:
    """``_posterior`` in one kernel, where no row takes only samples that satisfy all constraints."""
    exponents = _exponents(settings.weighting or "fraction", n_constraints, logits.device)
    numbers = settings.samples, float(settings.sharpness), settings.target_ess or 0.0
    symbols = logits.flatten(1, -2).contiguous()
    kernels = kernels_for("scored", logits.device)
    marginals, *others = kernels.weighted_posterior(symbols, histogram, exponents, *numbers)
    return marginals.view(logits.shape), *others


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
    weighted = (weights[:, :, None, None] * histogram).sum(1)
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
    on_gpu = backend_for(logits.device) == "triton"
    compiled = score.compiled(label) if on_gpu and score.compiled is not None else None
    if compiled is not None:
        return _compiled_histogram(logits, label, settings, compiled, first_row)
    batch, cardinality, n_scores = len(logits), logits.shape[-1], score.n_constraints + 1
    n = logits[0].numel() // cardinality if batch else 1
    histogram = torch.zeros(batch, n_scores, n, cardinality, dtype=torch.int64, device=logits.device)
    most = SYMBOLS_AT_A_TIME * (ROOM_ON_GPU if on_gpu else 1)
    for first, count in _parts(settings.samples, max(1, most // max(1, batch * n))):
        # The operator is called by its name, because its module imports this package.
        z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, count, settings.seed, first_row, first)
        satisfied = checked_score(score.satisfied(z, label), z, score.n_constraints)
        small_kernels_for("scored", logits.device).add_to_histogram(histogram, z.flatten(2), satisfied)
    return histogram


def _compiled_histogram(
    logits: Tensor, label: Tensor, settings: SamplingSettings, score: CompiledScore, first_row: int
) -> Tensor:
    thresholds = importance.thresholds(logits.flatten(1, -2))
    entries = label.reshape(len(label), -1 if len(label) else 0).contiguous()
    numbers = settings.samples, settings.seed, first_row
    found: Tensor = kernels_for("scored", logits.device).histogram(thresholds, entries, score, *numbers)
    return found


def _parts(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the first index and the length of each part."""
    for first in range(0, total, step):
        yield first, min(step, total - first)


def checked_form(score: Tensor, z: Tensor) -> Tensor:
    """Return the score. Raises TypeError or ValueError if it is no integers or bools [samples, batch]."""
    checks.is_tensor("score(z, label)", score)
    checks.has_dtype("score(z, label)", score, (torch.bool, *checks.INTEGER_DTYPES))
    if score.shape != z.shape[:2]:
        raise ValueError(f"score(z, label) must have shape {list(z.shape[:2])}, got {list(score.shape)}")
    return score


def checked_score(score: Tensor, z: Tensor, n_constraints: int) -> Tensor:
    """Return the score as int64 in 0..n_constraints.

    Raises TypeError or ValueError if it is no count of constraints [samples, batch]. On a GPU the range is not
    checked, which would synchronise, but values are clamped to it.
    """
    if checked_form(score, z).dtype == torch.bool:
        return score.long()
    score = score.long()
    if score.device.type == "cpu" and bool(((score < 0) | (score > n_constraints)).any()):
        raise ValueError(f"score(z, label) must lie in 0..{n_constraints}, got {int(score.min())}..{int(score.max())}")
    return score.clamp(0, n_constraints)


def check_values(logits: Tensor, label: Tensor, n_values: int | None, expected: str) -> None:
    """Raise ValueError for logits that are no prior and label entries outside 0..n_values-1 (synchronises a GPU)."""
    status = status_of_rows(logits, label, n_values)
    checks.raise_for_status(status, logits, label, expected, n_values or 0)
