"""Which kernels an op runs: chosen by the tensor's device, or by the caller.

reference   plain float64 torch, any device: slow, the specification
cpu         Numba kernels, CPU tensors
triton      Triton kernels, CUDA tensors (CPU tensors under TRITON_INTERPRET=1 or another Triton driver)
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch

PACKAGES = {
    "reference": "emnesy_gpu.reference",
    "cpu": "emnesy_gpu.kernels.cpu",
    "triton": "emnesy_gpu.kernels.gpu",
}
BY_DEVICE = {"cpu": "cpu", "cuda": "triton"}

_forced: ContextVar[str | None] = ContextVar("emnesy_gpu_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Make every op in this context run on one back end, whatever the device of its tensors.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> logits, label = torch.zeros(1, 2, 1, 10), torch.tensor([[0, 0]])
    >>> with em.backend("reference"):
    ...     em.posterior(problem, logits, label).marginals.argmax(-1).tolist()
    [[[0], [0]]]
    """
    if name not in PACKAGES:
        raise ValueError(f"backend must be one of {sorted(PACKAGES)}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(device: torch.device) -> str:
    """The name of the back end that runs ops on tensors of this device."""
    forced = _forced.get()
    if forced is not None:
        return forced
    if device.type not in BY_DEVICE:
        raise NotImplementedError(f"no kernels for device {device.type!r}: use tensors on cpu or cuda")
    return BY_DEVICE[device.type]


def kernels_for(stem: str, device: torch.device) -> ModuleType:
    """The module of launch functions that runs the ops of one stem on tensors of this device."""
    return _module(backend_for(device), stem)


@functools.cache
def _module(name: str, stem: str) -> ModuleType:
    try:
        return importlib.import_module(f"{PACKAGES[name]}.{stem}")
    except ModuleNotFoundError as error:
        if name == "triton" and (error.name or "").split(".")[0] == "triton":
            raise ModuleNotFoundError(
                "CUDA tensors need Triton, which is not installed: pip install triton", name="triton"
            ) from error
        raise
