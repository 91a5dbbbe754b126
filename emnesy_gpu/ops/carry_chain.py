"""The carry chain of addition: logits [batch, n_addends, n_digits, base], label [batch, n_label_digits]."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, int64, uint8

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.ops.registry import register, row_results


def _kernels(logits: Tensor) -> ModuleType:
    return kernels_for("carry_chain", logits.device)


def _raise(status: Tensor, logits: Tensor, label: Tensor) -> None:
    checks.raise_for_status(status, logits, label, f"a digit in 0..{logits.shape[-1] - 1}", logits.shape[-1])


def _posterior(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    marginals, log_evidence, status = _kernels(logits).posterior(logits.contiguous(), label.contiguous())
    if check:
        _raise(status, logits, label)
    return marginals, log_evidence, status


def _posterior_fake(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    return row_results(logits)


def _em_gradient(logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradient, log_evidence, status = _kernels(logits).em_gradient(logits.contiguous(), label.contiguous(), scale)
    if check:
        _raise(status, logits, label)
    return gradient, log_evidence, status


def _em_gradient_fake(logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    return row_results(logits)


def _map(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    digits, log_joint, status = _kernels(logits).map_assignment(logits.contiguous(), label.contiguous())
    if check:
        _raise(status, logits, label)
    return digits, log_joint, status


def _map_fake(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    _, log_joint, status = row_results(logits)
    return logits.new_empty(logits.shape[:-1], dtype=int64), log_joint, status


def _sample(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    digits, status = _kernels(logits).sample(logits.contiguous(), label.contiguous(), n_samples, seed, first_row)
    if check:
        _raise(status, logits, label)
    return digits, status


def _sample_fake(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    shape = (n_samples, *logits.shape[:-1])
    return logits.new_empty(shape, dtype=int64), logits.new_empty(logits.shape[0], dtype=uint8)


register(
    "carry_chain_posterior(Tensor logits, Tensor label, bool check) -> (Tensor, Tensor, Tensor)",
    _posterior,
    _posterior_fake,
)
register(
    "carry_chain_em_gradient(Tensor logits, Tensor label, float scale, bool check) -> (Tensor, Tensor, Tensor)",
    _em_gradient,
    _em_gradient_fake,
)
register(
    "carry_chain_map(Tensor logits, Tensor label, bool check) -> (Tensor, Tensor, Tensor)",
    _map,
    _map_fake,
)
register(
    "carry_chain_sample(Tensor logits, Tensor label, SymInt n_samples, int seed, int first_row, bool check)"
    " -> (Tensor, Tensor)",
    _sample,
    _sample_fake,
)
