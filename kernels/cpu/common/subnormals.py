"""Subnormal numbers as zeros: with one, an operation takes Intel processors over a hundred cycles, not half a one.

Both ways change a mode of the calling thread, and leave it as it was. Kernels that are called with few rows change it
by themselves, which costs nothing; ``flushed`` takes about a microsecond.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SMALLEST = math.ulp(0.0)

ZEROS = 0x8040
"""The bits of the control word of x86-64 that make subnormal results 0, and subnormal operands too."""

WORD = ir.IntType(32)


@contextmanager
def flushed() -> Iterator[None]:
    """Let this thread take subnormal numbers as zeros, where its processor can do so.

    The work inside must not need them. Where the user has chosen the same for the thread, it stays so.
    """
    if are_flushed():
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def are_flushed() -> bool:
    """Whether this thread takes them as zeros."""
    return SMALLEST * 1.0 == 0.0


@intrinsic
def flush_subnormals(typingctx):
    """In kernels: from here on. Returns how it was before, for ``subnormals_as_before``."""

    def codegen(context, builder, signature, args):
        before, after = (cgutils.alloca_once_value(builder, WORD(0)) for _ in range(2))
        _control_word(builder, "stmxcsr", before)
        word = builder.load(before)
        builder.store(builder.or_(word, WORD(ZEROS)), after)
        _control_word(builder, "ldmxcsr", after)
        return word

    return types.uint32(), codegen


@intrinsic
def subnormals_as_before(typingctx, word):
    """In kernels: the state of the thread that ``flush_subnormals`` has returned."""

    def codegen(context, builder, signature, args):
        _control_word(builder, "ldmxcsr", cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(word), codegen


def _control_word(builder, name: str, address) -> None:
    """Read or write the control word of the thread; nothing on processors other than x86-64."""
    if "x86_64" in builder.module.triple:
        pointer = builder.bitcast(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}"), [pointer])
