"""Counts what one E-step launches and copies on a GPU, without one, and prints the table.

    python -m tests.launch_counts

Tensors lie on torch's device "meta": they have a shape and no memory. They go the way of CUDA tensors through the
package. Launches of Triton are counted and not made, and every operation of torch that would launch a kernel counts
once, though some launch several. Copies between host and device, and reads of a value on the host, are transfers: they
make the host wait, and cannot be captured in a CUDA graph. The first call, which makes tables, is not counted.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import int64
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import emnesy_gpu as em
from emnesy_gpu import backends, ops
from emnesy_gpu.ops.registry import NAMES, NAMESPACE
from tests.factor_graphs import hard_tree, loops, tree
from tests.triton_launches import not_launched

GPU = torch.device("meta")

NO_LAUNCH = {
    "alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "lift_fresh",
    "new_empty", "new_empty_strided", "permute", "_reshape_alias", "select", "slice", "split", "split_with_sizes",
    "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view", "_unsafe_view",
}  # fmt: skip
"""Operations that only look at a tensor, or reserve memory."""

READS = {"_local_scalar_dense", "nonzero", "unique", "_unique2", "equal"}
"""Operations after which the host knows a value, or a size, of the device."""


@dataclass
class Counts:
    """Launches of kernels of the package, with their options, and of torch, by name; transfers, by their operation."""

    own: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    torch: list[str] = field(default_factory=list)
    transfers: list[str] = field(default_factory=list)

    def clear(self) -> None:
        for found in (self.own, self.torch, self.transfers):
            found.clear()


class _Counting(TorchDispatchMode):
    """Runs the functions behind the operators of the package, and counts the operations of torch."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == NAMESPACE:
            with self:
                return _OPERATORS[func._opname](*args, **kwargs)
        with self:
            composed = func.decompose(*args, **kwargs)
        if composed is not NotImplemented:
            return composed
        if func._opname in READS and _devices(args) == {"meta"}:
            self.counts.transfers.append(func._opname)
            if func._opname == "_unique2":
                return tuple(torch.empty_like(args[0], dtype=dtype) for dtype in (args[0].dtype, int64, int64))
        result = func(*args, **kwargs)
        devices = _devices((args, kwargs, result))
        if {"cpu", "meta"} <= devices:
            self.counts.transfers.append(func._opname)
        elif "meta" in devices and func._opname not in NO_LAUNCH:
            self.counts.torch.append(func._opname)
        return result


def _devices(values: Any) -> set[str]:
    """The devices of the tensors in nested arguments or results; a scalar of the host is no tensor."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return {tensor.device.type for tensor in tensors if tensor.device.type != "cpu" or tensor.dim() > 0}


def _operators() -> dict[str, Callable[..., Any]]:
    """Name of an operator -> what it runs, without the way back to the dispatcher."""
    modules = [module for module in vars(ops).values() if inspect.ismodule(module)]
    return {name: vars(module)[name].__wrapped__ for module in modules for name in NAMES if name in vars(module)}


_OPERATORS = _operators()


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count the launches and transfers of what runs inside on tensors of the device GPU."""
    counts, tensor = Counts(), torch.tensor

    def tensor_from_host(*arguments: Any, **keywords: Any) -> torch.Tensor:
        result = tensor(*arguments, **keywords)
        if result.device == GPU:
            counts.transfers.append("tensor")
        return result

    with (
        mock.patch.dict(backends.BY_DEVICE, meta="triton"),
        mock.patch.object(torch, "tensor", tensor_from_host),
        _Counting(counts),
        not_launched() as counts.own,
    ):
        yield counts


