"""Every Triton kernel compiles for every architecture and keeps its values in registers."""

from __future__ import annotations

import importlib
import os
import pkgutil

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

import emnesy_gpu.kernels.gpu

from tests.kernel_registry import KERNELS, KernelEntry
from tests.static_checks import (
    AMD_ARCHITECTURE,
    NVIDIA_ARCHITECTURES,
    compile_kernel,
    resource_usage,
)

ENTRIES = [
    pytest.param(entry, id=entry.name.replace(" ", "-"), marks=[pytest.mark.slow] if entry.slow else [])
    for entry in KERNELS
]


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("arch", NVIDIA_ARCHITECTURES)
def test_no_spills(entry: KernelEntry, arch: int) -> None:
    usage = resource_usage(compile_kernel(entry.kernel, entry.signature, entry.constexprs, arch, entry.num_warps))
    assert usage.spill_bytes == 0
    assert usage.registers * entry.num_warps * 32 <= 65536
    assert usage.shared_memory <= 48 * 1024


@pytest.mark.parametrize("entry", ENTRIES)
def test_compiles_for_amd(entry: KernelEntry) -> None:
    compiled = compile_kernel(entry.kernel, entry.signature, entry.constexprs, AMD_ARCHITECTURE, entry.num_warps)
    assert compiled.asm["hsaco"]


def test_registry_is_complete() -> None:
    registered = {entry.kernel.fn.__name__ for entry in KERNELS}
    found = set()
    for module in pkgutil.iter_modules(emnesy_gpu.kernels.gpu.__path__):
        namespace = vars(importlib.import_module(f"emnesy_gpu.kernels.gpu.{module.name}"))
        found |= {name for name in namespace if name.endswith("_kernel") and hasattr(namespace[name], "arg_names")}
    assert registered == found
