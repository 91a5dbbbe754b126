"""A circuit as the kernels of every back end receive it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class CircuitTables(NamedTuple):
    """Everything int32 on one device. n hidden symbols of K values, M entries of the label, N nodes, T terms.

    The circuit. Its rows are, in this order: leaf i * K + v for value v of symbol i; for each entry of the label a leaf
    for each of its values, 1 where the entry has this value or is not given, 0 elsewhere; the constant 1; the nodes,
    children before parents. A node is the sum over its terms of the product of two rows; a term of a single row has the
    constant on its right. The last node is the root.

    given: [M + 1], the first leaf of each entry of the label, and the row of the constant at last. codes: [M, Q + 3],
    one more than the value that each code of an entry stands for, in column code + 2: 0 for code -1, not given, and -1
    for codes that do not exist, as in the first and the last column. first: [N + 1], the first term of each node. left,
    right: [T]. node_levels: [H + 1], the first node of each level: its nodes read earlier rows alone. draws: [N], the
    Philox counter of each node where samples choose a term, above n: another one for all nodes of one sample (the
    counters below n belong to symbols that no chosen part mentions). mentioned: [n], 1 for symbols that every part
    mentions.

    The tape: evidence and derivatives by one kind of instruction, table[out] = sum of table[left] * table[right].
    Its table has the leaves and the constant in the rows of the circuit, then the value of the root; all other rows are
    used again once nothing reads them. levels: [V + 1], the first run of each level; instructions of one level do not
    depend on each other, and no row is written in the level that reads its earlier value. runs: [R, 4], first
    instruction, instructions, first term, and terms of each. out: [I]. tape_left, tape_right: rows of the table.
    derivatives: [leaves], for each leaf the row that holds the derivative of the root in the end; -1 where there is
    none. Those of the leaves of the label are wanted in the tape of a prediction alone, those of the symbols in all
    others.
    """

    given: Tensor
    codes: Tensor
    first: Tensor
    left: Tensor
    right: Tensor
    node_levels: Tensor
    draws: Tensor
    mentioned: Tensor
    levels: Tensor
    runs: Tensor
    out: Tensor
    tape_left: Tensor
    tape_right: Tensor
    derivatives: Tensor

    def to(self, device: torch.device) -> CircuitTables:
        return CircuitTables(*(table.to(device) for table in self))


def certain_logits(z: Tensor, n_values: int) -> Tensor:
    """Logits float32 [batch, n, K] of symbols that are known: 0 for the value of z [batch, n], -inf for all others."""
    known = z[..., None] == torch.arange(n_values, device=z.device)
    return torch.where(known, 0.0, -torch.inf)
