"""Moves, address conversions, comparisons, selection, and the instructions without effect in this model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator.active import ActiveSet
from profiling.gpu_simulator.decoding import Action, Decoding, opcode
from profiling.gpu_simulator.errors import KernelTrap
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.memory import LOCAL_WINDOW, SHARED_WINDOW
from profiling.gpu_simulator.ptx_types import BITS, INTEGERS, UNSIGNED, half_to_f32

_BITS = ("b16", "b32", "b64")
_NUMBERS = (*_BITS, *INTEGERS, "f32", "f64")


@opcode("mov")
def decode_move(decoding: Decoding) -> Action:
    ptx_type = decoding.type("pred", "b128", *_NUMBERS)
    decoding.end(2)
    target, source = decoding.operands
    if target.startswith("{"):
        return _unpack(decoding, target, source, ptx_type)
    if source.startswith("{"):
        return _pack(decoding, target, source, ptx_type)
    return decoding.assign(lambda a: a, decoding.read(1, ptx_type))


def _unpack(decoding: Decoding, target: str, source: str, ptx_type: str) -> Action:
    names = decoding.vector(target)
    width = BITS[ptx_type] // len(names)
    targets = [decoding.destination(name) for name in names]
    read = decoding.reader(source, ptx_type)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        value = read(lanes)
        for i, register in enumerate(targets):
            if register is not None:
                part = value >> value.dtype.type(width * i) if i else value
                lanes.write(register, part.astype(UNSIGNED[width]), active)

    return action


def _pack(decoding: Decoding, target: str, source: str, ptx_type: str) -> Action:
    names = decoding.vector(source)
    width, dtype = BITS[ptx_type] // len(names), UNSIGNED[BITS[ptx_type]]
    readers = [decoding.reader(name, f"b{width}") for name in names]

    def combine(*parts: np.ndarray) -> np.ndarray:
        value = parts[0].astype(dtype)
        for i, part in enumerate(parts[1:], 1):
            value = value | (part.astype(dtype) << dtype(width * i))
        return value

    return decoding.assign(combine, *readers)


@opcode("cvta")
def decode_address_conversion(decoding: Decoding) -> Action:
    """Shared and local memory have windows of their own in the generic address space; global addresses are generic."""
    ptx_type = decoding.type("u64", "u32")
    to_space = decoding.flag("to")
    space = decoding.choice(("global", "shared", "local", "const", "param"))
    base = np.uint64({"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(space, 0))
    if base and ptx_type == "u32":
        raise decoding.unsupported("32-bit generic address")
    if base == 0:
        return decoding.assign_typed(lambda a: a, 1, ptx_type)
    return decoding.assign_typed((lambda a: a - base) if to_space else (lambda a: a + base), 1, ptx_type)


Comparison = Callable[[np.ndarray, np.ndarray], np.ndarray]
_ORDERED: dict[str, Comparison] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


def _float_comparison(name: str) -> Comparison:
    """Ordered comparisons are false on NaN; equ, neu, ltu, leu, gtu, geu are true on NaN."""
    if name in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (name == "nan")
    if name.endswith("u"):
        compare = _ORDERED[name[:-1]]
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    if name == "ne":
        return lambda a, b: (a < b) | (a > b)
    return _ORDERED[name]


def _comparison(decoding: Decoding, ptx_type: str) -> Comparison:
    if ptx_type[0] in "busp" and not ptx_type.startswith("bf"):
        names = ("eq", "ne") if ptx_type[0] == "b" else (*_ORDERED, *_UNSIGNED_NAMES)
        name = decoding.choice(names)
        return _ORDERED[_UNSIGNED_NAMES.get(name, name)]
    unordered = [f"{name}u" for name in _ORDERED]
    compare = _float_comparison(decoding.choice((*_ORDERED, *unordered, "num", "nan")))
    if ptx_type in ("f16", "bf16"):
        return lambda a, b: compare(half_to_f32(a, ptx_type), half_to_f32(b, ptx_type))
    return compare


@opcode("setp")
def decode_comparison(decoding: Decoding) -> Action:
    """p[|q] = (a cmp b) [bool c]; q takes the negated comparison."""
    ptx_type = decoding.type(*_NUMBERS, "f16", "bf16")
    if ptx_type == "f32" and decoding.flag("ftz"):
        raise decoding.unsupported("setp.ftz")
    combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(
        decoding.choice(("and", "or", "xor"), "")
    )
    compare = _comparison(decoding, ptx_type)
    decoding.end(3 if combine is None else 4)
    raw_type = "b16" if ptx_type in ("f16", "bf16") else ptx_type
    left, right = decoding.read(1, raw_type), decoding.read(2, raw_type)
    negate_third = combine is not None and decoding.operands[3].startswith("!")
    third = None if combine is None else decoding.reader(decoding.operands[3].lstrip("!"), "pred")
    targets = [decoding.destination(name.strip()) for name in decoding.operands[0].split("|")]

    def action(lanes: Lanes, active: ActiveSet) -> None:
        result = compare(left(lanes), right(lanes))
        other = third(lanes) ^ negate_third if third is not None else None
        for register, value in zip(targets, (result, ~result), strict=False):
            if register is not None:
                lanes.write(register, value if other is None else combine(value, other), active)  # type: ignore[misc]

    return action


@opcode("selp")
def decode_selection(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*_NUMBERS)
    decoding.end(4)
    readers = decoding.read(1, ptx_type), decoding.read(2, ptx_type), decoding.read(3, "pred")
    return decoding.assign(_select, *readers)


def _select(a: np.ndarray, b: np.ndarray, predicate: np.ndarray) -> np.ndarray:
    return np.where(predicate, a, b)


def _no_effect(lanes: Lanes, active: ActiveSet) -> None:
    pass


_NO_EFFECT = {
    "membar": "cta gl sys",
    "fence": "proxy alias async acq_rel sc acquire release cta cluster gpu sys global shared::cta",
    "nanosleep": "u32",
    "griddepcontrol": "wait launch_dependents",
    "prefetch": "global L1 L2",
    "discard": "global L2",
}


@opcode(*_NO_EFFECT)
def decode_hint(decoding: Decoding) -> Action:
    """Memory in this model is sequentially consistent, so fences have nothing to order."""
    for suffix in _NO_EFFECT[decoding.name].split():
        decoding.flag(suffix)
    decoding.end()
    return _no_effect


@opcode("createpolicy")
def decode_cache_policy(decoding: Decoding) -> Action:
    decoding.type("b64")
    for suffix in ("fractional", "L2::evict_first", "L2::evict_last", "L2::evict_normal", "L2::evict_unchanged"):
        decoding.flag(suffix)
    decoding.end()
    return decoding.assign(lambda: np.zeros(1, np.uint64))


@opcode("trap")
def decode_trap(decoding: Decoding) -> Action:
    decoding.end(0)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        raise KernelTrap(f"trap at {decoding.instruction}")

    return action
