"""A parsed kernel to a `Program`: every instruction becomes a step that the executor can run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from profiling.gpu_simulator.decoding import HANDLERS, Action, Decoding, Scope
from profiling.gpu_simulator.errors import UnsupportedPtx
from profiling.gpu_simulator.instructions import arithmetic, bits, convert, halves, matrix, memory, moves, warp  # noqa: F401  (registration)
from profiling.gpu_simulator.ptx_parser import Instruction, Kernel, parse_kernel


class Control(Enum):
    """What the executor itself does; everything else is an action on registers and memory."""

    NONE = 0
    BRANCH = 1
    EXIT = 2
    BARRIER = 3


@dataclass(slots=True)
class Step:
    instruction: Instruction
    control: Control
    guard: int | None
    guard_negated: bool
    action: Action | None
    target: int = -1


@dataclass(frozen=True)
class Program:
    """A decoded kernel, independent of any launch."""

    kernel: Kernel
    steps: tuple[Step, ...]
    register_types: tuple[str, ...]
    static_shared_bytes: int
    local_bytes: int
    has_spin_lock: bool


@lru_cache(maxsize=256)
def load_program(ptx: str, name: str | None = None) -> Program:
    """Parse and decode one entry of a PTX module; the result is cached."""
    return decode(parse_kernel(ptx, name))


def decode(kernel: Kernel) -> Program:
    shared_offsets, shared_bytes = _layout(kernel, "shared")
    local_offsets, local_bytes = _layout(kernel, "local")
    scope = Scope(
        registers={name: index for index, name in enumerate(kernel.registers)},
        register_types=tuple(kernel.registers.values()),
        offsets={**shared_offsets, **local_offsets},
        globals=frozenset(v.name for v in kernel.variables.values() if v.space in ("global", "const")),
        parameters=kernel.parameters,
    )
    steps = tuple(_decode_step(instruction, kernel, scope) for instruction in kernel.instructions)
    return Program(kernel, steps, scope.register_types, shared_bytes, local_bytes, _may_spin(kernel))


def _may_spin(kernel: Kernel) -> bool:
    """Compare-and-swap loops make progress only if CTAs run one after the other."""
    return any(
        instruction.opcode.startswith("atom.") and ".cas." in instruction.opcode for instruction in kernel.instructions
    )


def _layout(kernel: Kernel, space: str) -> tuple[dict[str, int], int]:
    """Offsets of the variables of a space; the dynamic shared array comes last, 128-byte aligned."""
    offsets, top = {}, 0
    variables = [variable for variable in kernel.variables.values() if variable.space == space]
    for variable in sorted(variables, key=lambda v: v.n_elements == 0):
        alignment = variable.alignment if variable.n_elements else 128
        top = -(-top // alignment) * alignment
        offsets[variable.name] = top
        top += variable.n_bytes
    return offsets, top


def _decode_step(instruction: Instruction, kernel: Kernel, scope: Scope) -> Step:
    if instruction.guard is not None and instruction.guard not in scope.registers:
        raise UnsupportedPtx(f"guard {instruction.guard} at {instruction}")
    guard = None if instruction.guard is None else scope.registers[instruction.guard]
    step = Step(instruction, Control.NONE, guard, instruction.guard_negated, None)
    decoding = Decoding(instruction, scope)
    if decoding.name == "bra":
        decoding.flag("uni")
        decoding.end(1)
        if instruction.operands[0] not in kernel.labels:
            raise decoding.unsupported(f"label {instruction.operands[0]}")
        step.control, step.target = Control.BRANCH, kernel.labels[instruction.operands[0]]
    elif decoding.name in ("ret", "exit"):
        decoding.flag("uni")
        decoding.end(0)
        step.control = Control.EXIT
    elif decoding.name in ("bar", "barrier") and not decoding.flag("warp"):
        _require_cta_barrier(decoding, kernel)
        step.control = Control.BARRIER
    elif decoding.name in HANDLERS:
        step.action = HANDLERS[decoding.name](decoding)
    else:
        raise decoding.unsupported(f"opcode {decoding.name}")
    return step


def _require_cta_barrier(decoding: Decoding, kernel: Kernel) -> None:
    """Only barrier 0 over the whole CTA; named barriers of warp-specialised kernels are refused."""
    if not decoding.flag("sync"):
        raise decoding.unsupported(f"{decoding.instruction.opcode}")
    decoding.flag("cta")
    decoding.flag("aligned")
    decoding.end()
    barrier, *n_threads = decoding.operands
    if barrier != "0" or (n_threads and n_threads != [str(kernel.n_threads)]):
        raise decoding.unsupported(f"barrier {', '.join(decoding.operands)}")
