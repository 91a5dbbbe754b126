"""Sharding strategies of the operators for ``DTensor``: which parts of their arguments make which part of a result.

Rows are computed apart. So every operator works on shards of the batch, where its tables are replicated. An operator
that draws samples does not: it would give equal samples to the first row of every shard. Its arguments are replicated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from emnesy_gpu.ops.registry import METHODS, NAMES, NAMESPACE

BY_ROW = ("logits", "label", "z", "costs", "start", "goal")
"""The arguments [batch, ...]; others are tables of the problem. ``costs`` of an operator with logits is a table too."""


def register_sharding() -> None:
    """Register the strategies of all operators. May be called again.

    ``em.posterior``, ``em.sample_posterior`` and ``em.fused_em_loss`` need no strategies: on a ``DTensor`` they compute
    the rows of each process, with the samples of the whole batch. This is for ``torch.ops.emnesy_gpu`` in programs of
    ``DTensor``. All tensor arguments must be one; tables with ``Replicate()``.

    Raises ImportError where torch has no ``torch.distributed``.

    >>> import emnesy_gpu as em
    >>> em.register_sharding()
    """
    from torch.distributed.tensor.experimental import register_sharding as register

    for name in (*NAMES, *METHODS):
        operator = getattr(getattr(torch.ops, NAMESPACE), name).default
        register(operator)(strategies(operator._schema))


def strategies(schema: Any) -> Callable[..., list[tuple[list[Any], list[Any]]]]:
    """Return the function that lists placements (of the results, of the arguments) for an operator."""
    from torch.distributed.tensor import Replicate, Shard

    names = [argument.name for argument in schema.arguments]
    takes_logits, draws = "logits" in names, "first_row" in names

    def of_argument(rows: Any, name: str, argument: Any) -> list[Any]:
        if isinstance(argument, (tuple, list)):
            return [placement for entry in argument for placement in of_argument(rows, "", entry)]
        if not hasattr(argument, "tensor_meta"):
            return [None]
        by_row = name in BY_ROW and not (takes_logits and name == "costs")
        return [rows if by_row else Replicate()]

    def listed(*arguments: Any, **named: Any) -> list[tuple[list[Any], list[Any]]]:
        given = {**dict(zip(names, arguments, strict=False)), **named}
        ways = [Replicate()] if draws else [Replicate(), Shard(0)]
        return [
            ([rows] * len(schema.returns), [one for pair in given.items() for one in of_argument(rows, *pair)])
            for rows in ways
        ]

    return listed
