"""Rows of a ``DTensor``. Inference treats every row by itself, so that each process computes the rows that it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """How the first axis, of ``n_rows``, lies on the processes of a mesh, and the first row that this one holds."""

    mesh: Any
    placements: tuple[Any, ...]
    n_rows: int
    first_row: int

    def local(self, name: str, tensor: Tensor) -> Tensor:
        """Return the rows of this process of a ``DTensor`` [n_rows, ...], which is moved where it lies otherwise.

        Raises TypeError for a plain tensor: it does not tell whether it has all rows or those of this process.
        """
        if not hasattr(tensor, "redistribute"):
            raise TypeError(f"{name} must be a DTensor where logits are one, got {type(tensor).__name__}")
        local: Tensor = tensor.redistribute(self.mesh, self.placements).to_local()
        return local

    def whole(self, local: Tensor, axis: int = 0) -> Tensor:
        """Return the ``DTensor`` of which ``local`` has the rows of this process, along an axis."""
        from torch.distributed.tensor import DTensor, Shard

        placements = [Shard(axis) if placement.is_shard() else placement for placement in self.placements]
        shape = torch.Size([*local.shape[:axis], self.n_rows, *local.shape[axis + 1 :]])
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(local, self.mesh, placements, run_check=False, shape=shape, stride=stride)


def rows_of(logits: Tensor, n_trailing: int) -> Rows | None:
    """Return where the rows of a ``DTensor`` are; None for a plain tensor.

    n_trailing: axes of a row. There may be other axes between the first one and these: its entries are several rows.

    Raises ValueError where something else than whole rows is sharded.
    """
    if not hasattr(logits, "placements"):
        return None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sharded: Any = logits
    placements = tuple(sharded.placements)
    if not all(placement.is_replicate() or placement.is_shard(0) for placement in placements):
        raise ValueError(
            f"logits must be sharded along the batch, Shard(0), or replicated, got {placements}: "
            "call logits.redistribute(placements=[Shard(0)])"
        )
    _, offset = compute_local_shape_and_global_offset(logits.shape, sharded.device_mesh, placements)
    each = logits.shape[1 : logits.dim() - n_trailing].numel()
    return Rows(sharded.device_mesh, placements, logits.shape[0], offset[0] * each)
