"""PTX text to a `Kernel`: registers, variables, labels and a flat list of instructions with source lines.

Handles the PTX that the LLVM NVPTX back end (Triton) and NVRTC emit: one module, any number of entries, inline
assembly blocks with their own registers. Device functions are not linked; a `call` is refused by the decoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from profiling.gpu_simulator.errors import UnsupportedPtx
from profiling.gpu_simulator.ptx_types import BITS


@dataclass(frozen=True)
class Instruction:
    """One PTX instruction; `location` is (file name, line) of the source that it was compiled from."""

    opcode: str
    operands: tuple[str, ...]
    guard: str | None
    guard_negated: bool
    location: tuple[str, int] | None
    text: str

    def __str__(self) -> str:
        where = "unknown line" if self.location is None else f"{self.location[0]}:{self.location[1]}"
        return f"{where} [{self.text}]"


@dataclass(frozen=True)
class Variable:
    """A .global, .const, .shared or .local array; n_elements is 0 for the dynamic shared array."""

    name: str
    space: str
    type: str
    n_elements: int
    alignment: int
    values: tuple[int, ...] = ()

    @property
    def n_bytes(self) -> int:
        return self.n_elements * BITS[self.type] // 8


@dataclass
class Kernel:
    """One .entry of a PTX module."""

    name: str
    parameters: dict[str, int]  # name -> size in bytes, in order
    variables: dict[str, Variable]
    n_threads: int | None  # from .reqntid
    registers: dict[str, str] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)


_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\((.*?)\)\s*((?:\.\w+[^{]*?)*)\{", re.S)
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)[^,]*?([\w$]+)(?:\[(\d+)\])?\s*(?:,|$)")
_VARIABLE = re.compile(
    r"\.(global|const|shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)"
    r"(?:\[(\d*)\])?\s*(?:=\s*(\{[^}]*\}|[^;]*?))?\s*;"
)
_GUARD = re.compile(r"@(!?)([%\w$]+)\s+(.*)", re.S)
_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*")


def parse_kernel(ptx: str, name: str | None = None) -> Kernel:
    """The entry called `name`, or the only entry of the module."""
    text = re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", ptx, flags=re.S))
    files = {int(number): path.rsplit("/", 1)[-1] for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)}
    entries = {match[1]: match for match in _ENTRY.finditer(text)}
    if name is None and len(entries) == 1:
        name = next(iter(entries))
    if name is None or name not in entries:
        raise UnsupportedPtx(f"entry {name!r} not found; this PTX has {sorted(entries)}")
    entry = entries[name]
    parameters = {match[2]: int(match[3] or 1) * BITS[match[1]] // 8 for match in _PARAMETER.finditer(entry[2].strip())}
    threads = re.search(r"\.reqntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", entry[3])
    n_threads = None if threads is None else int(threads[1]) * int(threads[2] or 1) * int(threads[3] or 1)
    kernel = Kernel(name, parameters, _module_variables(text), n_threads)
    _parse_body(kernel, text[entry.end() : _closing_brace(text, entry.end())], files)
    return kernel


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for match in re.finditer(r"[{}]", text[start:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return start + match.start()
    raise UnsupportedPtx("unbalanced braces in the PTX text")


def _module_variables(text: str) -> dict[str, Variable]:
    """Variables outside function bodies; debug sections and bodies are cut out first."""
    outside, position = [], 0
    for match in re.finditer(r"\{", text):
        if match.start() < position or re.search(r"=\s*$", text[position : match.start()]):
            continue
        outside.append(text[position : match.start()])
        position = _closing_brace(text, match.end()) + 1
    outside.append(text[position:])
    found = (_variable(match) for match in _VARIABLE.finditer("".join(outside)))
    return {variable.name: variable for variable in found}


def _variable(match: re.Match[str]) -> Variable:
    space, alignment, ptx_type, name, count, initialiser = match.groups()
    if initialiser and not re.fullmatch(r"[\s{}\dxa-fA-F,+-]*", initialiser):
        raise UnsupportedPtx(f"initialiser of {name}: {initialiser[:60]}")
    values = tuple(int(value, 0) for value in re.findall(r"-?\b(?:0[xX][\da-fA-F]+|\d+)", initialiser or ""))
    n_elements = 1 if count is None else int(count or 0)
    return Variable(name, space, ptx_type, n_elements, int(alignment or BITS[ptx_type] // 8), values)


def _parse_body(kernel: Kernel, body: str, files: dict[int, str]) -> None:
    location: tuple[str, int] | None = None
    for statement in _statements(body):
        loc = _LOC.match(statement)
        label = _LABEL.match(statement)
        if loc:
            location = (files.get(int(loc[1]), "?"), int(loc[2]))
        elif label:
            kernel.labels[label[1]] = len(kernel.instructions)
        elif statement.startswith(".reg"):
            _declare_registers(kernel, statement)
        elif statement.startswith((".shared", ".local")):
            declared = _VARIABLE.match(statement + ";")
            if declared is None:
                raise UnsupportedPtx(f"declaration: {statement}")
            kernel.variables[declared[4]] = _variable(declared)
        elif statement.startswith(".param"):
            raise UnsupportedPtx(f"device function call with {statement} at {location}")
        elif not statement.startswith(".pragma"):
            kernel.instructions.append(_instruction(statement, location))


def _statements(body: str) -> Iterator[str]:
    """Labels, .loc directives and everything that ends in a semicolon; scope braces are dropped."""
    position = 0
    while True:
        while position < len(body) and body[position] in " \t\r\n{};":
            position += 1
        if position >= len(body):
            return
        match = _LOC.match(body, position) or _LABEL.match(body, position)
        end = match.end() if match else body.find(";", position)
        if end < 0:
            raise UnsupportedPtx(f"statement without an end: {body[position : position + 60]!r}")
        yield " ".join(body[position:end].split())
        position = end


def _declare_registers(kernel: Kernel, statement: str) -> None:
    _, ptx_type, names = statement.split(None, 2)
    for declared in names.split(","):
        declared = declared.strip()
        numbered = re.fullmatch(r"(.*)<(\d+)>", declared)
        expanded = [f"{numbered[1]}{i}" for i in range(int(numbered[2]))] if numbered else [declared]
        for register in expanded:
            if kernel.registers.setdefault(register, ptx_type[1:]) != ptx_type[1:]:
                raise UnsupportedPtx(f"register {register} is declared with two types")


def _instruction(statement: str, location: tuple[str, int] | None) -> Instruction:
    guard, negated, rest = None, False, statement
    guarded = _GUARD.match(statement)
    if guarded:
        negated, guard, rest = guarded[1] == "!", guarded[2], guarded[3]
    opcode, _, operands = rest.partition(" ")
    return Instruction(opcode, tuple(_split_operands(operands)), guard, negated, location, statement)


def _split_operands(text: str) -> Iterator[str]:
    """Split at top-level commas: vectors {a, b} and addresses [a + 4] stay whole."""
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def vector_elements(operand: str) -> list[str]:
    """The registers of `{a, b}`, or the operand itself."""
    return [element.strip() for element in operand.strip("{} ").split(",")]
