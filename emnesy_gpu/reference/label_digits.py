"""Labels of the factors of a graph as the digits of further symbols, which the row's label makes certain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emnesy_gpu.kernels.factor_graph_tables import LabelDigits
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.reference.symbols import result_dtype


def with_digits(logits: Tensor, label: Tensor, digits: LabelDigits) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [batch, n + E, K] of all symbols, label 1 (all factors hold) int64 [batch], and log_share [batch].

    logits: [batch, n, K]. label: int64 [batch, P]. The logits of digits are certain, uniform where the entry is not
    given, and NaN where its label does not exist. log_share: the log of the probability that uniform digits have taken.
    """
    value = torch.arange(digits.base, device=label.device)
    missing = label[:, digits.entry] == -1
    certain = (digits.values(label)[..., None] == value) | missing[..., None]
    own = torch.zeros(certain.shape, dtype=logits.dtype, device=label.device).masked_fill(~certain, float("-inf"))
    own = own.masked_fill(~digits.is_known(label)[..., None], float("nan"))
    log_share = missing.sum(1).double() * -math.log(digits.base)
    return torch.cat([logits, own], 1), torch.ones_like(label[:, 0]), log_share.to(result_dtype(logits))


def without_digits(log_evidence: Tensor, status: Tensor, log_share: Tensor) -> tuple[Tensor, Tensor]:
    """The log evidence of the symbols alone, and where the status is POSSIBLE, bool: all [batch]."""
    return log_evidence - log_share, status == POSSIBLE
