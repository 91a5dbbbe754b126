"""Cheapest paths on grids, and posteriors over their cells by weighted samples: logits [batch, H, W, K].

A first pass over the samples scores their paths against the label and counts the samples by score. The weights follow
from the counts. A second pass draws the samples again, without their paths, and adds up the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, float64, int64

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference import importance
from emnesy_gpu.inference.row_parts import NANOSECONDS_PER_CHECK, in_parts, rows_of_a_part
from emnesy_gpu.kernels.sampling_plan import LARGEST_GAIN
from emnesy_gpu.kernels.status import INVALID_LABEL
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import WeightedResults, path_results, weighted_results
from emnesy_gpu.reference.grid_paths import GOAL, LEVELS, ON_PATH, ends, score_columns

SCORES_AT_A_TIME, SCORES_ON_GPU = 1 << 15, 1 << 21
"""Samples whose scores are held at a time, at most: a GPU has room, and a launch costs as much as thousands of them."""

COUNTS_AT_A_TIME, COUNTS_ON_GPU = 1 << 19, 1 << 25
"""Counts of scores that are held at a time, at most."""

NANOSECONDS_PER_CELL = 3.0
"""Rough ones, of a cell of a sample in both passes."""


def checked_ends(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor]:
    """Start and goal of ``ends``; with check, raise ValueError for the first row whose values are not allowed."""
    if backend_for(logits.device) == "triton":
        read = kernels_for("grid_paths", logits.device).read_labels
        _, start, goal, _, status = read(logits.flatten(1, -2).contiguous(), label.contiguous())
        if check:
            _raise_for_status(status, logits, label)
        return start, goal

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        start, goal, fine = ends(label[first:last])
        return start, goal, _status(logits[first:last], label[first:last], fine)

    cost = NANOSECONDS_PER_CHECK * logits.shape[1:].numel()
    start, goal, status = in_parts(some_rows, logits, rows_of_a_part(logits), cost)
    if check:
        _raise_for_status(status, logits, label)
    return start, goal


def _status(logits: Tensor, label: Tensor, fine: Tensor) -> Tensor:
    """Status uint8 [batch]. fine: bool [batch], whether the label is a mask with allowed ends."""
    return torch.where(fine, checks.row_status(logits, label, None), INVALID_LABEL).to(torch.uint8)


def _raise_for_status(status: Tensor, logits: Tensor, label: Tensor) -> None:
    """Raise ValueError for the first row whose values are not allowed (synchronises a GPU)."""
    if status.numel() and int(status.max()) == INVALID_LABEL:
        row = int((status == INVALID_LABEL).nonzero()[0])
        raise ValueError(
            f"label[{row}] must be a mask of 0 and 1, with either no ends marked or one start (+2) and one goal (+4),"
            f" got values {label[row].unique().tolist()}"
        )
    checks.raise_for_status(status, logits, label, "a path mask", 2 * GOAL)


class _Maps(NamedTuple):
    """The data that score samples of maps: int32 costs [K] of the values; mask, start and goal of each label."""

    costs: Tensor
    mask: Tensor
    start: Tensor
    goal: Tensor


class _Weighting(NamedTuple):
    """How a sampled path is scored, and how its score becomes a weight: see ``score_columns`` and ``_exponents``."""

    score: str
    weighting: str
    sharpness: float
    target_ess: float


@operator(weighted_results)
def grid_paths_posterior(
    logits: Tensor,
    label: Tensor,
    costs: Tensor,
    unit: int,
    score: str,
    weighting: str,
    sharpness: float,
    target_ess: float,
    n_samples: int,
    seed: int,
    first_row: int,
    rao_blackwell: bool,
    check: bool,
) -> WeightedResults:
    """Posterior by samples that are weighted by how well their cheapest paths agree with the label.

    costs: int32 [K], the positive cost of each class.
    unit: a tenth in these costs.
    score, weighting: see ``reference.grid_paths.score_columns`` and ``_exponents``.
    """
    how = _Weighting(score, weighting, sharpness, target_ess)
    if backend_for(logits.device) == "triton":
        results = _on_gpu(logits, label, costs, unit, how, n_samples, (seed, first_row, rao_blackwell))
        if check:
            _raise_for_status(results[2], logits, label)
        return results
    n_cells = logits.shape[1:-1].numel()
    exponents = _exponents(score, weighting, n_cells, logits.device)

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        part = logits[first:last], label[first:last]
        return _of_rows(*part, (costs, unit), how, exponents, (n_samples, seed, first_row + first, rao_blackwell))

    step = max(1, min(SCORES_AT_A_TIME // n_samples, COUNTS_AT_A_TIME // len(exponents)))
    found = in_parts(some_rows, logits, step, n_samples * n_cells * NANOSECONDS_PER_CELL)
    if check:
        _raise_for_status(found[2], logits, label)
    return found  # type: ignore[return-value]


def _of_rows(
    logits: Tensor,
    label: Tensor,
    scale: tuple[Tensor, int],
    how: _Weighting,
    exponents: Tensor,
    others: tuple[int, int, int, bool],
) -> tuple[Tensor, ...]:
    """The results of some rows. scale: costs and unit; others: samples, seed, first row, Rao-Blackwellised."""
    (costs, unit), (n_samples, seed, first_row, rao_blackwell) = scale, others
    start, goal, fine = ends(label)
    status = _status(logits, label, fine)
    maps = _Maps(costs, (label & ON_PATH).to(torch.uint8).contiguous(), start, goal)
    samples = _Samples(logits, maps, unit, how, n_samples, seed, first_row)
    histogram, log_evidence, ess, levels, matches = _weigh(samples, exponents, how, rao_blackwell)
    marginals, log_evidence, status = importance.weighted_posterior(logits, histogram, log_evidence, status)
    dtype = log_evidence.dtype
    return marginals, log_evidence, status, ess.to(dtype), levels.to(dtype), matches


def _on_gpu(
    logits: Tensor,
    label: Tensor,
    costs: Tensor,
    unit: int,
    how: _Weighting,
    n_samples: int,
    others: tuple[int, int, bool],
) -> WeightedResults:
    """The results from kernels alone, for some rows at a time. others: seed, first row, Rao-Blackwellised."""
    seed, first_row, rao_blackwell = others
    kernels, symbols = kernels_for("grid_paths", logits.device), logits.flatten(1, -2).contiguous()
    exponents = _exponents(how.score, how.weighting, symbols.shape[1], logits.device)
    numbers, names = (n_samples, how.sharpness, how.target_ess), (how.score, how.weighting)
    step = max(1, min(SCORES_ON_GPU // n_samples, COUNTS_ON_GPU // len(exponents)))
    parts = []
    for row in range(0, max(len(logits), 1), step):
        some = symbols[row : row + step], label[row : row + step].contiguous()
        parts.append(
            kernels.posterior(*some, costs, unit, names, exponents, numbers, seed, first_row + row, rao_blackwell)
        )
    marginals, *more = (part[0] if len(part) == 1 else torch.cat(part) for part in zip(*parts, strict=True))
    return marginals.view(logits.shape), *more  # type: ignore[return-value]


class _Samples:
    """The samples of some rows, with their scores and weighted histograms, SCORES_AT_A_TIME samples at a time."""

    def __init__(
        self, logits: Tensor, maps: _Maps, unit: int, how: _Weighting, n_samples: int, seed: int, first_row: int
    ) -> None:
        self.kernels: Any = kernels_for("grid_paths", logits.device)
        self.logits, self.mask, self.unit, self.how = logits, maps.mask, unit, how
        self.n_samples, self.seed, self.first_row = n_samples, seed, first_row
        self.thresholds = importance.thresholds(logits.flatten(1, -2))
        self.maps = self.thresholds, *maps
        self.step = max(1, SCORES_AT_A_TIME // max(len(logits), 1))
        self._only: tuple[Tensor, Tensor] | None = None

    def parts(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the first sample, and [batch, count] the column of each sample and whether its path is the label."""
        for first in range(0, self.n_samples, self.step):
            count = min(self.step, self.n_samples - first)
            found = self._only
            if found is None:
                facts = self.kernels.score(*self.maps, count, self.seed, self.first_row, first)
                found = score_columns(self.how.score, self.how.weighting, facts, self.mask, self.unit)
            if count == self.n_samples:
                self._only = found
            yield first, *found

    def histogram(self, weights: Tensor) -> Tensor:
        """Weights summed by the value of each symbol, float64 [batch, N, K], from int32 weights [batch, columns]."""
        total = torch.zeros(self.logits.flatten(1, -2).shape, dtype=int64, device=weights.device)
        for first, columns, _ in self.parts():
            of_samples = weights.gather(1, columns)
            total += self.kernels.histogram(self.thresholds, of_samples, self.seed, self.first_row, first)
        return total.double()

    def histogram_of_changes(self, weights: Tensor) -> Tensor:
        """Weights of all single changes of all samples, summed by the new value of each symbol, float64 [batch, N, K].

        weights: float64 [batch, D], by the number of cells on exactly one of path and label.
        """
        numbers = self.n_samples, self.seed, self.first_row, 0
        prior = torch.softmax(self.logits.double(), -1).flatten(1, -2)
        return self.kernels.histogram_of_changes(*self.maps, weights, *numbers) * prior


