"""Loads, stores, atomics and asynchronous copies.

An asynchronous copy completes at once, so a missing wait is not noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator.active import ActiveSet
from profiling.gpu_simulator.decoding import Action, Decoding, Reader, opcode
from profiling.gpu_simulator.instructions.warp import REDUCTIONS
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.memory import LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from profiling.gpu_simulator.monitor import Access
from profiling.gpu_simulator.ptx_types import BITS, UNSIGNED, value_dtype

_TYPES = tuple(name for name, width in BITS.items() if width <= 64 and "x2" not in name and "bf" not in name)
_SPACES = ("global", "shared", "shared::cta", "local", "const")
_ORDERS = ("weak", "relaxed", "acquire", "release", "acq_rel", "volatile")
_SCOPES = ("cta", "cluster", "gpu", "sys")
_CACHE_OPERATORS = ("ca", "cg", "cs", "lu", "cv", "wb", "wt")
_EVICTIONS = tuple(
    f"{level}::{policy}"
    for level in ("L1", "L2")
    for policy in ("evict_first", "evict_last", "evict_normal", "evict_unchanged", "no_allocate")
)
_PREFETCH_SIZES = ("L2::64B", "L2::128B", "L2::256B")


Locate = Callable[[Lanes, ActiveSet], Access]


def _take_cache_hints(decoding: Decoding) -> int:
    """Cache operators and hints change nothing here; the number of extra operands they bring."""
    for names in (_CACHE_OPERATORS, _PREFETCH_SIZES):
        decoding.choice(names, "")
    while decoding.choice(_EVICTIONS, ""):
        pass
    return int(decoding.flag("L2::cache_hint"))


def _locate(decoding: Decoding, space: str, address_text: str, n_elements: int, element_bytes: int) -> Locate:
    read, instruction, n_bytes = decoding.address(address_text), decoding.instruction, n_elements * element_bytes

    def locate(lanes: Lanes, active: ActiveSet) -> Access:
        where, addresses = space, active.pick(lanes.full(read(lanes)))
        if where == "generic":
            where, addresses = _resolve_generic(addresses)
        return lanes.monitor.locate(instruction, active, where, addresses, n_bytes, element_bytes)

    return locate


def _resolve_generic(addresses: np.ndarray) -> tuple[str, np.ndarray]:
    for space, window in (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW)):
        if ((addresses >= window) & (addresses < window + WINDOW_BYTES)).all():
            return space, addresses - window
    return "global", addresses


def _space(decoding: Decoding) -> str:
    """Constants live in global memory."""
    return {"shared::cta": "shared", "const": "global"}.get(space := decoding.choice(_SPACES, "generic"), space)


@opcode("ld")
def decode_load(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*_TYPES)
    n_elements = int(decoding.choice(("v2", "v4", "v8"), "v1")[1:])
    targets = [decoding.destination(name) for name in decoding.vector(decoding.operands[0])]
    if len(targets) != n_elements:
        raise decoding.unsupported(f"{len(targets)} destinations")
    if decoding.flag("param"):
        return _load_parameter(decoding, ptx_type, targets)
    decoding.choice(_ORDERS, "")
    decoding.choice(_SCOPES, "")
    space = _space(decoding)
    decoding.flag("nc")
    decoding.end(2 + _take_cache_hints(decoding))
    dtype = value_dtype(ptx_type)
    locate = _locate(decoding, space, decoding.operands[1], n_elements, BITS[ptx_type] // 8)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        access = locate(lanes, active)
        lanes.monitor.read(access)
        memory, index = lanes.monitor.elements(access, dtype)
        for i, register in enumerate(targets):
            if register is not None:
                lanes.write(register, active.spread(memory[index + i]), active)

    return action


def _load_parameter(decoding: Decoding, ptx_type: str, targets: list[int | None]) -> Action:
    decoding.end(2)
    match = re.fullmatch(r"\[\s*([\w$]+)\s*(?:\+\s*(\d+))?\s*\]", decoding.operands[1])
    if match is None or match[1] not in decoding.scope.parameters:
        raise decoding.unsupported(f"parameter address {decoding.operands[1]}")
    name, offset, width = match[1], int(match[2] or 0), BITS[ptx_type] // 8
    dtype = value_dtype(ptx_type)
    if offset + width * len(targets) > decoding.scope.parameters[name]:
        raise decoding.unsupported(f"read past the end of parameter {name}")

    def action(lanes: Lanes, active: ActiveSet) -> None:
        raw = lanes.launch.parameters[name]
        for i, register in enumerate(targets):
            if register is not None:
                start = offset + i * width
                lanes.write(register, raw[start : start + width].copy().view(dtype), active)

    return action


@opcode("st")
def decode_store(decoding: Decoding) -> Action:
    ptx_type = decoding.type(*_TYPES)
    n_elements = int(decoding.choice(("v2", "v4", "v8"), "v1")[1:])
    decoding.choice(_ORDERS, "")
    decoding.choice(_SCOPES, "")
    space = _space(decoding)
    decoding.end(2 + _take_cache_hints(decoding))
    names = decoding.vector(decoding.operands[1])
    if len(names) != n_elements:
        raise decoding.unsupported(f"{len(names)} sources")
    sources = [decoding.reader(name, f"b{BITS[ptx_type]}") for name in names]
    dtype = UNSIGNED[BITS[ptx_type]]
    locate = _locate(decoding, space, decoding.operands[0], n_elements, BITS[ptx_type] // 8)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        values = [active.pick(lanes.full(read(lanes))) for read in sources]
        _store(lanes, locate(lanes, active), values, dtype)

    return action


def _store(lanes: Lanes, access: Access, values: list[np.ndarray], dtype: type) -> None:
    memory, index = lanes.monitor.elements(access, dtype)
    checked = lanes.launch.checks and access.space != "local"
    unchanged = np.ones(len(index), bool)
    if checked:
        for i, value in enumerate(values):
            unchanged &= memory[index + i] == value
    lanes.monitor.write(access, unchanged)
    for i, value in enumerate(values):
        memory[index + i] = value
    if checked:
        for i, value in enumerate(values):
            lanes.monitor.report_conflict(access, memory[index + i] != value)


def _compare_and_swap(old: np.ndarray, expected: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(old == expected, value, old)


_UPDATES: dict[str, Callable[..., np.ndarray]] = {
    **REDUCTIONS,
    "exch": lambda old, value: value,
    "cas": _compare_and_swap,
    "inc": lambda old, bound: np.where(old >= bound, old.dtype.type(0), old + old.dtype.type(1)),
    "dec": lambda old, bound: np.where((old == 0) | (old > bound), bound, old - old.dtype.type(1)),
}
_ATOMIC_TYPES = {
    **dict.fromkeys(("and", "or", "xor", "exch", "cas"), ("b32", "b64")),
    **dict.fromkeys(("inc", "dec"), ("u32",)),
    **dict.fromkeys(("min", "max"), ("u32", "s32", "u64", "s64")),
    "add": ("u32", "s32", "u64", "f32", "f64"),
}


@opcode("atom", "red")
def decode_atomic(decoding: Decoding) -> Action:
    """Lanes take turns in lane order."""
    name = decoding.choice(_UPDATES)
    ptx_type = decoding.type(*_ATOMIC_TYPES[name])
    decoding.choice(_ORDERS, "")
    decoding.choice(_SCOPES, "")
    space = _space(decoding)
    n_values, has_result = (2 if name == "cas" else 1), decoding.name == "atom"
    decoding.end(1 + n_values + has_result + _take_cache_hints(decoding))
    first = 1 if has_result else 0
    target = decoding.destination() if has_result else None
    sources = [decoding.read(first + 1 + i, ptx_type) for i in range(n_values)]
    dtype = value_dtype(ptx_type)
    locate = _locate(decoding, space, decoding.operands[first], 1, BITS[ptx_type] // 8)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        access = locate(lanes, active)
        values = [active.pick(lanes.full(read(lanes))) for read in sources]
        lanes.monitor.write(access, np.zeros(active.count, bool), atomic=True)
        lanes.monitor.count_atomics(active.count)
        old = _take_turns(*lanes.monitor.elements(access, dtype), _UPDATES[name], values)
        if target is not None:
            lanes.write(target, active.spread(old), active)

    return action


def _take_turns(
    memory: np.ndarray, index: np.ndarray, update: Callable[..., np.ndarray], values: list[np.ndarray]
) -> np.ndarray:
    """Apply the updates one after the other where they share an address; the values found before each."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    run_start = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    turn = np.arange(len(index)) - np.maximum.accumulate(np.where(run_start, np.arange(len(index)), 0))
    old = np.empty(len(index), memory.dtype)
    for number in range(int(turn.max()) + 1):
        chosen = order[turn == number]
        old[chosen] = memory[index[chosen]]
        memory[index[chosen]] = update(old[chosen], *(value[chosen] for value in values))
    return old


