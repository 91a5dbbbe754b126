"""Single PTX instructions against independent references in Python integers, fractions and numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from profiling.gpu_simulator import UnsupportedPtx
from profiling.gpu_simulator.floats import fma_f32, fma_f64
from profiling.gpu_simulator.snippets import evaluate, run

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
WORDS = [0, 1, 2, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF]
LONGS = [0, 1, 0xFFFFFFFF, 1 << 32, 0x7FFFFFFFFFFFFFFF, 1 << 63, 0xDEADBEEFCAFEBABE, U64]


def pairs(values: list[int]) -> tuple[list[int], list[int]]:
    """Up to 32 pairs that cover every value on both sides."""
    chosen = [(values[i % len(values)], values[(i * 7 + i // len(values)) % len(values)]) for i in range(32)]
    return [a for a, _ in chosen], [b for _, b in chosen]


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


INTEGER_CASES = {
    "add.u32": lambda a, b: a + b,
    "sub.s32": lambda a, b: a - b,
    "mul.lo.u32": lambda a, b: a * b,
    "mul.hi.u32": lambda a, b: a * b >> 32,
    "mul.hi.s32": lambda a, b: signed(a, 32) * signed(b, 32) >> 32,
    "min.s32": lambda a, b: min(signed(a, 32), signed(b, 32)),
    "max.u32": max,
    "min.relu.s32": lambda a, b: max(min(signed(a, 32), signed(b, 32)), 0),
    "max.relu.s32": lambda a, b: max(signed(a, 32), signed(b, 32), 0),
    "and.b32": lambda a, b: a & b,
    "xor.b32": lambda a, b: a ^ b,
    "shl.b32": lambda a, b: a << b if b < 32 else 0,
    "shr.u32": lambda a, b: a >> b if b < 32 else 0,
    "shr.s32": lambda a, b: signed(a, 32) >> min(b, 31),
    "add.s64": lambda a, b: a + b,
    "mul.lo.s64": lambda a, b: a * b,
    "mul.hi.u64": lambda a, b: a * b >> 64,
    "mul.hi.s64": lambda a, b: signed(a, 64) * signed(b, 64) >> 64,
    "min.u64": min,
    "max.s64": lambda a, b: max(signed(a, 64), signed(b, 64)),
}


@pytest.mark.parametrize("opcode", INTEGER_CASES)
def test_integer_arithmetic(opcode: str) -> None:
    bits = int(opcode[-2:])
    left, right = pairs(WORDS if bits == 32 else LONGS)
    register = "%r" if bits == 32 else "%rd"
    actual = evaluate(f"{opcode} {register}4, {register}1, {register}2;", f"u{bits}", left, right)
    mask = (1 << bits) - 1
    assert actual.tolist() == [INTEGER_CASES[opcode](a, b) & mask for a, b in zip(left, right, strict=True)]


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_division_truncates_toward_zero(kind: str) -> None:
    bits, register = int(kind[1:]), "%r" if kind.endswith("32") else "%rd"
    left, right = pairs([value for value in (WORDS if bits == 32 else LONGS) if value])
    if kind[0] == "s":  # the one quotient that does not fit is undefined
        left = [7 if a == 1 << (bits - 1) else a for a in left]
    quotient = evaluate(f"div.{kind} {register}4, {register}1, {register}2;", f"u{bits}", left, right)
    rest = evaluate(f"rem.{kind} {register}4, {register}1, {register}2;", f"u{bits}", left, right)
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        x, y = (signed(a, bits), signed(b, bits)) if kind[0] == "s" else (a, b)
        expected = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        assert quotient[i] == expected & ((1 << bits) - 1)
        assert rest[i] == (x - expected * y) & ((1 << bits) - 1)


@pytest.mark.parametrize("kind", ["u32", "s32"])
def test_wide_products(kind: str) -> None:
    left, right = pairs(WORDS)
    expected = [signed(a, 32) * signed(b, 32) if kind == "s32" else a * b for a, b in zip(left, right, strict=True)]
    product = evaluate(f"mul.wide.{kind} %rd4, %r1, %r2;", "u32", left, right, result="u64")
    assert product.tolist() == [value & U64 for value in expected]
    total = evaluate(f"mov.u64 %rd5, 9;\nmad.wide.{kind} %rd4, %r1, %r2, %rd5;", "u32", left, right, result="u64")
    assert total.tolist() == [(value + 9) & U64 for value in expected]


def test_carry_chain_multiplies_96_bits() -> None:
    left, right = pairs(WORDS)
    code = """mul.lo.u32 %r5, %r1, %r2;
