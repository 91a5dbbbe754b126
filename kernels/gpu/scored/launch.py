"""Launches samples and chains that are counted by a score; contracts as in emnesy_gpu.reference.scored.

Floating-point operations are not contracted, so that the chains are those of every other back end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.results import float_dtype
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed
from emnesy_gpu.kernels.gpu.scored.chains import chains_kernel
from emnesy_gpu.kernels.gpu.scored.circuits import explained_entries
from emnesy_gpu.kernels.gpu.scored.factors import held_factors
from emnesy_gpu.kernels.gpu.scored.paths import agreeing_cells
from emnesy_gpu.kernels.gpu.scored.posterior import posterior_kernel
from emnesy_gpu.kernels.gpu.scored.samples import count_kernel, histogram_kernel
from emnesy_gpu.kernels.gpu.scored.scores import equal_digits, equal_entries, listed, of_function
from emnesy_gpu.kernels.score_tables import (
    AUTOMATON,
    CIRCUIT,
    FACTORS,
    FUNCTION,
    LISTED,
    PATH,
    SUM,
    CompiledScore,
)

_SCORES = {
    SUM: equal_digits, AUTOMATON: equal_entries, LISTED: listed, FUNCTION: of_function, PATH: agreeing_cells,
    CIRCUIT: explained_entries, FACTORS: held_factors,
}  # fmt: skip


def _arguments(score: CompiledScore, label: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """The tables of a score, filled up to three, and what kernels are compiled for."""
    tables = (*score.tables, label, label, label)[:3]
    return tables, {"SCORE": _SCORES[score.kind], "SIZES": score.sizes, "FUNCTION": score.function}


def _lane_bytes(score: CompiledScore, n: int) -> int:
    """Scratch memory of a lane: its symbols, and what the score works with."""
    return 2 * n + 4 * score.scratch


def _scratch(like: Tensor, score: CompiledScore, n: int, lanes: int) -> tuple[Tensor, Tensor]:
    held = like.new_empty(lanes * n, dtype=torch.int16)
    return held, like.new_empty(lanes * max(score.scratch, 1), dtype=torch.int32)


def histogram(
    thresholds: Tensor, label: Tensor, score: CompiledScore, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """Int64 [batch, n_constraints + 1, n, K]: samples by score and value."""
    batch, n, steps = thresholds.shape
    result = thresholds.new_zeros(batch, score.n_constraints + 1, n, steps + 1, dtype=torch.int64)
    lanes = launch_config.SCORED_SAMPLES
    tiles = triton.cdiv(n_samples, lanes)
    programs = launch_config.resident_programs(batch * tiles, _lane_bytes(score, n) * lanes)
    scratch = _scratch(thresholds, score, n, programs * lanes)
    tables, constants = _arguments(score, label)
    if batch * tiles > 0:
        with torch.cuda.device_of(thresholds):
            histogram_kernel[(programs,)](
                thresholds, label, *tables, result, *scratch, batch, n, label.shape[1], score.n_constraints,
                score.scratch, n_samples, tiles, signed(seed), first_row, STEPS=steps, LANES=lanes, **constants,
                **rounded_twice(1),
            )  # fmt: skip
    return result


def add_to_histogram(histogram: Tensor, z: Tensor, satisfied: Tensor) -> Tensor:
    """Int64 [batch, scores, n, K], to which samples int64 [samples, batch, n] with their scores are added."""
    size, (batch, n_scores, n, k) = satisfied.numel(), histogram.shape
    if size > 0:
        with torch.cuda.device_of(z):
            count_kernel[(triton.cdiv(size, launch_config.SCORED_SAMPLES),)](
                z.contiguous(), satisfied.contiguous(), histogram, size, batch, n, k, n_scores,
                LANES=launch_config.SCORED_SAMPLES, **rounded_twice(1),
            )  # fmt: skip
    return histogram


def run_chains(
    prior: Tensor, label: Tensor, factors: Tensor, score: CompiledScore, chains: int, sweeps: int, penalised: bool,
    seed: int, first_row: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Conditionals int64 [batch, n, K]; violated constraints int64 [batch, chains], of the annealing and at the end."""
    batch, n, k = prior.shape
    sums = torch.zeros_like(prior, dtype=torch.int64)
    before, final = prior.new_empty(2, batch, chains, dtype=torch.int64)
    config = launch_config.scored_chains(batch, chains, k, _lane_bytes(score, n), score.scratch > 0)
    scratch = _scratch(prior, score, n, config.lanes)
    tables, constants = _arguments(score, label)
    if batch > 0:
        with torch.cuda.device_of(prior):
            chains_kernel[(config.programs,)](
                prior, label, factors, *tables, sums, before, final, *scratch, batch, n, label.shape[1],
                score.n_constraints, score.scratch, chains, config.parts, sweeps, len(factors) - 1, int(penalised), signed(seed),
                first_row, K=k, CHAINS=config.chains, WIDTH=config.width, **constants,
                **rounded_twice(config.num_warps),
            )  # fmt: skip
    return sums, before, final


def weighted_posterior(
    logits: Tensor, histogram: Tensor, exponents: Tensor, n_samples: int, sharpness: float, target_ess: float
) -> tuple[Tensor, ...]:
    """Marginals; log evidence, whether possible, effective sample size, sharpness and acceptance [batch]."""
    (batch, n, k), width, dtype = logits.shape, len(exponents), float_dtype(logits)
    marginals, possible = torch.empty_like(logits, dtype=dtype), logits.new_empty(batch, dtype=torch.bool)
    log_evidence, size, level, acceptance = logits.new_empty(4, batch, dtype=dtype)
    counts, weights = histogram.new_empty(batch, width, dtype=torch.int32), exponents.new_empty(batch, width)
    tile, lanes = launch_config.symbol_tile(k)
    if batch > 0:
        with torch.cuda.device_of(logits):
            posterior_kernel[(batch,)](
                logits, histogram, exponents, counts, weights, marginals, log_evidence, possible, size, level,
                acceptance, width, n, k, n_samples, *high_and_low(target_ess or sharpness),
                WITH_TARGET=target_ess > 0, BLOCK=launch_config.ABC_SCORES, TILE=tile, WIDTH=lanes,
                **rounded_twice(4, limit_registers=True),
            )  # fmt: skip
    return marginals, log_evidence, possible, size, level, acceptance
