"""Label digits, checked before any of them becomes an index."""

import triton
import triton.language as tl


@triton.jit
def checked_digit(pointers, active, BASE: tl.constexpr):
    """The label digit (0 in place of one outside [0, BASE)), and 3 where it was outside, else 0."""
    label = tl.load(pointers, mask=active, other=0)
    in_range = (label >= 0) & (label < BASE)
    return tl.where(in_range, label, 0).to(tl.int32), tl.where(in_range, 0, 3)


@triton.jit
def top_carry(pointers, active, N_EXTRA: tl.constexpr, BASE: tl.constexpr):
    """The value of the N_EXTRA leading label digits, and the status code 3 or 0."""
    carry, code = checked_digit(pointers, active, BASE)
    for i in tl.static_range(1, N_EXTRA):
        digit, digit_code = checked_digit(pointers + i, active, BASE)
        carry = carry * BASE + digit
        code = tl.maximum(code, digit_code)
    return carry, code
