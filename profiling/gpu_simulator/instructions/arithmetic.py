"""Integer and floating-point arithmetic, and the special functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator import floats, integers
from profiling.gpu_simulator.active import ActiveSet
from profiling.gpu_simulator.decoding import Action, Decoding, opcode
from profiling.gpu_simulator.instructions.halves import HALF_TYPES, decode_half, decode_mixed
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.ptx_types import INTEGERS

_WORDS = ("u32", "s32", "u64", "s64")
_ROUNDINGS = ("rn", "rz", "rm", "rp")
Function = Callable[..., np.ndarray]


def _finish_float(decoding: Decoding, function: Function, n_sources: int, ptx_type: str, sat: bool = True) -> Action:
    """Take .ftz and .sat, which apply to float32 only."""
    if ptx_type == "f32" and decoding.flag("ftz"):
        function = floats.flushing(function)
    if ptx_type == "f32" and sat and decoding.flag("sat"):
        function = floats.saturating(function)
    return decoding.assign_typed(function, n_sources, ptx_type)


def _rounding(decoding: Decoding, ptx_type: str) -> str:
    rounding = decoding.choice(_ROUNDINGS, "rn")
    if ptx_type != "f32" and rounding != "rn":
        raise decoding.unsupported(f"rounding .{rounding} of {decoding.name}.{ptx_type}")
    return rounding


def _float_sum(name: str, rounding: str) -> Function:
    if rounding == "rn":
        return np.add if name == "add" else np.subtract
    sign = 1.0 if name == "add" else -1.0
    return lambda a, b: floats.sum_to_f32(a.astype(np.float64), sign * b.astype(np.float64), rounding)


def _packed_f32(decoding: Decoding, function: Function, n_sources: int) -> Action:
    """Two float32 in one 64-bit register."""
    decoding.choice(("rn",), "rn")
    if decoding.flag("ftz"):
        function = floats.flushing(function)

    def packed(*operands: np.ndarray) -> np.ndarray:
        halves = [np.ascontiguousarray(operand).view(np.float32).reshape(-1, 2) for operand in operands]
        return np.ascontiguousarray(function(*halves)).view(np.uint64).reshape(-1)

    return decoding.assign_typed(packed, n_sources, "b64")


@opcode("add", "sub")
def decode_sum(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*INTEGERS, "f32", "f64", "f32x2", *HALF_TYPES)
    function = np.add if decoding.name == "add" else np.subtract
    if ptx_type in HALF_TYPES:
        return decode_mixed(decoding, ptx_type) if decoding.flag("f32") else decode_half(decoding, ptx_type)
    if ptx_type == "f32x2":
        return _packed_f32(decoding, function, 2)
    if ptx_type in ("f32", "f64"):
        return _finish_float(decoding, _float_sum(decoding.name, _rounding(decoding, ptx_type)), 2, ptx_type)
    if decoding.flag("cc"):
        return _with_carry(decoding, ptx_type, carry_in=False, carry_out=True)
    return decoding.assign_typed(function, 2, ptx_type)


@opcode("addc", "subc")
def decode_sum_with_carry(decoding: Decoding) -> Action:
    ptx_type = decoding.type("u32", "s32")
    return _with_carry(decoding, ptx_type, carry_in=True, carry_out=decoding.flag("cc"))


def _with_carry(decoding: Decoding, ptx_type: str, carry_in: bool, carry_out: bool) -> Action:
    """32-bit add and sub through the carry flag; a borrow is a carry of 1."""
    if ptx_type not in ("u32", "s32"):
        raise decoding.unsupported(f"carry of {decoding.name}.{ptx_type}")
    decoding.end(3)
    target, left, right = decoding.destination(), decoding.read(1, "u32"), decoding.read(2, "u32")
    combine = np.add if decoding.name.startswith("add") else np.subtract
    assert target is not None

    def action(lanes: Lanes, active: ActiveSet) -> None:
        total = combine(left(lanes).astype(np.uint64), right(lanes).astype(np.uint64))
        if carry_in:
            total = combine(total, lanes.carry)
        _write_low_word(lanes, active, target, total, carry_out)

    return action


def _write_low_word(lanes: Lanes, active: ActiveSet, target: int, total: np.ndarray, carry_out: bool) -> None:
    if carry_out:
        carry = (total >> np.uint64(32)) & np.uint64(1)
        lanes.carry = carry if active.mask is None else np.where(active.mask, carry, lanes.carry)
    lanes.write(target, (total & np.uint64(0xFFFF_FFFF)).astype(np.uint32), active)


@opcode("mul")
def decode_product(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*INTEGERS, "f32", "f64", "f32x2", *HALF_TYPES)
    if ptx_type in HALF_TYPES:
        return decode_half(decoding, ptx_type)
    if ptx_type == "f32x2":
        return _packed_f32(decoding, np.multiply, 2)
    if ptx_type in ("f32", "f64"):
        rounding = _rounding(decoding, ptx_type)
        function: Function = np.multiply
        if rounding != "rn":
            function = lambda a, b: floats.fma_f32(a, b, np.zeros(1, np.float32), rounding)  # noqa: E731
        return _finish_float(decoding, function, 2, ptx_type)
    part = decoding.choice(("lo", "hi", "wide"))
    if part == "wide" and ptx_type.endswith("64"):
        raise decoding.unsupported("128-bit product")
    functions: dict[str, Function] = {"lo": np.multiply, "hi": integers.multiply_high, "wide": integers.multiply_wide}
    return decoding.assign_typed(functions[part], 2, ptx_type)


@opcode("mad", "madc")
def decode_multiply_add(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*INTEGERS, "f32", "f64")
    if ptx_type in ("f32", "f64"):
        return _fused(decoding, ptx_type)
    part = decoding.choice(("lo", "hi", "wide"))
    carry_out = decoding.flag("cc")
    if carry_out or decoding.name == "madc":
        return _multiply_add_with_carry(decoding, ptx_type, part, carry_out)
    decoding.end(4)
    sources = decoding.read(1, ptx_type), decoding.read(2, ptx_type)
    if part == "wide":
        wider = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}[ptx_type]
        return decoding.assign(lambda a, b, c: integers.multiply_wide(a, b) + c, *sources, decoding.read(3, wider))
    multiply = np.multiply if part == "lo" else integers.multiply_high
    return decoding.assign(lambda a, b, c: multiply(a, b) + c, *sources, decoding.read(3, ptx_type))


def _multiply_add_with_carry(decoding: Decoding, ptx_type: str, part: str, carry_out: bool) -> Action:
    if ptx_type != "u32" or part == "wide":
        raise decoding.unsupported(f"carry of mad.{part}.{ptx_type}")
    decoding.end(4)
    target, carry_in = decoding.destination(), decoding.name == "madc"
    a, b, c = (decoding.read(i, "u32") for i in (1, 2, 3))
    assert target is not None

    def action(lanes: Lanes, active: ActiveSet) -> None:
        product = integers.multiply_wide(a(lanes), b(lanes))
        word = product >> np.uint64(32) if part == "hi" else product & np.uint64(0xFFFF_FFFF)
        total = word + c(lanes) + (lanes.carry if carry_in else np.uint64(0))
        _write_low_word(lanes, active, target, total, carry_out)

    return action


@opcode("fma")
def decode_fma(decoding: Decoding) -> Action:
    ptx_type = decoding.type("f32", "f64", "f32x2", *HALF_TYPES)
    if ptx_type in HALF_TYPES:
        return decode_mixed(decoding, ptx_type) if decoding.flag("f32") else decode_half(decoding, ptx_type)
    if ptx_type == "f32x2":
        return _packed_f32(decoding, floats.fma_f32, 3)
    return _fused(decoding, ptx_type)


def _fused(decoding: Decoding, ptx_type: str) -> Action:
    rounding = _rounding(decoding, ptx_type)
    function: Function = floats.fma_f64
    if ptx_type == "f32":
        function = lambda a, b, c: floats.fma_f32(a, b, c, rounding)  # noqa: E731
    return _finish_float(decoding, function, 3, ptx_type)


@opcode("div")
def decode_division(decoding: Decoding) -> Action:
    """.full and .approx are modelled as the correctly rounded quotient."""
    ptx_type = decoding.type(*INTEGERS, "f32", "f64")
    if ptx_type not in ("f32", "f64"):
        return decoding.assign_typed(integers.divide, 2, ptx_type)
    decoding.choice(("rn", "full", "approx") if ptx_type == "f32" else ("rn",))
    return _finish_float(decoding, np.divide, 2, ptx_type, sat=False)


@opcode("rem")
def decode_remainder(decoding: Decoding) -> Action:
    return decoding.assign_typed(integers.remainder, 2, decoding.type(*INTEGERS))


@opcode("min", "max")
def decode_extremum(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*INTEGERS, "f32", "f64", *HALF_TYPES)
    if ptx_type in HALF_TYPES:
        return decode_half(decoding, ptx_type)
    least = decoding.name == "min"
    if ptx_type not in ("f32", "f64"):
        extremum = np.minimum if least else np.maximum
        if ptx_type == "s32" and decoding.flag("relu"):
            return decoding.assign_typed(lambda a, b: np.maximum(extremum(a, b), np.int32(0)), 2, ptx_type)
        return decoding.assign_typed(extremum, 2, ptx_type)
    function: Function = floats.minimum if least else floats.maximum
    if ptx_type == "f32" and decoding.flag("NaN"):
        function = np.minimum if least else np.maximum
    if len(decoding.operands) == 4:
        return _finish_float(decoding, lambda a, b, c: function(function(a, b), c), 3, ptx_type, sat=False)
    return _finish_float(decoding, function, 2, ptx_type, sat=False)


@opcode("neg", "abs")
def decode_sign(decoding: Decoding) -> Action:
    ptx_type = decoding.type("s16", "s32", "s64", "f32", "f64", *HALF_TYPES)
    if ptx_type in HALF_TYPES:
        return decode_half(decoding, ptx_type)
    return _finish_float(decoding, np.negative if decoding.name == "neg" else np.abs, 1, ptx_type, sat=False)


def _inverse_root(a: np.ndarray) -> np.ndarray:
    return 1.0 / np.sqrt(a)


_SPECIAL: dict[str, tuple[Function, tuple[str, ...]]] = {
    "ex2": (np.exp2, ("approx",)),
    "lg2": (np.log2, ("approx",)),
    "sin": (np.sin, ("approx",)),
    "cos": (np.cos, ("approx",)),
    "tanh": (np.tanh, ("approx",)),
    "rsqrt": (_inverse_root, ("approx",)),
    "sqrt": (np.sqrt, ("approx", "rn")),
    "rcp": (np.reciprocal, ("approx", "rn")),
}


@opcode(*_SPECIAL)
def decode_special(decoding: Decoding) -> Action:
    """Special functions; the approximate ones are modelled as the exact value, rounded."""
    function, accuracies = _SPECIAL[decoding.name]
    half = HALF_TYPES if decoding.name in ("ex2", "tanh") else ()
    double = ("f64",) if decoding.name in ("sqrt", "rcp", "rsqrt") else ()
    ptx_type = decoding.type("f32", *double, *half)
    if ptx_type in HALF_TYPES:
        return decode_half(decoding, ptx_type)
    accuracy = decoding.choice(accuracies)
    if ptx_type == "f64":
        if accuracy == "approx":
            decoding.flag("ftz")
            function = floats.reciprocal_seed if decoding.name == "rcp" else function
        return decoding.assign_typed(function, 1, ptx_type)
    return _finish_float(decoding, floats.through_f64(function), 1, ptx_type, sat=False)


@opcode("copysign")
def decode_copysign(decoding: Decoding) -> Action:
    """The sign of the first source on the magnitude of the second."""
    return decoding.assign_typed(lambda sign, magnitude: np.copysign(magnitude, sign), 2, decoding.type("f32", "f64"))


@opcode("testp")
def decode_test_property(decoding: Decoding) -> Action:
    ptx_type = decoding.type("f32", "f64")
    tiny = np.finfo(np.float32 if ptx_type == "f32" else np.float64).tiny
    functions: dict[str, Function] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= tiny),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < tiny),
    }
    return decoding.assign_typed(functions[decoding.choice(functions)], 1, ptx_type)
