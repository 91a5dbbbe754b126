"""Posteriors by weighted samples from the prior: logits [batch, *symbols, K], label [batch] (1 valid, 0 not).

A pass over the samples counts them by score and adds up their weights, integers relative to the weight of the best
sample or to a good guess of it. Where the sharpness follows from the counts, one pass counts and another one adds up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, float64, int32, uint8

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference import importance
from emnesy_gpu.kernels.sampling_plan import Plan
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import WeightedResults, drawn_results, weighted_results

COUNT, WEIGH = 1, 2
"""The work of a pass on a row: count its samples by score, or add up their weights too. 0 skips the row."""

PILOT_SAMPLES = 256
"""Samples of a row from which its best weight is guessed."""


@operator(weighted_results)
def abc_sampling_posterior(
    logits: Tensor,
    label: Tensor,
    constraints: Tensor,
    incident: Tensor,
    exponents: Tensor,
    span: float,
    sharpness: float,
    target_ess: float,
    n_samples: int,
    seed: int,
    first_row: int,
    check: bool,
) -> WeightedResults:
    """Posterior by samples of the prior that are weighted by the constraints that they satisfy.

    constraints, incident: see ``emnesy_gpu.reference.abc_sampling.weigh``.
    exponents: float64 [R, width], the log weight at sharpness 1 for each score given label 1.
    span: the range of the finite exponents.
    """
    symbols = logits.flatten(1, -2).contiguous()
    if backend_for(logits.device) != "reference":
        pilot = min(n_samples, PILOT_SAMPLES) if span * sharpness > importance.HEADROOM else 0
        marginals, log_evidence, status, ess, levels, matches = kernels_for("abc_sampling", logits.device).posterior(
            symbols,
            label.contiguous(),
            exponents,
            (constraints, incident),
            Plan(n_samples, pilot, sharpness, target_ess),
            seed,
            first_row,
        )
        if check:
            checks.raise_for_validity(status, logits, label)
        return marginals.view(logits.shape), log_evidence, status, ess, levels, matches
    status = checks.row_status(symbols, label, 2)
    if check:
        checks.raise_for_validity(status, logits, label)
    invalid = label == 0
    exponents = torch.where(invalid[:, None, None], importance.invalid_exponents(exponents), exponents)
    samples = _Samples(importance.thresholds(symbols), constraints, incident, n_samples, seed, first_row)
    levels = logits.new_full((len(logits),), sharpness, dtype=float64)
    if target_ess > 0:
        levels, log_weights, counts, histogram = samples.at_target(exponents, target_ess)
    else:
        log_weights = importance.log_weights(exponents, levels)
        counts, histogram = samples.weighted(log_weights, span * sharpness > importance.HEADROOM)
    ess, log_evidence = importance.evidence(log_weights, counts)
    all_hold = counts[:, 0, -1]
    matches = torch.where(invalid, n_samples - all_hold, all_hold)
    marginals, log_evidence, status = importance.weighted_posterior(logits, histogram, log_evidence, status)
    return marginals, log_evidence, status, ess.to(log_evidence.dtype), levels.to(log_evidence.dtype), matches


class _Samples(NamedTuple):
    """The samples of all rows, drawn again in every pass."""

    thresholds: Tensor
    constraints: Tensor
    incident: Tensor
    n_samples: int
    seed: int
    first_row: int

    def weigh(self, weights: Tensor, work: Tensor, n_samples: int | None = None) -> tuple[Tensor, Tensor]:
        """One pass: counts int64 [batch, R, width] and histogram int64 [batch, N, K]."""
        kernels = kernels_for("abc_sampling", weights.device)
        tables, n_samples = (self.constraints, self.incident), n_samples or self.n_samples
        return kernels.weigh(self.thresholds, weights, work, *tables, n_samples, self.seed, self.first_row, 0)

    def count_scores(self, log_weights: Tensor, n_samples: int) -> Tensor:
        """Counts int64 [batch, R, width] of the first samples by score."""
        work = torch.full(log_weights.shape[:1], COUNT, dtype=uint8, device=log_weights.device)
        return self.weigh(torch.zeros_like(log_weights, dtype=int32), work, n_samples)[0]

    def at_target(self, exponents: Tensor, target_ess: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sharpness of each row for an effective sample size, log weights, counts and histogram."""
        counts = self.count_scores(exponents, self.n_samples)
        levels = importance.sharpness_for(exponents, counts, target_ess)
        log_weights = importance.log_weights(exponents, levels)
        weights = importance.integer_weights(log_weights, importance.best_seen(log_weights, counts))
        histogram = self.weigh(weights, torch.full_like(levels, WEIGH, dtype=uint8))[1]
        return levels, log_weights, counts, histogram

    def weighted(self, log_weights: Tensor, wide: bool) -> tuple[Tensor, Tensor]:
        """Counts and histogram, in one pass or two.

        Weights are relative to 1 or, if they span a wide range, to a guess of the best weight from the first samples of
        each row. Where the guess is off, a second pass takes the best weight itself.
        """
        guess = log_weights.new_zeros((*log_weights.shape[:2], 1))
        if wide:
            guess = importance.guess_best(
                log_weights, self.count_scores(log_weights, min(self.n_samples, PILOT_SAMPLES))
            )
        weights = importance.integer_weights(log_weights, guess)
        work = torch.full(log_weights.shape[:1], WEIGH, dtype=uint8, device=log_weights.device)
        counts, histogram = self.weigh(weights, work)
        best = importance.best_seen(log_weights, counts)
        off = importance.is_off(guess, best).flatten(1).any(1)
        if wide and (off.device.type != "cpu" or bool(off.any())):
            work = work.masked_fill(~off, 0)
            again = self.weigh(importance.integer_weights(log_weights, best), work)[1]
            histogram = torch.where(off[:, None, None], again, histogram)
        return counts, histogram


@operator(drawn_results)
def abc_sampling_draw(logits: Tensor, n_samples: int, seed: int, first_row: int, first_sample: int) -> Tensor:
    """Independent draws from the prior, int64 [n_samples, batch, *symbols]."""
    thresholds = importance.thresholds(logits.flatten(1, -2))
    kernels = kernels_for("abc_sampling", logits.device)
    z: Tensor = kernels.draw(thresholds, n_samples, seed, first_row, first_sample)
    return z.view(n_samples, *logits.shape[:-1])