mad.lo.cc.u32 %r6, %r1, %r2, %r5;
madc.hi.u32 %r4, %r1, %r2, 0;"""
    actual = evaluate(code, "u32", left, right)
    expected = [(a * b + (a * b & U32)) >> 32 for a, b in zip(left, right, strict=True)]
    assert actual.tolist() == [value & U32 for value in expected]


def test_bit_instructions() -> None:
    a, b = pairs(WORDS)
    assert evaluate("popc.b32 %r4, %r1;", "u32", a).tolist() == [value.bit_count() for value in a]
    assert evaluate("clz.b32 %r4, %r1;", "u32", a).tolist() == [32 - value.bit_length() for value in a]
    assert evaluate("bfind.u32 %r4, %r1;", "u32", a).tolist() == [(value.bit_length() - 1) & U32 for value in a]
    shifts = evaluate("bfind.shiftamt.u32 %r4, %r1;", "u32", a)
    assert shifts.tolist() == [32 - value.bit_length() if value else U32 for value in a]
    assert evaluate("brev.b32 %r4, %r1;", "u32", a).tolist() == [int(f"{value:032b}"[::-1], 2) for value in a]
    assert evaluate("not.b32 %r4, %r1;", "u32", a).tolist() == [value ^ U32 for value in a]
    chosen = evaluate("lop3.b32 %r4, %r1, %r2, %r1, 0x3c;", "u32", a, b)
    assert chosen.tolist() == [x ^ y for x, y in zip(a, b, strict=True)]
    rotated = evaluate("shf.l.wrap.b32 %r4, %r1, %r1, 13;", "u32", a)
    assert rotated.tolist() == [(value << 13 | value >> 19) & U32 for value in a]
    clamped = evaluate("shf.r.clamp.b32 %r4, %r1, %r2, 40;", "u32", a, b)
    assert clamped.tolist() == b
    swapped = evaluate("prmt.b32 %r4, %r1, %r2, 0x7610;", "u32", a, b)
    assert swapped.tolist() == [(y & 0xFFFF0000) | (x & 0xFFFF) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize(("position", "length"), [(0, 0), (3, 5), (28, 8), (31, 1), (0, 32), (40, 4)])
def test_bit_fields(position: int, length: int) -> None:
    a, b = pairs(WORDS)
    unsigned_field = evaluate(f"bfe.u32 %r4, %r1, {position}, {length};", "u32", a)
    assert unsigned_field.tolist() == [(value >> position) & ((1 << length) - 1) for value in a]
    extended = evaluate(f"bfe.s32 %r4, %r1, {position}, {length};", "s32", [signed(v, 32) for v in a])
    fields = [(signed(value, 32) >> position) & ((1 << length) - 1) for value in a]
    assert extended.view(np.int32).tolist() == [signed(f, length) if length else 0 for f in fields]
    mask = ((1 << length) - 1) << position & U32
    merged = evaluate(f"bfi.b32 %r4, %r1, %r2, {position}, {length};", "u32", a, b)
    assert merged.tolist() == [(x << position & mask) | (y & ~mask & U32) for x, y in zip(a, b, strict=True)]


def nearest(value: Fraction, dtype: type) -> float:
    """The closest float by exact distance; on a tie the one with an even last bit."""
    guess = dtype(float(value))
    candidates = [np.nextafter(guess, dtype(-np.inf)), guess, np.nextafter(guess, dtype(np.inf))]
    bits = np.uint32 if dtype is np.float32 else np.uint64
    return float(min(candidates, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(bits)) & 1)))


def near_ties(dtype: type, count: int) -> tuple[np.ndarray, ...]:
    """Operands whose product and sum fall close to, or exactly on, the middle between two floats."""
    random = np.random.default_rng(0)
    digits = 24 if dtype is np.float32 else 53
    a = (1 + random.integers(0, 1 << 11, count) * 2.0**-11).astype(dtype)
    b = (1 + random.integers(0, 1 << 12, count) * 2.0 ** (1 - digits)).astype(dtype)
    c = (random.choice([-1, 1], count) * 2.0 ** random.integers(-2 * digits, 3, count)).astype(dtype)
    cancelling = -(a.astype(np.float64) * b).astype(dtype)
    return a, b, np.where(random.random(count) < 0.5, c, cancelling)


@pytest.mark.parametrize(("function", "dtype"), [(fma_f32, np.float32), (fma_f64, np.float64)])
def test_fused_multiply_add_rounds_once(function, dtype: type) -> None:
    a, b, c = near_ties(dtype, 400)
    with np.errstate(all="ignore"):
        actual = function(a, b, c)
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert actual.tolist() == [nearest(value, dtype) for value in exact]
    twice = a * b + c
    assert (twice != actual).any()


def test_float32_subnormal_results_round_once() -> None:
    a, b, c = np.float32([2.0**-70, 3 * 2.0**-75]), np.float32([2.0**-79, 5 * 2.0**-76]), np.float32([2.0**-130] * 2)
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert fma_f32(a, b, c).tolist() == [nearest(value, np.float32) for value in exact]


@pytest.mark.parametrize(("mode", "compare"), [("rm", lambda r, e: r <= e), ("rp", lambda r, e: r >= e)])
def test_directed_rounding(mode: str, compare) -> None:
    a, b, c = near_ties(np.float32, 32)
    actual = evaluate(f"fma.{mode}.f32 %f4, %f1, %f2, %f3;", "f32", a, b, c)
    for result, x, y, z in zip(actual, a, b, c, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert compare(Fraction(float(result)), exact)
        inward = np.nextafter(result, np.float32(np.inf if mode == "rm" else -np.inf))
        assert Fraction(float(result)) == exact or not compare(Fraction(float(inward)), exact)


def test_minimum_and_maximum_of_nan_and_zeros() -> None:
    a, b = [np.nan, 1.0, 0.0, -0.0, -1.0], [2.0, np.nan, -0.0, 0.0, -np.inf]
    low = evaluate("min.f32 %f4, %f1, %f2;", "f32", a, b)
    assert low.tolist() == [2.0, 1.0, 0.0, 0.0, -np.inf]
    assert np.signbit(low[2:4]).all()
    high = evaluate("max.f32 %f4, %f1, %f2;", "f32", a, b)
    assert high.tolist() == [2.0, 1.0, 0.0, 0.0, -1.0]
    assert not np.signbit(high[2:4]).any()
    assert np.isnan(evaluate("max.NaN.f32 %f4, %f1, %f2;", "f32", a, b)[:2]).all()


def test_flush_to_zero_and_saturation() -> None:
    tiny = np.float32(2.0**-130)
    assert evaluate("add.ftz.f32 %f4, %f1, %f2;", "f32", [tiny], [tiny]).tolist() == [0.0]
    assert evaluate("add.f32 %f4, %f1, %f2;", "f32", [tiny], [tiny]).tolist() == [2.0**-129]
    saturated = evaluate("add.sat.f32 %f4, %f1, %f2;", "f32", [0.75, -2.0, np.nan, 0.25], [0.75, 1.0, 0.0, 0.25])
    assert saturated.tolist() == [1.0, 0.0, 0.0, 0.5]


COMPARISONS = {"lt": lambda a, b: a < b, "ge": lambda a, b: a >= b, "ne": lambda a, b: a != b and a == a and b == b}


@pytest.mark.parametrize("name", COMPARISONS)
def test_ordered_and_unordered_comparisons(name: str) -> None:
    a, b = [1.0, 2.0, 2.0, np.nan, 0.0], [2.0, 2.0, 1.0, 1.0, -0.0]
    template = "setp.{}.f32 %p1, %f1, %f2;\nselp.b32 %r4, 1, 0, %p1;"
    ordered = evaluate(template.format(name), "f32", a, b, result="u32")
    assert ordered.tolist() == [int(COMPARISONS[name](x, y)) for x, y in zip(a, b, strict=True)]
    unordered = evaluate(template.format(name + "u"), "f32", a, b, result="u32")
    expected = [np.isnan(x) or np.isnan(y) or COMPARISONS[name](x, y) for x, y in zip(a, b, strict=True)]
    assert unordered.tolist() == [int(value) for value in expected]


def test_comparison_combined_with_a_predicate() -> None:
    code = """setp.gt.u32 %p3, %r1, 1;
