"""Circuits whose meaning is known, and the answers of enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.tables import Compiled, make_tables
from tests.circuit_builder import FALSE, TRUE, Builder

Step = Callable[[int, Hashable, int], Hashable]


class Example(NamedTuple):
    """A circuit and what it means: label(z) -> the value of each entry, or None where the assignment is forbidden."""

    name: str
    graph: Graph
    label: Callable[[tuple[int, ...]], tuple[int, ...] | None]

    def __str__(self) -> str:
        return self.name

    def compiled(self, *, prediction: bool = False) -> Compiled:
        return make_tables(self.graph, prediction=prediction)

    def meanings(self) -> tuple[Tensor, Tensor]:
        """All assignments int64 [Z, n], and their labels int64 [Z, M], -1 where they are forbidden."""
        symbols = list(itertools.product(range(self.graph.n_values), repeat=self.graph.n_symbols))
        forbidden = (-1,) * len(self.graph.given)
        labels = [self.label(z) for z in symbols]
        shape = len(symbols), len(self.graph.given)
        of_all = torch.tensor([forbidden if label is None else label for label in labels]).view(shape)
        allowed = torch.tensor([label is not None for label in labels])
        return torch.tensor(symbols).view(len(symbols), -1), torch.where(allowed[:, None], of_all, -1)

    def draw(self, batch: int = 12, sd: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Logits, and rows int32 [batch, M] of every kind: given, not given, given in part."""
        generator = torch.Generator().manual_seed(seed)
        logits = sd * torch.randn(batch, self.graph.n_symbols, self.graph.n_values, generator=generator)
        rows = [torch.randint(0, size + 1, (batch,), generator=generator) for size in self.graph.given]
        stacked = torch.stack(rows, 1) if rows else torch.zeros(batch, 0)
        return logits, stacked.to(torch.int32)


class Enumerated(NamedTuple):
    """The answers of brute force, float64, for every row."""

    log_joint: Tensor  # [batch, Z], -inf for assignments without the label
    log_evidence: Tensor  # [batch]
    marginals: Tensor  # [batch, n, K]; NaN where the label is impossible


def enumerated(example: Example, logits: Tensor, rows: Tensor) -> Enumerated:
    z, labels = example.meanings()
    allowed = torch.tensor([example.label(tuple(values)) is not None for values in z.tolist()])
    has_label = ((rows[:, None] == labels + 1) | (rows[:, None] == 0)).all(-1) & allowed
    log_prior = torch.log_softmax(logits.double(), -1)
    n, k = logits.shape[1:]
    one_hot = torch.nn.functional.one_hot(z, k).double()
    log_joint = torch.stack([log_prior[:, i, z[:, i]] for i in range(n)]).sum(0)
    log_joint = torch.where(has_label, log_joint, float("-inf"))
    marginals = torch.einsum("bz,znk->bnk", torch.softmax(log_joint, 1), one_hot)
    return Enumerated(log_joint, torch.logsumexp(log_joint, 1), marginals)


def from_steps(n: int, k: int, step: Step, finish: Callable[[Hashable], int | None], n_labels: int) -> Graph:
    """A decision diagram with a label of one entry, or none where n_labels is 0; None stands for what is forbidden."""
    builder, memo = Builder(n, k, (n_labels,) if n_labels else ()), {}

    def node(i: int, state: Hashable) -> int:
        if state is None:
            return FALSE
        if i == n:
            label = finish(state)
            return FALSE if label is None else builder.label_leaf(0, label) if n_labels else TRUE
        if (i, state) not in memo:
            ways: dict[Hashable, list[int]] = {}
            for value in range(k):
                ways.setdefault(node(i + 1, step(i, state, value)), []).append(value)
            memo[i, state] = builder.sum([(builder.values_of(i, values), below) for below, values in ways.items()])
        return memo[i, state]

    return builder.graph(node(0, 0))


def parity_graph(n: int) -> Graph:
    return from_steps(n, 2, lambda i, s, v: s ^ v, lambda s: s, 2)


def parity(n: int, *, prediction: bool = False) -> Compiled:
    """The label is the sum of n bits modulo 2."""
    return make_tables(parity_graph(n), prediction=prediction)


