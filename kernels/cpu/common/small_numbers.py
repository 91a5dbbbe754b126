"""Arithmetic in which numbers below the smallest normal one are 0.

Processors of Intel take over a hundred cycles for an operation with such a number, in place of half a one.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ZEROS = 0x8040
"""The bits of the control word of x86-64 that make small results 0, and small operands too."""

WORD = ir.IntType(32)


def _control_word(builder, name: str, address) -> None:
    """Read or write the control word of the thread; nothing on other processors, which need none of it."""
    if "x86_64" in builder.module.triple:
        pointer = builder.bitcast(address, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}"), [pointer])


@intrinsic
def small_numbers_are_zero(typingctx):
    """From here on. Returns how it was before, for ``small_numbers_as_before``."""

    def codegen(context, builder, signature, args):
        before, after = (cgutils.alloca_once_value(builder, WORD(0)) for _ in range(2))
        _control_word(builder, "stmxcsr", before)
        word = builder.load(before)
        builder.store(builder.or_(word, WORD(ZEROS)), after)
        _control_word(builder, "ldmxcsr", after)
        return word

    return types.uint32(), codegen


@intrinsic
def small_numbers_as_before(typingctx, word):
    """The state of the thread that ``small_numbers_are_zero`` has returned."""

    def codegen(context, builder, signature, args):
        _control_word(builder, "ldmxcsr", cgutils.alloca_once_value(builder, args[0]))
        return context.get_dummy_value()

    return types.void(word), codegen
