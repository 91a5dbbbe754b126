"""The carry chain of addition: logits [batch, n_addends, n_digits, base], label [batch, n_label_digits]."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.results import is_possible
from emnesy_gpu.kernels.status import INVALID_LOGITS
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import (
    GradientResults,
    RowResults,
    assignment_results,
    gradient_of,
    gradient_results,
    marginal_results,
    sample_results,
)


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("carry_chain", logits.device)


def _raise_for_status(status: Tensor, logits: Tensor, label: Tensor) -> None:
    if checks.highest(status) < INVALID_LOGITS:
        return
    checks.raise_for_status(status, logits, label, f"a digit in 0..{logits.shape[-1] - 1}", logits.shape[-1])


@operator(
    marginal_results,
    few_rows=lambda kernels, logits, label, check: kernels.few_rows(logits, label, 0.0, 1.0),
    only_dispatched=True,
)
def carry_chain_posterior(logits: Tensor, label: Tensor, check: bool) -> RowResults:
    """Exact marginals, log evidence and possible."""
    marginals, log_evidence, status = _kernels(logits).posterior(logits.contiguous(), label.contiguous())
    if check:
        _raise_for_status(status, logits, label)
    return marginals, log_evidence, is_possible(status)


@operator(
    gradient_results,
    few_rows=lambda kernels, logits, label, scale, check: gradient_of(kernels.few_rows(logits, label, 1.0, -scale)),
    only_dispatched=True,
)
def carry_chain_em_gradient(logits: Tensor, label: Tensor, scale: float, check: bool) -> GradientResults:
    """The EM gradient (softmax(logits) - marginals) * scale and log evidence."""
    gradient, log_evidence, status = _kernels(logits).em_gradient(logits.contiguous(), label.contiguous(), scale)
    if check:
        _raise_for_status(status, logits, label)
    return gradient, log_evidence


@operator(assignment_results)
def carry_chain_map(logits: Tensor, label: Tensor, check: bool) -> RowResults:
    """The most probable digits, their log joint and possible."""
    digits, log_joint, status = _kernels(logits).map_assignment(logits.contiguous(), label.contiguous())
    if check:
        _raise_for_status(status, logits, label)
    return digits, log_joint, is_possible(status)


@operator(sample_results)
def carry_chain_sample(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    """Independent exact samples of the digits, and status."""
    digits, status = _kernels(logits).sample(logits.contiguous(), label.contiguous(), n_samples, seed, first_row)
    if check:
        _raise_for_status(status, logits, label)
    return digits, status
