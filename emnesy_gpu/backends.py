"""Back ends, the implementations of an operator: chosen by the device of its tensors, or by the caller.

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
"""Name of a back end -> the package with its modules, one a stem."""

NEEDS = {"reference": "torch", "cpu": "numba", "triton": "triton"}
"""Name of a back end -> the package that it is written in; llvmlite comes with Numba."""

BY_DEVICE = {"cpu": "cpu", "cuda": "triton"}
"""Type of a device -> the back end of its tensors, where the caller has not chosen one."""

_forced: ContextVar[str | None] = ContextVar("emnesy_gpu_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run every operator in this context on one back end, whatever the device of its tensors.

    The back ends agree up to rounding, and draw the same samples for the same seed. The choice holds for the current
    thread or asyncio task.

    Args:
        name: "cpu" (Numba, CPU tensors), "triton" (CUDA tensors) or "reference" (plain float64 torch, slow).

    Raises ValueError for another name.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> logits, label = torch.zeros(1, 2, 1, 10), torch.tensor([[0, 0]])
    >>> with em.backend("reference"):
    ...     em.posterior(problem, logits, label).marginals.argmax(-1).tolist()
    [[[0], [0]]]
    """
    if not isinstance(name, str) or name not in PACKAGES:
        raise ValueError(f"name of the backend must be one of {sorted(PACKAGES)}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_for(device: torch.device) -> str:
    """The name of the back end that runs operators on tensors of a device."""
    return _forced.get() or _of_device(device)


@functools.cache
def _of_device(device: torch.device) -> str:
    if device.type not in BY_DEVICE:
        raise NotImplementedError(f"there are no kernels for device {device.type!r}: use tensors on cpu or cuda")
    return BY_DEVICE[device.type]


def kernels_for(stem: str, device: torch.device) -> ModuleType:
    """The module of launch functions of a stem, such as "carry_chain", for tensors of a device."""
    return load_kernels(backend_for(device), stem)


def small_kernels_for(stem: str, device: torch.device) -> ModuleType:
    """The same for a small step of an operator, which has a kernel on GPUs alone: plain torch serves on CPUs."""
    name = backend_for(device)
    return load_kernels("reference" if name == "cpu" else name, stem)


@functools.cache
def load_kernels(name: str, stem: str) -> ModuleType:
    """The module of launch functions of a stem in a back end.

    Raises ModuleNotFoundError, which says what to install, without the package that the back end is written in.
    """
    try:
        return importlib.import_module(f"{PACKAGES[name]}.{stem}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in (NEEDS[name], "llvmlite"):
            raise
        tensors = "CUDA" if name == "triton" else "CPU"
        raise ModuleNotFoundError(
            f"{tensors} tensors need {NEEDS[name].capitalize()}, which is not installed: pip install {NEEDS[name]}",
            name=NEEDS[name],
        ) from error
