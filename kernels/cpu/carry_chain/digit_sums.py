"""Which sums of digits and which carries belong together, whatever the arithmetic.

At one position the digits of all addends and the carry-in c add up to digit + base * c_out, where digit is that of the
label and c_out the carry-out. k addends carry at most k - 1.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import lane_function


@lane_function
def n_sums(addends, base):
    """How many values the sum of so many digits can have: 0 .. addends * (base - 1)."""
    return addends * (base - 1) + 1


@lane_function
def digits_between(carry_in, carry_out, addends, base):
    """(offset, first, last): digits s of the label with first <= s < last are possible, with digit sum s + offset."""
    offset = base * carry_out - carry_in
    return offset, max(0, -offset), min(base, n_sums(addends, base) - offset)


@lane_function
def transfer_row(at, i, carry_in, carry_out):
    """Row of the weight of position i for one pair of carries, in the scratch array of a layout."""
    return at.transfers + (i * at.n_addends + carry_in) * at.n_addends + carry_out
