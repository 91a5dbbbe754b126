"""Arithmetic on f16, bf16 and their packed pairs: computed in float32 (fma: float64) and rounded once more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator import floats
from profiling.gpu_simulator.decoding import Action, Decoding
from profiling.gpu_simulator.ptx_types import f32_to_half, half_to_f32

HALF_TYPES = ("f16", "bf16", "f16x2", "bf16x2")


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a.astype(np.float64) * b + c


_FUNCTIONS: dict[str, tuple[Callable[..., np.ndarray], int]] = {
    "add": (np.add, 2),
    "sub": (np.subtract, 2),
    "mul": (np.multiply, 2),
    "min": (floats.minimum, 2),
    "max": (floats.maximum, 2),
    "fma": (_fma, 3),
    "neg": (np.negative, 1),
    "abs": (np.abs, 1),
    "ex2": (np.exp2, 1),
    "tanh": (np.tanh, 1),
}


def decode_half(decoding: Decoding, ptx_type: str) -> Action:
    """f16 keeps subnormals unless .ftz is given, which is refused; bf16 has no .ftz in arithmetic."""
    function, n_sources = _FUNCTIONS[decoding.name]
    decoding.choice(("rn", "approx"), "rn")
    if decoding.name in ("min", "max") and decoding.flag("NaN"):
        function = np.minimum if decoding.name == "min" else np.maximum
    if decoding.name == "ex2" and ptx_type.startswith("bf16"):
        decoding.flag("ftz")
    raw_type = "b32" if ptx_type.endswith("x2") else "b16"
    storage = np.uint32 if ptx_type.endswith("x2") else np.uint16

    def on_raw(*operands: np.ndarray) -> np.ndarray:
        values = function(*(half_to_f32(operand, ptx_type) for operand in np.broadcast_arrays(*operands)))
        return np.ascontiguousarray(f32_to_half(values, ptx_type)).view(storage)

    return decoding.assign_typed(on_raw, n_sources, raw_type)


def decode_mixed(decoding: Decoding, half_type: str) -> Action:
    """add, sub and fma of half operands with a float32 addend and result."""
    decoding.choice(("rn",), "rn")
    n_sources = 3 if decoding.name == "fma" else 2
    decoding.end(n_sources + 1)
    sources = [decoding.read(i, "b16") for i in range(1, n_sources)]
    addend = decoding.read(n_sources, "f32")
    if decoding.name == "fma":

        def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
            return floats.fma_f32(half_to_f32(a, half_type), half_to_f32(b, half_type), c)

        return decoding.assign(fused, *sources, addend)
    combine = np.add if decoding.name == "add" else np.subtract
    return decoding.assign(lambda a, c: combine(half_to_f32(a, half_type), c), *sources, addend)
