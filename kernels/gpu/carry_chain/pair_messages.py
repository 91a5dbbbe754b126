"""Defines transfer matrices and messages of the carry chain of two addends, and their products."""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.log2_semiring import add


class Matrix(NamedTuple):
    """log2 weights of carry-in and carry-out, tensors of one shape."""

    m00: object
    m01: object
    m10: object
    m11: object


class Messages(NamedTuple):
    """log2 weights of the carry into a stretch of the chain (alpha) and out of it (beta), tensors of one shape."""

    alpha0: object
    alpha1: object
    beta0: object
    beta1: object


@triton.jit
def sum_of_paths(messages, m00, m01, m10, m11):
    """log2 of alpha m beta."""
    from_0 = messages.alpha0 + add(m00 + messages.beta0, m01 + messages.beta1)
    from_1 = messages.alpha1 + add(m10 + messages.beta0, m11 + messages.beta1)
    return add(from_0, from_1)


@triton.jit
def largest_path(messages, m):
    """log2 of the largest of the four terms of alpha m beta."""
    alpha0, alpha1, beta0, beta1 = messages
    return tl.maximum(
        tl.maximum(alpha0 + m.m00 + beta0, alpha0 + m.m01 + beta1),
        tl.maximum(alpha1 + m.m10 + beta0, alpha1 + m.m11 + beta1),
    )
