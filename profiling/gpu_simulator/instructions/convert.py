"""cvt: between integers, floats and packed halves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator import floats
from profiling.gpu_simulator.decoding import Action, Decoding, opcode
from profiling.gpu_simulator.ptx_types import BITS, f32_to_half, half_to_f32, value_dtype

_INTEGERS = tuple(f"{kind}{width}" for kind in "us" for width in (8, 16, 32, 64))
_FLOATS = ("f16", "bf16", "f32", "f64")
_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
Convert = Callable[[np.ndarray], np.ndarray]


@opcode("cvt")
def decode_conversion(decoding: Decoding) -> Action:
    source = decoding.type(*_INTEGERS, *_FLOATS)
    target = decoding.type(*_INTEGERS, *_FLOATS, "f16x2", "bf16x2", "tf32")
    if target.endswith("x2"):
        return _pack_halves(decoding, target, source)
    if target == "tf32":
        return _to_tf32(decoding)
    if source in _INTEGERS:
        convert = _from_integer(decoding, target, source)
    elif target in _INTEGERS:
        convert = _float_to_integer(decoding, target, source)
    else:
        convert = _float_to_float(decoding, target, source)
    decoding.end(2)
    raw_source = "b16" if source in ("f16", "bf16") else source
    return decoding.assign(convert, decoding.read(1, raw_source))


def _from_integer(decoding: Decoding, target: str, source: str) -> Convert:
    if target in _INTEGERS:
        if decoding.flag("sat"):
            limits, dtype = np.iinfo(value_dtype(target)), value_dtype(target)
            low, high = _common_limits(limits, np.iinfo(value_dtype(source)))
            return lambda a: np.clip(a, low, high).astype(dtype)
        return lambda a: a.astype(value_dtype(target))
    decoding.choice(("rn",))
    if target in ("f16", "bf16"):
        if BITS[source] > 16:
            raise decoding.unsupported(f"cvt.{target}.{source}")
        return lambda a: f32_to_half(a.astype(np.float32), target)
    return lambda a: a.astype(value_dtype(target))


def _common_limits(target: np.iinfo, source: np.iinfo) -> tuple[int, int]:
    return max(target.min, source.min), min(target.max, source.max)


def _widen(source: str) -> Convert:
    """Raw halves to float32; f32 and f64 as they are."""
    return (lambda a: half_to_f32(a, source)) if source in ("f16", "bf16") else (lambda a: a)


def _float_to_integer(decoding: Decoding, target: str, source: str) -> Convert:
    """Out-of-range values saturate and NaN becomes 0, with or without .sat."""
    to_integral = _TO_INTEGRAL[decoding.choice(_TO_INTEGRAL)]
    flush = floats.flush if decoding.flag("ftz") and source == "f32" else lambda a: a
    decoding.flag("sat")
    widen, dtype, limits = _widen(source), value_dtype(target), np.iinfo(value_dtype(target))
    upper = float(limits.max) if BITS[target] < 64 else np.nextafter(float(limits.max), 0)

    def convert(a: np.ndarray) -> np.ndarray:
        values = to_integral(flush(widen(a))).astype(np.float64)
        inside: np.ndarray = np.clip(np.where(np.isnan(values), 0.0, values), float(limits.min), upper).astype(dtype)
        return np.where(values > upper, dtype(limits.max), inside)

    return convert


def _float_to_float(decoding: Decoding, target: str, source: str) -> Convert:
    integral = decoding.choice(_TO_INTEGRAL, "")
    rounding = decoding.choice(("rn", "rz", "rm", "rp"), "rn")
    if rounding != "rn" and (source, target) != ("f64", "f32"):
        raise decoding.unsupported(f"rounding .{rounding} of cvt.{target}.{source}")
    flush, saturate = decoding.flag("ftz"), decoding.flag("sat")
    widen = _widen(source)

    def convert(a: np.ndarray) -> np.ndarray:
        values = widen(a)
        values = floats.flush(values) if flush and values.dtype == np.float32 else values
        values = _TO_INTEGRAL[integral](values) if integral else values
        if rounding != "rn":
            values = floats.sum_to_f32(values, np.zeros(1), rounding)
        if saturate:
            values = np.where(np.isnan(values), values.dtype.type(0), np.clip(values, 0, 1))
        if target in ("f16", "bf16"):
            return f32_to_half(values, target)
        values = values.astype(value_dtype(target))
        return floats.flush(values) if flush and target == "f32" else values

    return convert


def _pack_halves(decoding: Decoding, target: str, source: str) -> Action:
    """The first source becomes the upper half."""
    if source != "f32":
        raise decoding.unsupported(f"cvt.{target}.{source}")
    decoding.choice(("rn",))
    decoding.end(3)

    def pack(high: np.ndarray, low: np.ndarray) -> np.ndarray:
        raw = [f32_to_half(value, target).astype(np.uint32) for value in (high, low)]
        return raw[0] << np.uint32(16) | raw[1]

    return decoding.assign(pack, decoding.read(1, "f32"), decoding.read(2, "f32"))


def _to_tf32(decoding: Decoding) -> Action:
    """Round half away from zero to 10 mantissa bits."""
    decoding.choice(("rna",))
    decoding.end(2)
    return decoding.assign(lambda raw: (raw + np.uint32(0x1000)) & np.uint32(0xFFFF_E000), decoding.read(1, "b32"))
