"""Functions that all specifications share: priors from logits, the status of a row, draws from weights.

Logits are [batch, ..., K], for any number of symbols with K values each. Status codes: POSSIBLE; IMPOSSIBLE, where no
assignment of positive probability has the label; INVALID_LOGITS, for a NaN or +inf, or a symbol without a finite logit;
INVALID_LABEL, for an entry out of range. The highest that applies is reported.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS

NEG_INF = float("-inf")


def log_softmax(logits: Tensor) -> Tensor:
    """The float64 log-softmax; a symbol whose logits are no prior gets the uniform one: its row has no posterior."""
    return torch.log_softmax(torch.where(not_a_prior(logits), 0.0, logits.double()), -1)


def not_a_prior(logits: Tensor) -> Tensor:
    """Whether a symbol has a NaN or +inf logit, or no finite one: bool [..., 1]."""
    broken = (logits.isnan() | (logits == float("inf"))).any(-1, keepdim=True)
    return broken | (logits == NEG_INF).all(-1, keepdim=True)


def row_status(logits: Tensor, label: Tensor, label_values: int) -> Tensor:
    """The status uint8 [batch]: INVALID_LABEL for an entry outside [0, label_values), INVALID_LOGITS or POSSIBLE."""
    status = torch.zeros(len(logits), dtype=torch.uint8, device=logits.device)
    status[not_a_prior(logits).flatten(1).any(1)] = INVALID_LOGITS
    outside = (label < 0) | (label >= label_values)
    status[outside.unsqueeze(1).flatten(1).any(1)] = INVALID_LABEL
    return status


def result_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 logits, else float32."""
    return torch.promote_types(logits.dtype, torch.float32)


def log_normalise(log_weights: Tensor) -> Tensor:
    """Weights along the last axis divided by their sum; rows of zeros become uniform."""
    total = torch.logsumexp(log_weights, -1, keepdim=True)
    return torch.log_softmax(torch.where(total == NEG_INF, 0.0, log_weights), -1)


def log_sums(log_terms: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Log of the sums of the terms [batch, E] with the same index: the shape of ``like`` [batch, J]."""
    largest = log_maxima(log_terms, index, like)
    shift = largest.masked_fill(largest == NEG_INF, 0.0)
    terms = (log_terms - shift[:, index]).exp()
    return torch.zeros_like(like).index_add_(1, index, terms).log() + shift


def log_maxima(log_terms: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """The largest of the terms [batch, E] with the same index: the shape of ``like`` [batch, J], -inf without terms."""
    result = torch.full_like(like, NEG_INF)
    return result.scatter_reduce(1, index.expand(len(log_terms), -1), log_terms, "amax")


def draw(log_weights: list[float], uniform: float) -> int:
    """The first index whose running sum of weights exceeds uniform * total."""
    shifted = torch.tensor(log_weights, dtype=torch.float64)
    weights = (shifted - shifted.max()).exp().tolist()
    total = 0.0
    for weight in weights:
        total += weight
    running = 0.0
    for index, weight in enumerate(weights):
        running += weight
        if running > uniform * total:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0)
