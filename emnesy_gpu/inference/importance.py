"""Importance weights of samples, by the number of constraints that they satisfy, and effective sample sizes.

A score row r counts the samples by how many of its ``totals[r]`` constraints they satisfy. There is one row for all
symbols, or one per symbol with the constraints that touch it. The last of its ``width`` columns is for the samples in
which every constraint of the problem holds. All results are float64 functions of integer counts, so that equal counts
give equal results.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.backends import small_kernels_for
from emnesy_gpu.inference.results import result_dtype
from emnesy_gpu.kernels.sampling_plan import BISECTIONS, HEADROOM, ONE, SHARPNESS_EXPONENTS, TINY
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE

WEIGHTINGS = ("fraction", "exponential", "exact")
"""How the weight depends on the satisfied constraints; "exact", of ``em.Rejection``, is 1 for all of them, else 0."""

NEG_INF = float("-inf")


def thresholds(logits: Tensor) -> Tensor:
    """Thresholds int32 [..., K - 1] of a word in [0, 2^31): thresholds[v - 1] < word <= thresholds[v] draws value v.

    They are the cumulative prior, rounded to multiples of 2^-31. Hard zeros are never drawn.
    """
    found: Tensor = small_kernels_for("abc_sampling", logits.device).thresholds(logits)
    return found


def exponents(weighting: str, totals: Tensor, width: int) -> Tensor:
    """Log weights at sharpness 1, [rows, width], to be multiplied by the sharpness; -inf for weight 0."""
    satisfied = torch.arange(width, dtype=torch.float64, device=totals.device).repeat(len(totals), 1)
    satisfied[:, -1] = totals
    if weighting == "exact":
        satisfied[:, :-1], satisfied[:, -1] = NEG_INF, 0.0
        return satisfied
    every = totals.double()[:, None]
    if weighting == "exponential":
        return (satisfied - every).clamp(max=0.0)
    return torch.where(every > 0, (satisfied / every.clamp_min(1.0)).clamp(max=1.0).log(), 0.0)


def invalid_exponents(like: Tensor) -> Tensor:
    """Exponents for the label "not all constraints hold": weight 1 where that is true, else 0."""
    result = torch.zeros_like(like)
    result[..., -1] = NEG_INF
    return result


def log_weights(exponents: Tensor, sharpness: Tensor) -> Tensor:
    """Log weights [batch, rows, width] from exponents of that shape and sharpness [batch]."""
    return torch.where(exponents == NEG_INF, NEG_INF, exponents * sharpness[:, None, None])


def best_seen(log_weights: Tensor, counts: Tensor) -> Tensor:
    """The largest log weight of any sample, [batch, rows, 1]; -inf where there is none."""
    return log_weights.masked_fill(counts == 0, NEG_INF).amax(-1, keepdim=True)


def relative_weights(log_weights: Tensor, relative_to: Tensor) -> Tensor:
    """Weights relative to a log weight [batch, rows, 1] (to 0 where it is -inf); larger ones are cut off at 1."""
    return (log_weights - relative_to.masked_fill(relative_to == NEG_INF, 0.0)).clamp_(max=0.0).exp_()


def integer_weights(log_weights: Tensor, relative_to: Tensor) -> Tensor:
    """Relative weights as int32, in units of 1 / ONE."""
    return relative_weights(log_weights, relative_to).mul_(ONE).round_().to(torch.int32)


def guess_best(log_weights: Tensor, counts: Tensor) -> Tensor:
    """A guess of the best log weight of all samples, [batch, rows, 1]: HEADROOM above the best of some, at most 0."""
    best = best_seen(log_weights, counts)
    return torch.where(best == NEG_INF, 0.0, (best + HEADROOM).clamp(max=0.0))


def is_off(guess: Tensor, best: Tensor) -> Tensor:
    """Whether integer weights relative to the guess are cut off, or too coarse, at the best log weight."""
    return (best > NEG_INF) & ((best > guess) | (best < guess - HEADROOM * 1.001))


def evidence(log_weights: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Effective sample size and log of the mean weight, both [batch].

    The effective sample size is (sum w)^2 / sum w^2, the least over the score rows, and 0 without a positive weight.
    The log of the mean weight is averaged over the score rows.
    """
    best = best_seen(log_weights, counts)
    weight = relative_weights(log_weights, best)
    weighted = counts * weight
    total = weighted.sum(-1)
    size = total.square() / (weighted * weight).sum(-1).clamp_min_(TINY)
    log_mean = total.log() + best[..., 0].masked_fill(best[..., 0] == NEG_INF, 0.0) - counts.sum(-1).double().log()
    return size.amin(-1), log_mean.mean(-1)


def sharpness_for(exponents: Tensor, counts: Tensor, target_ess: float) -> Tensor:
    """The largest sharpness in 2^-10..2^20 with at least the target effective sample size, or 0: [batch].

    The effective sample size falls as the sharpness grows, so bisection over the log sharpness finds the crossing.
    """
    seen, number = exponents.masked_fill(counts == 0, NEG_INF), counts.double()
    best = seen.amax(-1, keepdim=True)
    relative = seen - best.masked_fill(best == NEG_INF, 0.0)
    lowest, highest = SHARPNESS_EXPONENTS

    def enough(exponent: Tensor) -> Tensor:
        weight = (relative * exponent.exp2()).exp_()
        weighted = number * weight
        total, squares = weighted.sum(-1, keepdim=True), weighted.mul_(weight).sum(-1, keepdim=True)
        return total.square_().div_(squares.clamp_min_(TINY)).amin(1, keepdim=True) >= target_ess

    found = torch.full_like(best[:, :1], lowest)
    none, all_of_them = ~enough(found), enough(torch.full_like(found, highest))
    for halving in range(1, BISECTIONS + 1):
        step = (highest - lowest) / 2**halving
        found.add_(enough(found + step), alpha=step)
    found = found.exp2_().masked_fill_(all_of_them, 2.0**highest).masked_fill_(none, 0.0)
    return found[:, 0, 0]


def weighted_posterior(
    logits: Tensor, histogram: Tensor, log_evidence: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals of the shape of the logits, log evidence and status, from a histogram of weighted samples.

    histogram: weights summed by the value of each symbol, [batch, N, K], integers or float64. A row whose weights are
    all 0 is IMPOSSIBLE. Rows that are not POSSIBLE get the prior and log evidence -inf.
    """
    dtype = result_dtype(logits)
    total = histogram.sum(-1, keepdim=True)
    marginals = (histogram.double() / total).to(dtype)
    none = (total == 0).flatten(1).any(1) | (status > POSSIBLE)
    if none.device.type != "cpu" or bool(none.any()):
        status = torch.where(none & (status == POSSIBLE), IMPOSSIBLE, status).to(status.dtype)
        prior = torch.softmax(logits.flatten(1, -2).to(dtype), -1)
        marginals = torch.where(none[:, None, None], prior, marginals)
        log_evidence = torch.where(none, NEG_INF, log_evidence)
    return marginals.view(logits.shape), log_evidence.to(dtype), status