def _weigh(
    samples: _Samples, exponents: Tensor, how: _Weighting, rao_blackwell: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Histogram [batch, N, K], log evidence, effective sample size, sharpness, matches [batch]."""
    batch, device = len(samples.mask), exponents.device
    counts = torch.zeros(batch, len(exponents), dtype=int64, device=device)
    matches = torch.zeros(batch, dtype=int64, device=device)
    for _, columns, equal in samples.parts():
        counts.scatter_add_(1, columns, torch.ones_like(columns))
        matches += equal.sum(1)
    counts, every = counts[:, None], exponents.expand(batch, 1, -1)
    levels = torch.full((batch,), how.sharpness, dtype=float64, device=device)
    if how.target_ess > 0:
        # Most columns are empty. On a GPU all are kept, because to find the empty ones would synchronise.
        used = (counts > 0).flatten(0, 1).any(0) if device.type == "cpu" and batch > 0 else slice(None)
        levels = importance.sharpness_for(every[..., used], counts[..., used], how.target_ess)
    log_weights = importance.log_weights(every, levels)
    best = importance.best_seen(log_weights, counts)
    if rao_blackwell:
        relative = (log_weights - best)[:, 0].clamp(max=LARGEST_GAIN).exp()
        histogram = samples.histogram_of_changes(relative.flip(1).contiguous())
    else:
        histogram = samples.histogram(importance.integer_weights(log_weights, best)[:, 0])
    ess, log_evidence = importance.evidence(log_weights, counts)
    return histogram, log_evidence, ess, levels, matches


@functools.lru_cache(maxsize=16)
def _exponents(score: str, weighting: str, n_cells: int, device: torch.device) -> Tensor:
    """The log weight of each column at sharpness 1, float64 [columns]. The cache returns the same one to all calls."""
    if weighting == "exact":
        return torch.tensor([importance.NEG_INF, 0.0], dtype=float64, device=device)
    if weighting == "fraction":
        return (torch.arange(LEVELS + 1, dtype=float64, device=device) / LEVELS).log()
    if score == "cells":
        return torch.arange(-2.0 * n_cells, 1.0, dtype=float64, device=device)
    return torch.arange(-float(LEVELS), 1.0, dtype=float64, device=device) / 10.0


def run_gibbs_chains(prior: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Run Gibbs chains on CPU tensors: see ``emnesy_gpu.kernels.cpu.grid_paths.gibbs``. This is no operator."""
    return kernels_for("grid_paths", prior.device).run_chains(prior, *others)  # type: ignore[no-any-return]


def round_costs(costs: Tensor) -> tuple[Tensor, bool]:
    """Proportional integers int32 [..., H, W] of costs on a CPU, and whether none is NaN or +inf.

    This is no operator.
    """
    return kernels_for("grid_paths", costs.device).round_costs(costs)  # type: ignore[no-any-return]


def costs_of_classes(classes: Tensor, table: Tensor) -> Tensor | None:
    """Integer costs int32 [maps, H, W] of classes on a CPU, in one pass; None for unknown ones. This is no operator."""
    return kernels_for("grid_paths", classes.device).costs_of_classes(classes, table)  # type: ignore[no-any-return]


@operator(path_results)
def grid_paths_shortest_path(costs: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of the cheapest path, uint8 [batch, H, W], and its cost, int32 [batch].

    costs: int32 [batch, H, W], at least 1. start, goal: int32 [batch], numbers of cells in reading order.
    """
    tensors = (tensor.contiguous() for tensor in (costs, start, goal))
    mask, total = kernels_for("grid_paths", costs.device).shortest_path(*tensors)
    return mask, total
