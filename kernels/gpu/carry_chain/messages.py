"""Takes messages over carries from position to position as probabilities, with a bound of what they lack.

A message is scaled now and then. What underflow has taken from its entries is bounded by `missed`, which the same
products take along.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Message(NamedTuple):
    """Weights of the carries between two positions: tuples of tensors [ROWS, 1]."""

    weights: Any
    missed: Any  # what they lack, at most


@triton.constexpr_function
def underflow(compute):
    """More than the products of a position lose together: 2^15 times the smallest normal number."""
    return {tl.float32: 2.0**-111, tl.float64: 2.0**-1007}[compute]


@triton.constexpr_function
def tolerance(compute):
    """The share of the evidence that may be missing: half a last bit."""
    return {tl.float32: 2.0**-24, tl.float64: 2.0**-53}[compute]


@triton.jit
def scaled(values, by):
    """Every entry of a tuple times a factor."""
    products = ()
    for v in tl.static_range(len(values)):
        products = products + (values[v] * by,)
    return products