@opcode("cp")
def decode_copy(decoding: Decoding) -> Action:
    """cp.async of 4, 8 or 16 bytes per lane; bytes beyond the optional source size are zero."""
    decoding.choice(("async",))
    if decoding.flag("commit_group", "wait_group", "wait_all"):
        decoding.end()
        return lambda lanes, active: None
    decoding.choice(("ca", "cg"))
    decoding.choice(("shared", "shared::cta"))
    decoding.choice(("global",))
    extra = _take_cache_hints(decoding)
    decoding.end()
    n_bytes = int(decoding.operands[2], 0)
    n_words = n_bytes // 4
    has_size = len(decoding.operands) == 4 + extra
    size: Reader = decoding.read(3, "u32") if has_size else (lambda lanes: np.array([n_bytes], np.uint32))
    locate_target = _locate(decoding, "shared", decoding.operands[0], n_words, 4)
    locate_source = _locate(decoding, "global", decoding.operands[1], n_words, 4)

    def action(lanes: Lanes, active: ActiveSet) -> None:
        target = locate_target(lanes, active)
        kept = active.pick(lanes.full(size(lanes)))
        words = np.zeros((len(kept), n_words), np.uint32)
        reading = active.where(lanes.full(size(lanes)) > 0)
        if reading.count:
            source = locate_source(lanes, reading)
            lanes.monitor.read(source)
            memory, index = lanes.monitor.elements(source, np.uint32)
            words[kept > 0] = memory[index[:, None] + np.arange(n_words)]
        words.view(np.uint8)[np.arange(n_bytes) >= kept[:, None]] = 0
        _store(lanes, target, list(words.T), np.uint32)

    return action