setp.eq.and.u32 %p1|%p2, %r1, %r2, !%p3;
selp.b32 %r5, 1, 0, %p1;
selp.b32 %r6, 2, 0, %p2;
or.b32 %r4, %r5, %r6;"""
    assert evaluate(code, "u32", [0, 1, 2, 1], [0, 2, 2, 1]).tolist() == [1, 2, 0, 1]


CONVERSIONS = [
    ("cvt.rzi.s32.f32", "f32", [1.9, -1.9, 3e9, -3e9, np.nan], "s32", [1, -1, 2**31 - 1, -(2**31), 0]),
    ("cvt.rni.s32.f32", "f32", [0.5, 1.5, -2.5], "s32", [0, 2, -2]),
    ("cvt.rzi.u32.f32", "f32", [-1.0, 5e9], "u32", [0, U32]),
    ("cvt.rzi.s64.f64", "f64", [2.0**62, -(2.0**63), 1e30], "s64", [2**62, -(2**63), 2**63 - 1]),
    ("cvt.rn.f32.s32", "s32", [2**24 + 1, -7], "f32", [2.0**24, -7.0]),
    ("cvt.rn.f32.u64", "u64", [2**63 + 1, 2**40 + 1], "f32", [2.0**63, 2.0**40]),
    ("cvt.rn.f32.f64", "f64", [1 + 2.0**-24, 1 + 3 * 2.0**-24], "f32", [1.0, 1 + 2.0**-22]),
    ("cvt.rm.f32.f64", "f64", [1 + 2.0**-30, -1 - 2.0**-30], "f32", [1.0, -1 - 2.0**-23]),
    ("cvt.f64.f32", "f32", [0.1], "f64", [float(np.float32(0.1))]),
    ("cvt.rmi.f32.f32", "f32", [-1.5, 2.5], "f32", [-2.0, 2.0]),
    ("cvt.s64.s32", "s32", [-5, 5], "s64", [-5, 5]),
    ("cvt.u64.u32", "u32", [U32], "u64", [U32]),
    ("cvt.u32.u64", "u64", [U64], "u32", [U32]),
    ("cvt.s32.s8", "s32", [0x180, 0x17F], "s32", [-128, 127]),
    ("cvt.sat.s8.s32", "s32", [300, -300], "s32", [127, -128]),
    ("cvt.rn.f16.f32", "f32", [1 + 2.0**-11, 65520.0], "u16", [0x3C00, 0x7C00]),
    ("cvt.rn.bf16.f32", "f32", [1 + 2.0**-8, 1 + 3 * 2.0**-8], "u16", [0x3F80, 0x3F82]),
    ("cvt.f32.bf16", "u16", [0x3F80, 0xC000], "f32", [1.0, -2.0]),
]


@pytest.mark.parametrize(("opcode", "source", "values", "target", "expected"), CONVERSIONS, ids=lambda v: str(v)[:16])
def test_conversions(opcode: str, source: str, values: list, target: str, expected: list) -> None:
    registers = {"f32": "%f", "f64": "%fd", "u16": "%rs", "s32": "%r", "u32": "%r", "s64": "%rd", "u64": "%rd"}
    code = f"{opcode} {registers[target]}4, {registers[source]}1;"
    assert evaluate(code, source, values, result=target).tolist() == expected


def test_moves_split_and_join_registers() -> None:
    code = "mov.b64 {%r5, %r6}, %rd1;\nmov.b64 %rd4, {%r6, %r5};"
    assert evaluate(code, "u64", [0x1122334455667788]).tolist() == [0x5566778811223344]


def test_reciprocal_seed_has_a_clear_low_word() -> None:
    seed = evaluate("rcp.approx.ftz.f64 %fd4, %fd1;", "f64", [3.0])
    assert int(seed.view(np.uint64)[0]) & U32 == 0
    assert seed[0] == pytest.approx(1 / 3, rel=1e-6)


SHUFFLES = {
    "bfly": ("3, 0x1f", lambda lane: lane ^ 3),
    "up": ("4, 0x0", lambda lane: lane - 4 if lane >= 4 else lane),
    "down": ("4, 0x1f", lambda lane: lane + 4 if lane < 28 else lane),
    "idx": ("5, 0x1f", lambda lane: 5),
    "down ": ("4, 0x181f", lambda lane: lane + 4 if lane % 8 < 4 else lane),
}


@pytest.mark.parametrize("mode", SHUFFLES)
def test_shuffles(mode: str) -> None:
    operands, source = SHUFFLES[mode]
    code = f"shfl.sync.{mode.strip()}.b32 %r4|%p1, %r1, {operands}, -1;"
    values = [100 + lane for lane in range(32)]
    assert evaluate(code, "u32", values).tolist() == [100 + source(lane) for lane in range(32)]


def test_votes_reductions_and_matches() -> None:
    values = [lane % 5 for lane in range(32)]
    ballot = evaluate("setp.eq.u32 %p1, %r1, 2;\nvote.sync.ballot.b32 %r4, %p1, -1;", "u32", values)
    assert set(ballot.tolist()) == {sum(1 << lane for lane in range(32) if lane % 5 == 2)}
    assert set(evaluate("redux.sync.add.s32 %r4, %r1, -1;", "u32", values).tolist()) == {sum(values)}
    matched = evaluate("match.any.sync.b32 %r4, %r1, -1;", "u32", values)
    assert matched.tolist() == [sum(1 << j for j in range(32) if values[j] == values[i]) for i in range(32)]
    every = "setp.lt.u32 %p1, %r1, 5;\nvote.sync.all.pred %p2, %p1, -1;\nselp.b32 %r4, 1, 0, %p2;"
    assert evaluate(every, "u32", values).all()


def test_partial_warps_vote_among_their_members() -> None:
    code = """mov.u32 %r4, 0;
