"""What every carry-chain kernel asks of a row first: whether its input is valid, and what its top carry is."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.symbol_rows import is_prior
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE


@lane_function
def row_status(logits, digits, base):
    """INVALID_LABEL, INVALID_LOGITS or POSSIBLE (so far), for logits [n_addends, n_digits, base] of one row."""
    for digit in digits:
        if digit < 0 or digit >= base:
            return INVALID_LABEL
    k, n, _ = logits.shape
    for j in range(k):
        for i in range(n):
            if not is_prior(logits[j, i]):
                return INVALID_LOGITS
    return POSSIBLE


@lane_function
def carry_out(digits, n_digits, base):
    """Value of the leading digits; -1 if one of them is out of range."""
    value = 0
    for digit in digits[: len(digits) - n_digits]:
        if digit < 0 or digit >= base:
            return -1
        value = value * base + digit
    return value
