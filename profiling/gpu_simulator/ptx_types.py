"""PTX scalar types, their widths and the numpy types that hold them."""

from __future__ import annotations

import numpy as np

BITS = {
    **{f"{kind}{width}": width for kind in "bus" for width in (8, 16, 32, 64)},
    "f16": 16,
    "bf16": 16,
    "f32": 32,
    "tf32": 32,
    "f64": 64,
    "f16x2": 32,
    "bf16x2": 32,
    "f32x2": 64,
    "b128": 128,
}
INTEGERS = tuple(f"{kind}{width}" for kind in "us" for width in (16, 32, 64))
SIGNED_ALIASES = {"b8": "u8", "b16": "u16", "b32": "u32", "b64": "u64"}
UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOATING = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "tf32": np.float32}


def storage_dtype(ptx_type: str) -> type:
    """The unsigned numpy type in which a register of this type is kept (bool for predicates)."""
    return np.bool_ if ptx_type == "pred" else UNSIGNED[BITS[ptx_type]]


def value_dtype(ptx_type: str) -> type:
    """The numpy type in which an operand of this type is computed; bf16 and packed types stay raw bits."""
    if ptx_type in FLOATING:
        return FLOATING[ptx_type]
    if ptx_type[0] == "s":
        return SIGNED[BITS[ptx_type]]
    return storage_dtype(ptx_type)


def bf16_to_f32(raw: np.ndarray) -> np.ndarray:
    return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: np.ndarray) -> np.ndarray:
    """Round to nearest even; NaN becomes the canonical 0x7fff."""
    raw = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return np.where(np.isnan(values), np.uint16(0x7FFF), (rounded >> np.uint32(16)).astype(np.uint16))


def half_to_f32(raw: np.ndarray, ptx_type: str) -> np.ndarray:
    """Raw f16 or bf16 bits as float32 values."""
    raw = np.ascontiguousarray(raw).view(np.uint16)
    return raw.view(np.float16).astype(np.float32) if ptx_type.startswith("f16") else bf16_to_f32(raw)


def f32_to_half(values: np.ndarray, ptx_type: str) -> np.ndarray:
    """Float values rounded to raw f16 or bf16 bits."""
    if ptx_type.startswith("f16"):
        return values.astype(np.float16).view(np.uint16)
    return f32_to_bf16(values.astype(np.float32))
