"""Named tuples of sizes and tables by one address: a call takes as long as its arguments need to be told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from emnesy_gpu.kernels.cpu.common.pointers import address_of

WORD = ir.IntType(64)
NUMBERS = {"int": types.intp, "bool": types.boolean, "float": types.float64}
"""What the fields of a record may be, but for arrays."""


class Record(NamedTuple):
    """A named tuple as int64 words: a number is one, an array that of its address and one for each axis."""

    address: int
    words: np.ndarray
    fields: Any  # kept, so that the addresses stay those of its arrays


def record_of(fields: Any) -> Record:
    """The record of a named tuple of numbers and arrays."""
    words: list[int] = []
    for value in fields:
        if isinstance(value, np.ndarray):
            words += [address_of(value), *value.shape]
        elif isinstance(value, float):
            words.append(int(np.float64(value).view(np.int64)))
        else:
            words.append(int(value))
    whole = np.array(words, np.int64)
    return Record(address_of(whole), whole, fields)


def record_reader(kind: type, **arrays: Any) -> Callable[..., Any]:
    """The function of kernels (address, like) -> the named tuple of a kind.

    arrays: the type of the numbers of each array and how many axes it has; None stands for the type of ``like``.
    """
    names: dict[str, str] = kind.__annotations__
    hints = get_type_hints(kind)

    def of_field(name: str, like: Any) -> Any:
        if name in arrays:
            numbers, axes = arrays[name]
            return types.Array(like if numbers is None else numbers, axes, "C")
        return NUMBERS[hints[name].__name__]

    @intrinsic
    def read(typingctx, address, like):
        fields = types.NamedTuple([of_field(name, like) for name in names], kind)

        def codegen(context, builder, signature, args):
            place, values = builder.inttoptr(args[0], WORD.as_pointer()), []
            for field in fields.types:
                size = field.ndim + 1 if isinstance(field, types.Array) else 1
                words = [builder.load(builder.gep(place, [WORD(index)])) for index in range(size)]
                place = builder.gep(place, [WORD(size)])
                values.append(_value(context, builder, field, words))
            return context.make_tuple(builder, fields, values)

        return fields(types.intp, like), codegen

    return read


def _value(context, builder, field, words):
    """One field, from its words."""
    if field is types.boolean:
        return builder.icmp_signed("!=", words[0], WORD(0))
    if field is types.float64:
        return builder.bitcast(words[0], ir.DoubleType())
    if not isinstance(field, types.Array):
        return words[0]
    item, array = WORD(field.dtype.bitwidth // 8), context.make_array(field)(context, builder)
    strides = [builder.mul(words[2], item), item] if field.ndim == 2 else [item]
    data = builder.inttoptr(words[0], context.get_data_type(field.dtype).as_pointer())
    populate_array(array, data=data, shape=words[1:], strides=strides, itemsize=item, meminfo=None)
    return array._getvalue()
