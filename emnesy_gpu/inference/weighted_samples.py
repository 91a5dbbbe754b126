"""Posteriors by weighted samples for any problem that can tell how much of a label a sample explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.inference import importance
from emnesy_gpu.problems.problem import Marginals, SamplingSettings, Weighted

CHUNK = 1 << 18
"""Symbols drawn at a time."""

HISTOGRAM = 1 << 22
"""Entries of the histograms that are held at a time."""

Satisfied = Callable[[Tensor, Tensor], Tensor]
"""(z int64 [samples, batch, *latent_shape], label [batch, *label_shape]) -> integers [samples, batch]."""

Fused = Callable[[Tensor, Tensor, int, int, int], Tensor]
"""(logits, label, samples, seed, first row) -> int64 [batch, n_constraints + 1, N, K], samples by score and value."""


def weighted_marginals(
    logits: Tensor,
    label: Tensor,
    settings: SamplingSettings,
    satisfied: Satisfied,
    n_constraints: int,
    exact_rows: Tensor | None = None,
    fused: Fused | None = None,
) -> Weighted:
    """Self-normalised marginals from samples of the prior, weighted by the number of satisfied constraints.

    Samples are counted by score and value, so that one evaluation of each is enough for any weights. Memory: that of
    CHUNK symbols and HISTOGRAM counts, and the result. In exact_rows [batch] only samples that satisfy all count.
    fused: what counts the samples in one kernel, if there is one.
    """
    exact = torch.zeros_like(logits[..., 0], dtype=torch.bool).flatten(1).any(1) if exact_rows is None else exact_rows
    size = (n_constraints + 1) * logits[0].numel() if len(logits) else 1
    step = max(1, min(HISTOGRAM // size, CHUNK))
    parts = [
        _some_rows(logits[part], label[part], exact[part], part.start, settings, satisfied, n_constraints, fused)
        for part in (slice(row, row + step) for row in range(0, max(len(logits), 1), step))
    ]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return Weighted(Marginals(*columns[:3]), *columns[3:])


def _some_rows(
    logits: Tensor,
    label: Tensor,
    exact: Tensor,
    row: int,
    settings: SamplingSettings,
    satisfied: Satisfied,
    n_constraints: int,
    fused: Fused | None,
) -> tuple[Tensor, ...]:
    """Marginals, log evidence, possible, effective sample size, sharpness and acceptance of a few rows."""
    if fused is None:
        histogram = _histogram(logits, label, row, settings, satisfied, n_constraints)
    else:
        histogram = fused(logits, label, settings.n_samples, settings.seed, settings.first_row + row)
    counts = histogram[..., 0, :].sum(-1)[:, None]
    totals = torch.tensor([n_constraints], device=logits.device)
    exponents, only_all = (
        importance.exponents(kernel, totals, n_constraints + 1) for kernel in (settings.kernel, "exact")
    )
    exponents = torch.where(exact[:, None, None], only_all, exponents)
    sharpness = torch.full(counts.shape[:1], settings.sharpness, dtype=torch.float64, device=logits.device)
    if settings.target_ess is not None:
        sharpness = importance.sharpness_for(exponents, counts, settings.target_ess)
    log_weights = importance.log_weights(exponents, sharpness)
    best = importance.best_seen(log_weights, counts)
    weights = importance.relative_weights(log_weights, best)[:, 0]
    weighted = torch.einsum("bs,bsnk->bnk", weights, histogram.double())
    possible = (best > importance.NEG_INF).flatten()
    dtype = torch.promote_types(logits.dtype, torch.float32)
    posterior = (weighted / weighted.sum(-1, keepdim=True)).to(dtype).view(logits.shape)
    prior = torch.softmax(logits.to(dtype), -1)
    marginals = torch.where(possible.view(-1, *[1] * (logits.dim() - 1)), posterior, prior)
    ess, log_evidence = importance.evidence(log_weights, counts)
    acceptance = counts[:, 0, -1].double() / settings.n_samples
    return marginals, log_evidence.to(dtype), possible, ess.to(dtype), sharpness.to(dtype), acceptance.to(dtype)


def _histogram(
    logits: Tensor, label: Tensor, row: int, settings: SamplingSettings, satisfied: Satisfied, n_constraints: int
) -> Tensor:
    """int64 [batch, n_constraints + 1, N, K]: samples by score and by the value of each symbol."""
    batch, cardinality = len(logits), logits.shape[-1]
    n = logits[0].numel() // cardinality if batch else 1
    histogram = torch.zeros(batch, (n_constraints + 1) * n * cardinality, dtype=torch.int64, device=logits.device)
    first_of_symbol = torch.arange(0, n * cardinality, cardinality, device=logits.device)
    for first, count in _chunks(settings.n_samples, max(1, CHUNK // max(1, batch * n))):
        z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, count, settings.seed, settings.first_row + row, first)
        score = checked_score(satisfied(z, label), z, n_constraints)
        index = score[..., None] * (n * cardinality) + first_of_symbol + z.flatten(2)
        index = index.movedim(0, 1).flatten(1)
        histogram.scatter_add_(1, index, torch.ones_like(index))
    return histogram.view(batch, n_constraints + 1, n, cardinality)


def _chunks(total: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(0, total, step):
        yield first, min(step, total - first)


def checked_score(score: Tensor, z: Tensor, n_constraints: int) -> Tensor:
    """The score as int64; raises TypeError and ValueError where it is no count of constraints [samples, batch]."""
    checks.is_tensor("score(z, label)", score)
    checks.has_dtype("score(z, label)", score, (torch.bool, *checks.INTEGER_DTYPES))
    if score.shape != z.shape[:2]:
        raise ValueError(f"score(z, label) must have shape {list(z.shape[:2])}, got {list(score.shape)}")
    score = score.long()
    if score.device.type == "cpu" and bool(((score < 0) | (score > n_constraints)).any()):
        raise ValueError(f"score(z, label) must lie in 0..{n_constraints}, got {int(score.min())}..{int(score.max())}")
    return score.clamp(0, n_constraints)


def check_values(logits: Tensor, label: Tensor, n_values: int | None, expected: str) -> None:
    """Raise for logits that are no prior and for label entries outside 0..n_values-1 (synchronises a GPU)."""
    checks.raise_for_status(checks.row_status(logits, label, n_values), logits, label, expected, n_values or 0)
