"""Uninitialised results of every kind of operator, one function per kind; logits are [batch, *symbols, K]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu.inference.results import result_dtype
from emnesy_gpu.kernels.circuit_tables import CircuitTables

RowResults = tuple[Tensor, Tensor, Tensor]
GradientResults = tuple[Tensor, Tensor]
MapResults = tuple[Tensor, Tensor, Tensor, Tensor]
LoopyResults = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
ChainResults = tuple[Tensor, Tensor, Tensor, Tensor]
WeightedResults = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def row_results(logits: Tensor) -> RowResults:
    """Values of the shape of the logits, log evidence [batch], status uint8 [batch]."""
    dtype, batch = result_dtype(logits), logits.shape[0]
    return (
        logits.new_empty(logits.shape, dtype=dtype),
        logits.new_empty(batch, dtype=dtype),
        logits.new_empty(batch, dtype=torch.uint8),
    )


def marginal_results(logits: Tensor) -> RowResults:
    """Marginals, log evidence [batch], possible bool [batch]."""
    return *gradient_results(logits), logits.new_empty(logits.shape[0], dtype=torch.bool)


def gradient_results(logits: Tensor) -> GradientResults:
    """Gradient of the shape of the logits, log evidence [batch]."""
    gradient, log_evidence, _ = row_results(logits)
    return gradient, log_evidence


def gradient_of(results: RowResults | None) -> GradientResults | None:
    """Without the part about whole rows, which no gradient needs."""
    return None if results is None else results[:2]


def assignment_results(logits: Tensor) -> RowResults:
    """Assignment int64 [batch, *symbols], log joint [batch], possible bool [batch]."""
    _, log_joint, possible = marginal_results(logits)
    return logits.new_empty(logits.shape[:-1], dtype=torch.int64), log_joint, possible


def map_results(logits: Tensor) -> MapResults:
    """Assignment int64 [batch, *symbols], log joint [batch], status [batch], valid bool [batch]."""
    z, log_joint, valid = assignment_results(logits)
    return z, log_joint, torch.empty_like(valid, dtype=torch.uint8), valid


def sample_results(logits: Tensor, n_samples: int) -> tuple[Tensor, Tensor]:
    """Samples int64 [n_samples, batch, *symbols], status [batch]."""
    return drawn_results(logits, n_samples), logits.new_empty(logits.shape[0], dtype=torch.uint8)


def prediction_results(logits: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """log p of every value of every entry of the label [batch, values], status [batch]; of the tables of a circuit."""
    n_leaves, (batch, n, k) = CircuitTables(*tables).derivatives.shape[0], logits.shape
    log_p = logits.new_empty((batch, n_leaves - n * k), dtype=result_dtype(logits))
    return log_p, logits.new_empty(batch, dtype=torch.uint8)


def truth_results(z: Tensor, tables: Sequence[Tensor], n_values: int) -> Tensor:
    """bool [batch, values of all entries of the label]; of the tables of a circuit."""
    n_leaves, (batch, n) = CircuitTables(*tables).derivatives.shape[0], z.shape
    return z.new_empty((batch, n_leaves - n * n_values), dtype=torch.bool)


def drawn_results(logits: Tensor, n_samples: int) -> Tensor:
    """Samples int64 [n_samples, batch, *symbols]."""
    return logits.new_empty((n_samples, *logits.shape[:-1]), dtype=torch.int64)


def loopy_results(logits: Tensor) -> LoopyResults:
    """Marginals, log evidence, status, sweeps int32 [batch], the last change of a message [batch]."""
    values, log_evidence, status = row_results(logits)
    return values, log_evidence, status, torch.empty_like(status, dtype=torch.int32), torch.empty_like(log_evidence)


def chain_results(logits: Tensor) -> ChainResults:
    """Marginals, log evidence, status, the share of chains that end without a conflict [batch]."""
    marginals, log_evidence, status = row_results(logits)
    return marginals, log_evidence, status, torch.empty_like(log_evidence)


def weighted_results(logits: Tensor) -> WeightedResults:
    """Marginals, log evidence, status, effective sample size, sharpness, int64 number of samples with the label."""
    marginals, log_evidence, status = row_results(logits)
    like = torch.empty_like
    return marginals, log_evidence, status, like(log_evidence), like(log_evidence), like(status, dtype=torch.int64)


def path_results(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of the path, uint8 of the shape of the costs [batch, height, width], and its cost [batch]."""
    return costs.new_empty(costs.shape, dtype=torch.uint8), costs.new_empty(len(costs))