setp.lt.u32 %p1, %r30, 8;
@!%p1 bra DONE;
redux.sync.add.u32 %r4, %r1, 0xff;
DONE:
mov.u32 %r4, %r4;"""
    assert evaluate(code, "u32", list(range(32))).tolist() == [28] * 8 + [0] * 24


@pytest.mark.parametrize("operation", ["add", "min", "max", "xor", "exch", "inc"])
def test_atomics_take_turns(operation: str) -> None:
    kind = "b32" if operation in ("xor", "exch") else "u32"
    cell, seen = np.array([5], np.uint32), np.zeros(32, np.uint32)
    body = f"""atom.global.gpu.relaxed.{operation}.{kind} %r2, [%rd10], %r30;
mad.wide.u32 %rd12, %r30, 4, %rd11;
st.global.u32 [%rd12], %r2;"""
    run(body, [cell, seen])
    value, expected = 5, []
    for lane in range(32):
        expected.append(value)
        value = {
            "add": value + lane,
            "min": min(value, lane),
            "max": max(value, lane),
            "xor": value ^ lane,
            "exch": lane,
            "inc": 0 if value >= lane else value + 1,
        }[operation]
    assert seen.tolist() == expected
    assert cell[0] == value


def test_lanes_leave_a_loop_at_different_times() -> None:
    """Steps of the Collatz sequence: a loop with a branch inside, both divergent."""
    code = """mov.u32 %r4, 0;
