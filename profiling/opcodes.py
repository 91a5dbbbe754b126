"""Which unit of a streaming multiprocessor runs a PTX instruction."""

from __future__ import annotations

from collections.abc import Mapping

SPECIAL = {"ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "div"}
ARITHMETIC = {"add", "sub", "mul", "fma", "mad"}
ELSEWHERE = {
    "cvta", "ld", "st", "ldu", "ldmatrix", "stmatrix", "atom", "red", "cp", "prefetch", "createpolicy",
    "bra", "ret", "exit", "trap", "bar", "barrier", "membar", "fence", "nanosleep",
}  # fmt: skip
UNITS = ("fp32", "fp64", "alu", "special", "shuffle", "move", "other")


def unit_of(opcode: str) -> tuple[str, int]:
    """(unit, passes) of a full opcode such as ``fma.rn.f32``; "other" takes an issue slot and no unit of its own.

    >>> unit_of("fma.rn.f32"), unit_of("ex2.approx.ftz.f32"), unit_of("add.s64"), unit_of("ld.global.b64")
    (('fp32', 1), ('special', 1), ('alu', 2), ('other', 1))
    """
    parts = opcode.split(".")
    base, types = parts[0], parts[1:]
    if base == "shfl":
        return "shuffle", 1
    if base == "mov":
        return "move", 1
    if base in ELSEWHERE:
        return "other", 1
    if "f64" in types:
        return "fp64", 1
    if base in SPECIAL and types[-1].startswith("f"):
        return "special", 1
    if base in ARITHMETIC and types[-1].startswith(("f", "bf")):
        return "fp32", 2 if types[-1] == "f32x2" else 1
    return "alu", 2 if types and types[-1].endswith("64") else 1


def by_pipe(opcodes: Mapping[str, int]) -> dict[str, int]:
    """Thread instructions by unit."""
    totals = dict.fromkeys(UNITS, 0)
    for opcode, n in opcodes.items():
        unit, passes = unit_of(opcode)
        totals[unit] += n * passes
    return totals