def permutation_graph(n: int, k: int, *, labelled: bool = True) -> Graph:
    """Whether all symbols differ: the label, or what is known."""

    def step(i: int, used: Hashable, v: int) -> Hashable:
        if used == "no" or used >> v & 1:
            return "no" if labelled else None
        return used | 1 << v

    return from_steps(n, k, step, lambda s: int(s != "no"), 2 if labelled else 0)


def exactly_graph(count: int, n: int) -> Graph:
    """Exactly so many of n bits are 1; no label."""
    return from_steps(n, 2, lambda i, s, v: s + v if s + v <= count else None, lambda s: 0 if s == count else None, 0)


def random_graph(n: int, k: int, states: int, labels: int, seed: int) -> tuple[Graph, Callable[..., int | None]]:
    """A random diagram with gaps, and its label as a function of the symbols."""
    rng = np.random.default_rng(seed)
    successor = rng.integers(-1, states, (n, states, k))
    end = rng.integers(0, labels, states)

    def step(i: int, state: Hashable, v: int) -> Hashable:
        target = int(successor[i, state, v])
        return None if target < 0 else target

    def label(z: tuple[int, ...]) -> int | None:
        state: Hashable = 0
        for i, v in enumerate(z):
            state = None if state is None else step(i, state, v)
        return None if state is None else int(end[state])

    return from_steps(n, k, step, lambda s: int(end[s]), labels), label


def two_entries() -> Example:
    """Entry 0 is the parity of bits 0 and 2, entry 1 is bit 1."""
    b = Builder(3, 2, (2, 2))
    parts = []
    for parity_of in range(2):
        pairs = [b.product([b.leaf(0, v), b.leaf(2, v ^ parity_of)]) for v in range(2)]
        parts.append((b.label_leaf(0, parity_of), b.sum([(pair, TRUE) for pair in pairs])))
    known = b.sum([(b.label_leaf(1, v), b.leaf(1, v)) for v in range(2)])
    return Example("two entries", b.graph(b.product([b.sum(parts), known])), lambda z: (z[0] ^ z[2], z[1]))


def unmentioned() -> Example:
    """Symbol 0 is 1, or 0 together with symbol 2; symbol 1 is free."""
    b = Builder(3, 3, ())
    root = b.sum([(b.leaf(0, 1), TRUE), (b.leaf(0, 0), b.leaf(2, 0))])
    return Example("unmentioned", b.graph(root), lambda z: () if z[0] == 1 or (z[0] == 0 and z[2] == 0) else None)


def single_rows() -> list[Example]:
    """Circuits of a leaf, of nothing but TRUE, and of symbols with one value."""
    leaf, true, one = Builder(2, 3, ()), Builder(2, 3, ()), Builder(2, 1, (2,))
    return [
        Example("leaf", leaf.graph(leaf.leaf(1, 2)), lambda z: () if z[1] == 2 else None),
        Example("true", true.graph(TRUE), lambda z: ()),
        Example("one value", one.graph(one.product([one.leaf(0, 0), one.label_leaf(0, 1)])), lambda z: (1,)),
    ]


def random_example(n: int, k: int, states: int, labels: int, seed: int) -> Example | None:
    """None where nothing is allowed."""
    try:
        graph, label = random_graph(n, k, states, labels, seed)
    except ValueError:
        return None

    def of(z: tuple[int, ...]) -> tuple[int, ...] | None:
        found = label(z)
        return None if found is None else (found,)

    return Example(f"random {n} {k} {states} {labels} {seed}", graph, of)


def all_examples() -> list[Example]:
    drawn = [random_example(5, 3, 4, 3, seed) for seed in range(3)]
    return [
        Example("parity", parity_graph(4), lambda z: (sum(z) % 2,)),
        Example("permutation", permutation_graph(3, 3), lambda z: (int(len(set(z)) == 3),)),
        Example("permutation of 4 of 5", permutation_graph(4, 5), lambda z: (int(len(set(z)) == 4),)),
        Example("exactly 2 of 5", exactly_graph(2, 5), lambda z: () if sum(z) == 2 else None),
        two_entries(),
        unmentioned(),
        *single_rows(),
        *[example for example in drawn if example is not None],
    ]