LOOP:
setp.le.u32 %p1, %r1, 1;
@%p1 bra DONE;
and.b32 %r2, %r1, 1;
setp.eq.u32 %p2, %r2, 0;
@%p2 bra EVEN;
mad.lo.u32 %r1, %r1, 3, 1;
bra NEXT;
EVEN:
shr.u32 %r1, %r1, 1;
NEXT:
add.u32 %r4, %r4, 1;
bra LOOP;
DONE:
mov.u32 %r5, %r4;"""

    def steps(value: int) -> int:
        return 0 if value == 1 else 1 + steps(value // 2 if value % 2 == 0 else 3 * value + 1)

    starts = list(range(1, 33))
    assert evaluate(code, "u32", starts).tolist() == [steps(value) for value in starts]


def test_local_memory_is_private_and_generic_addresses_work() -> None:
    body = """.local .align 16 .b8 depot[16];
mov.u64 %rd1, depot;
cvta.local.u64 %rd2, %rd1;
st.u32 [%rd2+4], %r30;
ld.local.u32 %r1, [%rd1+4];
mad.wide.u32 %rd3, %r30, 4, %rd10;
st.u32 [%rd3], %r1;"""
    output = np.zeros(64, np.uint32)
    record = run(body, [output], n_threads=64)
    assert output.tolist() == list(range(64))
    assert record.counters.local_bytes == 2 * 64 * 4


@pytest.mark.parametrize(
    ("instruction", "named"),
    [
        ("frobnicate.b32 %r1, %r2;", "opcode frobnicate"),
        ("add.rz.f64 %fd1, %fd2, %fd3;", "rounding .rz"),
        ("add.wrapped.u32 %r1, %r2, %r3;", "suffix .wrapped"),
        ("ld.global.L3::magic.u32 %r1, [%rd10];", "suffix .L3::magic"),
        ("mul.lo.u8 %r1, %r2, %r3;", "type .u8"),
        ("cvt.rn.e4m3.f32 %r1, %f1;", "type .e4m3"),
        ("mov.u32 %r1, %clock;", "special register %clock"),
        ("mov.u32 %r1, %undeclared7;", "special register %undeclared7"),
        ("add.u64 %rd1, %rd2, %r3;", "narrower than .u64"),
        ("bar.sync 1, 32;", "barrier 1"),
        ("call.uni helper, (%r1);", "opcode call"),
        ("bra NOWHERE;", "label NOWHERE"),
    ],
)
def test_the_decoder_refuses_what_it_does_not_know(instruction: str, named: str) -> None:
    with pytest.raises(UnsupportedPtx, match=r"snippet\.cu:100") as caught:
        run(instruction, [np.zeros(1, np.uint32)])
    assert named in str(caught.value)
