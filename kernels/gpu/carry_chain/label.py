"""Label digits, checked before any of them becomes an index."""

import triton
import triton.language as tl


@triton.jit
def checked_digit(pointers, active, base):
    """The label digit (0 in place of one outside [0, base)), and 3 where it was outside, else 0."""
    label = tl.load(pointers, mask=active, other=0)
    in_range = (label >= 0) & (label < base)
    return tl.where(in_range, label, 0).to(tl.int32), tl.where(in_range, 0, 3)


@triton.jit
def top_carry(pointers, active, N_EXTRA: tl.constexpr, base):
    """The value of the N_EXTRA leading label digits, and the status code 3 or 0."""
    carry, code = checked_digit(pointers, active, base)
    for i in tl.static_range(1, N_EXTRA):
        digit, digit_code = checked_digit(pointers + i, active, base)
        carry = carry * base + digit
        code = tl.maximum(code, digit_code)
    return carry, code
