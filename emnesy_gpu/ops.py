"""Every operator of the package: schema, implementation and shape function, all registered here.

The operators are opaque to torch.compile and carry no autograd formula: the public functions detach their
inputs. Value checks run inside the operators, where they do not break a compiled graph; ``check=False``
leaves them out, and with them the only synchronisation with a GPU.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for

NAMESPACE = "emnesy_gpu"
_library = torch.library.Library(NAMESPACE, "DEF")
NAMES: list[str] = []
"""Every registered operator, without the namespace."""


def _carry_chain(logits: Tensor) -> ModuleType:
    return kernels_for("carry_chain", logits.device)


def _result_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _chain_outputs(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised (values like the logits, log evidence [batch], status [batch])."""
    dtype, batch = _result_dtype(logits), logits.shape[0]
    return (
        logits.new_empty(logits.shape, dtype=dtype),
        logits.new_empty(batch, dtype=dtype),
        logits.new_empty(batch, dtype=torch.uint8),
    )


def _register(schema: str, implementation, fake) -> None:
    name = schema.partition("(")[0]
    NAMES.append(name)
    _library.define(schema)
    for key in ("CPU", "CUDA"):
        _library.impl(name, implementation, key)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)


def _carry_chain_posterior(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    marginals, log_evidence, status = _carry_chain(logits).posterior(logits.contiguous(), label.contiguous())
    if check:
        checks.raise_for_status(status, logits, label)
    return marginals, log_evidence, status


def _carry_chain_posterior_fake(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _chain_outputs(logits)


def _carry_chain_em_gradient(logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    gradient, log_evidence, status = _carry_chain(logits).em_gradient(logits.contiguous(), label.contiguous(), scale)
    if check:
        checks.raise_for_status(status, logits, label)
    return gradient, log_evidence, status


def _carry_chain_em_gradient_fake(
    logits: Tensor, label: Tensor, scale: float, check: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _chain_outputs(logits)


def _carry_chain_map(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    digits, log_joint, status = _carry_chain(logits).map_assignment(logits.contiguous(), label.contiguous())
    if check:
        checks.raise_for_status(status, logits, label)
    return digits, log_joint, status


def _carry_chain_map_fake(logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor]:
    _, log_joint, status = _chain_outputs(logits)
    return logits.new_empty(logits.shape[:-1], dtype=torch.int64), log_joint, status


def _carry_chain_sample(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    digits, status = _carry_chain(logits).sample(logits.contiguous(), label.contiguous(), n_samples, seed, first_row)
    if check:
        checks.raise_for_status(status, logits, label)
    return digits, status


def _carry_chain_sample_fake(
    logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool
) -> tuple[Tensor, Tensor]:
    shape = (n_samples, *logits.shape[:-1])
    return logits.new_empty(shape, dtype=torch.int64), logits.new_empty(logits.shape[0], dtype=torch.uint8)


_register(
    "carry_chain_posterior(Tensor logits, Tensor label, bool check) -> (Tensor, Tensor, Tensor)",
    _carry_chain_posterior,
    _carry_chain_posterior_fake,
)
_register(
    "carry_chain_em_gradient(Tensor logits, Tensor label, float scale, bool check) -> (Tensor, Tensor, Tensor)",
    _carry_chain_em_gradient,
    _carry_chain_em_gradient_fake,
)
_register(
    "carry_chain_map(Tensor logits, Tensor label, bool check) -> (Tensor, Tensor, Tensor)",
    _carry_chain_map,
    _carry_chain_map_fake,
)
_register(
    "carry_chain_sample(Tensor logits, Tensor label, SymInt n_samples, int seed, int first_row, bool check)"
    " -> (Tensor, Tensor)",
    _carry_chain_sample,
    _carry_chain_sample_fake,
)
