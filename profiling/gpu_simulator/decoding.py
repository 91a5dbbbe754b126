"""From instruction text to an action on `Lanes`: the opcode registry and the helpers that decoders share.

The decoder is a whitelist. Every suffix must be taken by the handler of its opcode (`flag`, `choice`, `type`); what is
left over is an error that names it, so an unknown rounding mode or cache hint never turns into a wrong result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from profiling.gpu_simulator.active import ActiveSet
from profiling.gpu_simulator.errors import UnsupportedPtx
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.ptx_parser import Instruction, vector_elements
from profiling.gpu_simulator.ptx_types import BITS, UNSIGNED, storage_dtype, value_dtype

Action = Callable[[Lanes, ActiveSet], None]
Reader = Callable[[Lanes], np.ndarray]
Handler = Callable[["Decoding"], Action]

HANDLERS: dict[str, Handler] = {}


def opcode(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for opcodes (the part before the first dot)."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


@dataclass(frozen=True)
class Scope:
    """Names that operands may use: registers by index, shared and local variables by offset, globals by name."""

    registers: dict[str, int]
    register_types: tuple[str, ...]
    offsets: dict[str, int]
    globals: frozenset[str]
    parameters: dict[str, int]


class Decoding:
    """One instruction while it is decoded."""

    def __init__(self, instruction: Instruction, scope: Scope) -> None:
        self.instruction = instruction
        self.scope = scope
        self.name, *self._suffixes = instruction.opcode.split(".")
        self.operands = instruction.operands

    def unsupported(self, what: str) -> UnsupportedPtx:
        return UnsupportedPtx(f"{what} at {self.instruction}")

    def flag(self, *names: str) -> bool:
        """Take a suffix if it is there."""
        for name in names:
            if name in self._suffixes:
                self._suffixes.remove(name)
                return True
        return False

    def choice(self, names: Iterable[str], default: str | None = None) -> str:
        """Take the one suffix out of `names`; without a default it must be there."""
        found = next((suffix for suffix in self._suffixes if suffix in names), default)
        if found is None:
            raise self.unsupported(f"{self.name} without one of {sorted(names)}")
        if found in self._suffixes:
            self._suffixes.remove(found)
        return found

    def type(self, *allowed: str) -> str:
        """Take the last suffix, which must be one of the allowed types."""
        found = self._suffixes.pop() if self._suffixes else ""
        if found not in allowed:
            raise self.unsupported(f"type .{found} of {self.name}")
        return found

    def end(self, n_operands: int | None = None) -> None:
        """All suffixes must have been taken."""
        if self._suffixes:
            raise self.unsupported(f"suffix .{self._suffixes[0]} of {self.name}")
        if n_operands is not None and len(self.operands) != n_operands:
            raise self.unsupported(f"{len(self.operands)} operands of {self.name}, expected {n_operands}")

    def destination(self, text: str | None = None) -> int | None:
        """Register index of the first operand (or of `text`); None for the sink `_`."""
        text = self.operands[0] if text is None else text
        if text == "_":
            return None
        if text not in self.scope.registers:
            raise self.unsupported(f"destination {text}")
        return self.scope.registers[text]

    def reader(self, text: str, ptx_type: str) -> Reader:
        """A function that yields the operand as the numpy type of `ptx_type`, broadcastable over the lanes."""
        if text in self.scope.registers:
            return self._register_reader(text, ptx_type)
        if text in self.scope.offsets or text in self.scope.globals or "+" in text:
            return self._symbol_reader(text, ptx_type)
        if text.startswith("%"):
            return special_register(text, self)
        constant = self._constant(text, ptx_type)
        return lambda lanes: constant

    def read(self, index: int, ptx_type: str) -> Reader:
        return self.reader(self.operands[index], ptx_type)

    def address(self, text: str) -> Reader:
        """`[register + offset]` or `[symbol + offset]` as int64 per lane."""
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]", text)
        if match is None:
            raise self.unsupported(f"address {text}")
        name, offset = match[1], np.int64(int(match[2] or 0))
        wide = name in self.scope.registers and self._type_of(name) in ("b64", "u64", "s64")
        base = self.reader(name, "s64" if wide or name in self.scope.globals else "u32")
        return lambda lanes: base(lanes).astype(np.int64) + offset

    def assign(self, function: Callable[..., np.ndarray], *readers: Reader) -> Action:
        """destination <- function(operands)."""
        target = self.destination()
        if target is None:
            raise self.unsupported("sink destination")
        if len(readers) == 1:
            (only,) = readers
            return lambda lanes, active: lanes.write(target, function(only(lanes)), active)
        if len(readers) == 2:
            left, right = readers
            return lambda lanes, active: lanes.write(target, function(left(lanes), right(lanes)), active)
        return lambda lanes, active: lanes.write(target, function(*[read(lanes) for read in readers]), active)

    def assign_typed(self, function: Callable[..., np.ndarray], n_sources: int, ptx_type: str) -> Action:
        """`assign` with all sources of one type, and nothing else left in the instruction."""
        self.end(n_sources + 1)
        return self.assign(function, *(self.read(i + 1, ptx_type) for i in range(n_sources)))

    def vector(self, operand: str) -> list[str]:
        return vector_elements(operand)

    def _type_of(self, register: str) -> str:
        return self.scope.register_types[self.scope.registers[register]]

    def _register_reader(self, text: str, ptx_type: str) -> Reader:
        index, declared = self.scope.registers[text], self._type_of(text)
        if "pred" in (ptx_type, declared):
            if ptx_type != declared:
                raise self.unsupported(f"operand {text} is .{declared}, expected .{ptx_type}")
            return lambda lanes: lanes.registers[index]
        narrow, wanted = UNSIGNED[BITS[ptx_type]], value_dtype(ptx_type)
        if BITS[declared] < BITS[ptx_type]:
            raise self.unsupported(f"operand {text} is .{declared}, narrower than .{ptx_type}")
        if BITS[declared] > BITS[ptx_type]:
            return lambda lanes: lanes.registers[index].astype(narrow).view(wanted)
        if wanted is storage_dtype(declared):
            return lambda lanes: lanes.registers[index]
        return lambda lanes: lanes.registers[index].view(wanted)

    def _symbol_reader(self, text: str, ptx_type: str) -> Reader:
        name, _, offset_text = (part.strip() for part in text.partition("+"))
        offset, dtype = int(offset_text or 0), value_dtype(ptx_type)
        if name in self.scope.offsets:
            constant: np.ndarray = np.array([self.scope.offsets[name] + offset], dtype)
            return lambda lanes: constant
        if name in self.scope.globals:
            return lambda lanes: np.array([lanes.launch.symbols[name] + offset], dtype)
        raise self.unsupported(f"operand {text}")

    def _constant(self, text: str, ptx_type: str) -> np.ndarray:
        single = re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text)
        double = re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", text)
        integer = re.fullmatch(r"(-?)(0[xX][0-9a-fA-F]+|\d+)U?", text)
        if ptx_type == "pred" and integer:
            return np.array([int(integer[2], 0) != 0])
        if ptx_type == "pred" or not (single or double or integer):
            raise self.unsupported(f"operand {text} as .{ptx_type}")
        dtype, width = value_dtype(ptx_type), BITS[ptx_type]
        if integer:
            bits = int(integer[1] + integer[2], 0) & ((1 << width) - 1)
            return np.array([bits], UNSIGNED[width]).view(dtype)
        value = np.array([int((single or double)[1], 16)], np.uint32 if single else np.uint64)  # type: ignore[index]
        value = value.view(np.float32 if single else np.float64)
        return value.view(dtype) if value.itemsize * 8 == width else value.astype(dtype)


def special_register(text: str, decoding: Decoding) -> Reader:
    """%tid, %ntid, %ctaid, %nctaid, %laneid, %warpid, %lanemask_*; clocks and SM ids are refused: they are not data."""
    name, _, axis_name = text[1:].partition(".")
    if name in ("tid", "ntid", "ctaid", "nctaid") and axis_name in ("x", "y", "z"):
        return _geometry_reader(name, "xyz".index(axis_name))
    if text in _LANE_REGISTERS:
        function = _LANE_REGISTERS[text]
        return lambda lanes: function(lanes).astype(np.uint32)
    raise decoding.unsupported(f"special register {text}")


def _geometry_reader(name: str, axis: int) -> Reader:
    def read(lanes: Lanes) -> np.ndarray:
        extent = lanes.launch.block if name.endswith("tid") else lanes.launch.grid
        if name.startswith("n"):
            return np.array([extent[axis]], np.uint32)
        linear = lanes.thread if name == "tid" else lanes.cta
        stride = (1, extent[0], extent[0] * extent[1])[axis]
        return (linear // stride % extent[axis]).astype(np.uint32)

    return read


_ONE = np.uint64(1)
_LANE_REGISTERS: dict[str, Callable[[Lanes], np.ndarray]] = {
    "%laneid": lambda lanes: lanes.lane,
    "%warpid": lambda lanes: lanes.thread // np.uint32(32),
    "%nwarpid": lambda lanes: np.array([lanes.threads_per_cta // 32]),
    "%cluster_ctarank": lambda lanes: np.zeros(1),
    "%cluster_ctaid.x": lambda lanes: np.zeros(1),
    "%cluster_nctarank": lambda lanes: np.ones(1),
    "%dynamic_smem_size": lambda lanes: np.array([lanes.launch.dynamic_shared_bytes]),
    "%total_smem_size": lambda lanes: np.array([lanes.launch.shared_bytes]),
    "%lanemask_eq": lambda lanes: _ONE << lanes.lane.astype(np.uint64),
    "%lanemask_lt": lambda lanes: (_ONE << lanes.lane.astype(np.uint64)) - _ONE,
    "%lanemask_le": lambda lanes: (_ONE << (lanes.lane.astype(np.uint64) + _ONE)) - _ONE,
    "%lanemask_gt": lambda lanes: (_ONE << np.uint64(32)) - (_ONE << (lanes.lane.astype(np.uint64) + _ONE)),
    "%lanemask_ge": lambda lanes: (_ONE << np.uint64(32)) - (_ONE << lanes.lane.astype(np.uint64)),
}
