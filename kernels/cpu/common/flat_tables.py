"""Tables of a problem as kernels read them: few flat arrays, which cost a call least, made once for each problem."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class _Kept(NamedTuple):
    """What is kept of one list: its tensors, so that their addresses stay theirs, and what was made of each kind."""

    addresses: list[int]
    tensors: Sequence[Tensor]
    made: dict[Any, Any]


class KeptTables:
    """What was made of lists of tensors, for as long as the first tensor of each lives.

    watched: indices of other tensors whose addresses tell two lists with the same first tensor apart.
    """

    def __init__(self, watched: tuple[int, ...]) -> None:
        self._watched = watched
        self._kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        # Of the last call, which is often that of the next: the dictionary takes 1 us to find it.
        self._last: tuple[Callable[[], Tensor | None], _Kept | None] = (lambda: None), None

    def get(self, tables: Sequence[Tensor], kind: Any, make: Callable[[], Any]) -> Any:
        """What make() returned for these tables and this kind."""
        last_tensor, kept = self._last
        if last_tensor() is not tables[0]:
            kept = None
        addresses = [tables[index].data_ptr() for index in self._watched]
        if kept is None or kept.addresses != addresses:
            kept = self._kept.get(tables[0])
            if kept is None or kept.addresses != addresses:
                kept = self._kept[tables[0]] = _Kept(addresses, tables[1:], {})
            self._last = weakref.ref(tables[0]), kept
        if kind not in kept.made:
            kept.made[kind] = make()
        return kept.made[kind]


def joined(parts: dict[str, np.ndarray], dtype: type) -> tuple[np.ndarray, dict[str, int]]:
    """All numbers in one flat array, and where each part begins."""
    firsts, total = {}, 0
    for name, part in parts.items():
        firsts[name] = total
        total += part.size
    return np.concatenate([part.ravel().astype(dtype) for part in parts.values()]), firsts


@intrinsic
def item(typingctx, array, index):
    """One number of a flat int32 array as an index, without a look whether it counts from the end."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        number = builder.load(cgutils.gep_inbounds(builder, data, args[1]))
        return context.cast(builder, number, types.int32, types.intp)

    return types.intp(array, types.intp), codegen
