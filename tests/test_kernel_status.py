"""Triton kernels and CUDA C kernels have the row status codes of kernels/status.py, and no others."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu.kernels.gpu
from emnesy_gpu.kernels import status
from emnesy_gpu.kernels.cuda import loader

CODES = {name: code for name, code in vars(status).items() if name.isupper()}


def test_triton_kernels_name_every_status_code() -> None:
    package = emnesy_gpu.kernels.gpu
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    spaces = [vars(importlib.import_module(name)) for name in modules]
    found = {(name, space[name].value) for space in spaces for name in CODES if name in space}
    assert found == set(CODES.items())


def test_cuda_c_kernels_get_every_status_code() -> None:
    assert {f"-D{name}={code}" for name, code in CODES.items()} <= set(loader.compiler_options(()))
