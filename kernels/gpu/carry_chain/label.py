"""Reads label digits, and checks each before it becomes an index."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE


@triton.jit
def checked_digit(pointers, active, base):
    """The label digits of any shape (0 in place of one outside [0, base)), and INVALID_LABEL where one was outside."""
    label = tl.load(pointers, mask=active, other=0)
    in_range = (label >= 0) & (label < base)
    return tl.where(in_range, label, 0).to(tl.int32), tl.where(in_range, POSSIBLE, INVALID_LABEL)


@triton.jit
def top_carry(pointers, active, N_EXTRA: tl.constexpr, base):
    """The value of the N_EXTRA leading label digits from each of pointers [S, 1], and their status [S, 1]."""
    carry, code = checked_digit(pointers, active, base)
    for i in tl.static_range(1, N_EXTRA):
        digit, digit_code = checked_digit(pointers + i, active, base)
        carry = carry * base + digit
        code = tl.maximum(code, digit_code)
    return carry, code


@triton.jit
def final_status(code, possible):
    """The status of valid input is that of its evidence."""
    return tl.maximum(code, tl.where(possible, POSSIBLE, IMPOSSIBLE))
