"""Launches posteriors by weighted samples on a GPU, in three to seven launches; contract as in the operator.

What the weights of a pass are relative to follows from the counts of the pass before, on the GPU: see weights.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, float64, int32, int64

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.abc_sampling.launch import Samples, launch_weigh
from emnesy_gpu.kernels.gpu.abc_sampling.weights import (
    TO_BEST_IF_OFF,
    TO_GUESS,
    TO_ONE,
    TO_TARGET,
    posterior_kernel,
    prior_kernel,
    weights_kernel,
)
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.results import float_dtype
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.sampling_plan import Plan


class _Memory(NamedTuple):
    """Memory of all passes. counts int32 [passes, batch, R, width], sums int64 [passes, batch, n, K], both 0 at first."""

    counts: Tensor
    sums: Tensor
    weights: Tensor
    guess: Tensor
    sharpness: Tensor
    work: Tensor


def posterior(
    logits: Tensor,
    label: Tensor,
    exponents: Tensor,
    tables: tuple[Tensor, Tensor],
    plan: Plan,
    seed: int,
    first_row: int,
) -> tuple[Tensor, ...]:
    """Marginals, log evidence, status, effective sample size, sharpness, samples with the label.

    logits: [batch, n, K]. exponents: float64 [R, width]. tables: constraints and incident.
    """
    batch, n, k = logits.shape
    results = _empty_results(logits)
    memory = _memory(logits, exponents, 3 if plan.pilot else 2 if plan.target_ess > 0 else 1)
    if batch > 0:
        with torch.cuda.device_of(logits):
            thresholds = logits.new_empty(batch, n, k - 1, dtype=int32)
            prior_kernel[(batch,)](
                logits, label, thresholds, results[2], memory.work, n, k, LABELLED=True,
                LANES=launch_config.ABC_SYMBOLS, **rounded_twice(1),
            )  # fmt: skip
            samples = Samples(thresholds, *tables, seed, first_row)
            counted, last = _passes(samples, label, exponents, plan, memory)
            posterior_kernel[(batch,)](
                logits, label, exponents, memory.counts[counted], memory.sums[counted], memory.sums[last], memory.work,
                memory.sharpness, *results, *exponents.shape, n, k, plan.n_samples,
                BLOCK=launch_config.ABC_SCORES, TILE=launch_config.ABC_SYMBOLS,
                WIDTH=launch_config.next_power_of_two(k), **rounded_twice(4),
            )  # fmt: skip
    return results


def _empty_results(logits: Tensor) -> tuple[Tensor, ...]:
    batch, dtype = len(logits), float_dtype(logits)
    log_evidence, size, sharpness = logits.new_empty(3, batch, dtype=dtype)
    status, matches = logits.new_empty(batch, dtype=torch.uint8), logits.new_empty(batch, dtype=int64)
    return torch.empty_like(logits, dtype=dtype), log_evidence, status, size, sharpness, matches


def _memory(logits: Tensor, exponents: Tensor, passes: int) -> _Memory:
    """Counts and sums lie in one piece, so that one launch clears them."""
    batch, n, k = logits.shape
    rows, width = exponents.shape
    n_sums, n_counts = passes * batch * n * k, passes * batch * rows * width
    cleared = logits.new_zeros(n_sums + -(-n_counts // 2), dtype=int64)
    return _Memory(
        cleared[n_sums:].view(int32)[:n_counts].view(passes, batch, rows, width),
        cleared[:n_sums].view(passes, batch, n, k),
        logits.new_empty(batch, rows, width, dtype=int32),
        logits.new_empty(batch, rows, dtype=float64),
        logits.new_empty(batch, dtype=float64),
        logits.new_empty(batch, dtype=torch.uint8),
    )


def _passes(samples: Samples, label: Tensor, exponents: Tensor, plan: Plan, memory: _Memory) -> tuple[int, int]:
    """Draw and weigh; which pass has the counts of all samples, and which one the sums of redone rows."""

    def weigh(index: int, n_samples: int) -> None:
        launch_weigh(samples, memory.weights, memory.work, (memory.counts[index], memory.sums[index]), n_samples)

    def reweight(index: int, mode: int, number: float) -> None:
        weights_kernel[(len(label),)](
            exponents, label, memory.counts[index], memory.weights, memory.guess, memory.sharpness, memory.work,
            *exponents.shape, *high_and_low(number), MODE=mode, ONLY_WEIGHTS=False, BLOCK=launch_config.ABC_SCORES,
            **rounded_twice(4, limit_registers=True),
        )  # fmt: skip

    if plan.target_ess > 0:
        weigh(0, plan.n_samples)
        reweight(0, TO_TARGET.value, plan.target_ess)
        weigh(1, plan.n_samples)
        return 0, 1
    if plan.pilot == 0:
        reweight(0, TO_ONE.value, plan.sharpness)
        weigh(0, plan.n_samples)
        return 0, 0
    weigh(0, plan.pilot)
    reweight(0, TO_GUESS.value, plan.sharpness)
    weigh(1, plan.n_samples)
    reweight(1, TO_BEST_IF_OFF.value, plan.sharpness)
    weigh(2, plan.n_samples)
    return 1, 2