@dataclass(frozen=True)
class EStep:
    """An E-step to count: of a problem with an engine, or its exact samples, and how many launches it may take."""

    name: str
    problem: Callable[[], em.Problem]
    engine: em.Engine | None
    launches: int
    batch: int = 64

    def counts(self) -> Counts:
        """What the second call launches and copies: the first one makes tables."""
        problem = self.problem()
        with counted() as counts:
            logits = torch.empty(self.batch, *problem.latent_shape, problem.cardinality, device=GPU)
            label = torch.empty(self.batch, *problem.label_shape, device=GPU, dtype=torch.int64)
            self.call(problem, logits, label)
            counts.clear()
            self.call(problem, logits, label)
        return counts

    def call(self, problem: em.Problem, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The marginals, or the samples."""
        if self.engine is None:
            return em.sample_posterior(problem, logits, label, 8, seed=0, check=False)
        return em.posterior(problem, logits, label, self.engine, check=False).marginals


def _parity(n_symbols: int) -> em.BlackBox:
    return em.BlackBox(label=lambda z: z.sum(-1) % 2, latent_shape=(n_symbols,), cardinality=2)


def _two_sizes() -> em.BlackBox:
    return em.BlackBox(score=lambda z, y: z.sum(-1) == y, latent_shape=(2,), cardinality=(2, 3))


def _backwards() -> em.Automaton:
    return em.Automaton(max, 0, lambda s: s, n_symbols=4, cardinality=3, order=[3, 2, 1, 0])


def _circuit() -> em.Circuit:
    return em.Circuit.from_automaton(em.rules.parity(20))


def _with_labels() -> em.FactorGraph:
    """Parities of neighbours, which are data."""
    graph = em.FactorGraph(4, 2)
    graph.add(em.factors.observed(em.rules.parity(2)), [(0, 1), (1, 2), (2, 3)])
    return graph


def _tree_with_labels() -> em.FactorGraph:
    graph = em.FactorGraph(4, 2)
    graph.add(em.factors.observed(em.rules.parity(2)), [(0, 1), (2, 3)])
    return graph


_CHANGES = em.ABC(samples=32, target_ess=4.0, rao_blackwell=True)


E_STEPS = [
    EStep("Addition(15) exact", lambda: em.Addition(15), em.Exact(), 2),
    EStep("Addition(15) MAP", lambda: em.Addition(15), em.MAP(), 3),
    EStep("Addition(15) samples", lambda: em.Addition(15), None, 1),
    EStep("Addition(15) ABC", lambda: em.Addition(15), em.ABC(), 4),
    EStep("Addition(15) ABC, target ESS", lambda: em.Addition(15), em.ABC(target_ess=8.0), 4),
    EStep("Addition(15) rejection", lambda: em.Addition(15), em.Rejection(), 4),
    EStep("Addition(15) Gibbs", lambda: em.Addition(15), em.Gibbs(sweeps=2), 5),
    EStep("Sudoku(4) exact", lambda: em.Sudoku(4), em.Exact(), 5),
    EStep("Sudoku(4) MAP", lambda: em.Sudoku(4), em.MAP(), 4),
    EStep("Sudoku(4) samples", lambda: em.Sudoku(4), None, 4),
    EStep("Sudoku(9) BP", lambda: em.Sudoku(9), em.BeliefPropagation(), 5),
    EStep("Sudoku(9) BP, pairwise", lambda: em.Sudoku(9), em.BeliefPropagation(factors="pairwise"), 5),
    EStep("Sudoku(9) MAP", lambda: em.Sudoku(9), em.MAP(), 4),
    EStep("Sudoku(9) ABC", lambda: em.Sudoku(9), em.ABC(), 7),
    EStep("Sudoku(9) ABC, sharp", lambda: em.Sudoku(9), em.ABC(sharpness=10.0), 10),
    EStep("Sudoku(9) ABC, local", lambda: em.Sudoku(9), em.ABC(scope="local"), 7),
    EStep("Sudoku(9) ABC, target ESS", lambda: em.Sudoku(9), em.ABC(target_ess=8.0), 8),
    EStep("Sudoku(9) rejection", lambda: em.Sudoku(9), em.Rejection(), 7),
    EStep("Sudoku(9) Gibbs", lambda: em.Sudoku(9), em.Gibbs(), 7),
    EStep("ShortestPath(12) ABC", lambda: em.ShortestPath(12), em.ABC(samples=128), 10),
    EStep("ShortestPath(12) ABC, target ESS", lambda: em.ShortestPath(12), em.ABC(samples=128, target_ess=8.0), 10),
    EStep("ShortestPath(12) ABC, Rao-Blackwellised", lambda: em.ShortestPath(12), _CHANGES, 10),
    EStep("ShortestPath(12) Gibbs", lambda: em.ShortestPath(12), em.Gibbs(), 6),
    EStep("ShortestPath(12) rejection", lambda: em.ShortestPath(12), em.Rejection(samples=128), 10),
    EStep("BlackBox(2, 3 values) ABC", _two_sizes, em.ABC(), 8),
    EStep("BlackBox(2, 3 values) Gibbs", _two_sizes, em.Gibbs(sweeps=2), 9),
    EStep("BlackBox exact", lambda: _parity(8), em.Exact(), 2),
    EStep("BlackBox MAP", lambda: _parity(8), em.MAP(), 2),
    EStep("BlackBox samples", lambda: _parity(8), None, 1),
    EStep("BlackBox(2, 3 values) exact", _two_sizes, em.Exact(), 5),
    EStep("BlackBox(2, 3 values) MAP", _two_sizes, em.MAP(), 5),
    EStep("BlackBox(2, 3 values) samples", _two_sizes, None, 4),
    EStep("BlackBox ABC", lambda: _parity(8), em.ABC(), 8),
    EStep("BlackBox Gibbs", lambda: _parity(8), em.Gibbs(sweeps=2), 9),
    EStep("Automaton exact", lambda: em.rules.parity(20), em.Exact(), 4),
    EStep("Automaton MAP", lambda: em.rules.parity(20), em.MAP(), 4),
    EStep("Automaton samples", lambda: em.rules.parity(20), None, 2),
    EStep("Automaton ABC", lambda: em.rules.parity(20), em.ABC(), 4),
    EStep("Automaton Gibbs", lambda: em.rules.parity(8), em.Gibbs(sweeps=2), 5),
    EStep("Automaton, last symbol first, exact", _backwards, em.Exact(), 5),
    EStep("Automaton, last symbol first, samples", _backwards, None, 4),
    EStep("Automaton, last symbol first, ABC", _backwards, em.ABC(), 4),
    EStep("FactorGraph exact", tree, em.Exact(), 3),
    EStep("FactorGraph BP", loops, em.BeliefPropagation(), 4),
    EStep("FactorGraph MAP", loops, em.MAP(), 4),
    EStep("FactorGraph with labels, exact", _tree_with_labels, em.Exact(), 4),
    EStep("FactorGraph with labels, BP", _with_labels, em.BeliefPropagation(), 5),
    EStep("FactorGraph with labels, MAP", _with_labels, em.MAP(), 5),
    EStep("FactorGraph ABC", hard_tree, em.ABC(), 4),
    EStep("FactorGraph Gibbs", hard_tree, em.Gibbs(), 5),
    EStep("FactorGraph with labels, ABC", _with_labels, em.ABC(target_ess=8.0), 4),
    EStep("FactorGraph with labels, Gibbs", _with_labels, em.Gibbs(), 5),
    EStep("FactorGraph rejection", hard_tree, em.Rejection(), 4),
    EStep("Circuit ABC", _circuit, em.ABC(), 4),
    EStep("Circuit Gibbs", _circuit, em.Gibbs(), 5),
    EStep("Circuit rejection", _circuit, em.Rejection(), 4),
    EStep("Circuit exact", _circuit, em.Exact(), 5),
    EStep("Circuit MAP", _circuit, em.MAP(), 5),
    EStep("Circuit samples", _circuit, None, 3),
]

PROMISED = {em.Exact: 5, em.MAP: 5, em.BeliefPropagation: 5, em.ABC: 10, em.Rejection: 10, em.Gibbs: 10}
"""Launches of an E-step with each of these engines, at most."""


def main() -> None:
    for step in E_STEPS:
        found = step.counts()
        copies = ", ".join(sorted(set(found.transfers)))
        print(f"{step.name:40} {len(found.own):5} {len(found.torch):6} {len(found.transfers):5} {copies}", flush=True)


if __name__ == "__main__":
    main()
