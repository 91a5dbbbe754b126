"""Logic, shifts and bit fields."""

from __future__ import annotations

import numpy as np

from profiling.gpu_simulator import integers
from profiling.gpu_simulator.decoding import Action, Decoding, opcode

_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@opcode("and", "or", "xor")
def decode_logic(decoding: Decoding) -> Action:
    return decoding.assign_typed(_LOGIC[decoding.name], 2, decoding.type("pred", "b16", "b32", "b64"))


@opcode("not")
def decode_not(decoding: Decoding) -> Action:
    return decoding.assign_typed(np.invert, 1, decoding.type("pred", "b16", "b32", "b64"))


@opcode("cnot")
def decode_logical_not(decoding: Decoding) -> Action:
    ptx_type = decoding.type("b16", "b32", "b64")
    return decoding.assign_typed(lambda a: (a == 0).astype(a.dtype), 1, ptx_type)


@opcode("shl", "shr")
def decode_shift(decoding: Decoding) -> Action:
    left = decoding.name == "shl"
    widths = ("16", "32", "64")
    ptx_type = decoding.type(*(f"b{w}" for w in widths), *(f"{k}{w}" for k in "us" for w in widths if not left))
    decoding.end(3)
    sources = decoding.read(1, ptx_type), decoding.read(2, "u32")
    return decoding.assign(lambda a, n: integers.shift(a, n, left), *sources)


@opcode("shf")
def decode_funnel_shift(decoding: Decoding) -> Action:
    decoding.type("b32")
    left = decoding.choice(("l", "r")) == "l"
    wrap = decoding.choice(("wrap", "clamp")) == "wrap"
    return decoding.assign_typed(lambda a, b, n: integers.funnel_shift(a, b, n, left, wrap), 3, "u32")


@opcode("bfe")
def decode_extract(decoding: Decoding) -> Action:
    ptx_type = decoding.type("u32", "s32", "u64", "s64")
    decoding.end(4)
    sources = decoding.read(1, ptx_type), decoding.read(2, "u32"), decoding.read(3, "u32")
    return decoding.assign(integers.extract_field, *sources)


@opcode("bfi")
def decode_insert(decoding: Decoding) -> Action:
    ptx_type = decoding.type("b32", "b64")
    decoding.end(5)
    sources = decoding.read(1, ptx_type), decoding.read(2, ptx_type), decoding.read(3, "u32"), decoding.read(4, "u32")
    return decoding.assign(integers.insert_field, *sources)


@opcode("prmt")
def decode_permute(decoding: Decoding) -> Action:
    decoding.type("b32")
    return decoding.assign_typed(integers.permute_bytes, 3, "u32")


@opcode("lop3")
def decode_lookup(decoding: Decoding) -> Action:
    decoding.type("b32")
    decoding.end(5)
    table = int(decoding.operands[4], 0)
    sources = (decoding.read(i, "u32") for i in (1, 2, 3))
    return decoding.assign(lambda a, b, c: integers.lookup3(a, b, c, table), *sources)


@opcode("popc")
def decode_population_count(decoding: Decoding) -> Action:
    return decoding.assign_typed(integers.population_count, 1, decoding.type("b32", "b64"))


@opcode("clz")
def decode_leading_zeros(decoding: Decoding) -> Action:
    return decoding.assign_typed(integers.count_leading_zeros, 1, decoding.type("b32", "b64"))


@opcode("bfind")
def decode_leading_bit(decoding: Decoding) -> Action:
    """Position of the top bit that differs from the sign; .shiftamt: the left shift that brings it to the top."""
    ptx_type = decoding.type("u32", "s32", "u64", "s64")
    if not decoding.flag("shiftamt"):
        return decoding.assign_typed(integers.find_leading_bit, 1, ptx_type)
    top = np.uint32(int(ptx_type[1:]) - 1)
    absent = np.uint32(0xFFFF_FFFF)

    def shift_amount(a: np.ndarray) -> np.ndarray:
        position = integers.find_leading_bit(a)
        return np.where(position == absent, absent, top - position)

    return decoding.assign_typed(shift_amount, 1, ptx_type)


@opcode("brev")
def decode_reverse(decoding: Decoding) -> Action:
    return decoding.assign_typed(integers.reverse_bits, 1, decoding.type("b32", "b64"))
