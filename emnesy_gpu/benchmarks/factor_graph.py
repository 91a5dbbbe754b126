"""Factor graphs: fused belief propagation against plain torch, PGMax, pgmpy, pyAgrum, ldpc, a softmax and a copy.

20 flooding sweeps, and as many serial ones, which is the default schedule; a tree is exact. The other packages take
part on CPUs where they are installed: PGMax on pairs, ldpc on a code, pgmpy and pyAgrum on one row of a tree, as they
go row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import factor_graph_peers as peers
from emnesy_gpu.baselines.factor_graph_torch import Automata, Pairs, Parities, beliefs
from emnesy_gpu.benchmarks.suite import Calls, Suite

SWEEPS = 20
CODE_BITS, DECIBELS = 504, 2.5
BATCHES = (1, 32, 1024)
CHECKED_ROWS = 4
METHODS = {
    "fused": f"beliefs of {SWEEPS} flooding sweeps from logits, one fused kernel",
    "fused serial": f"beliefs of {SWEEPS} serial sweeps",
    "torch": "the flooding sweeps in plain torch",
    "PGMax": "the same by PGMax in JAX (pairs, where installed)",
    "pgmpy": "exact marginals by pgmpy (one row of a tree, where installed)",
    "pyAgrum": "exact marginals by pyAgrum (one row of a tree, where installed)",
    "ldpc": "bits by ldpc, which stops once all parities hold (codes, where installed)",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


Factors = Pairs | Parities | Automata


class Model(NamedTuple):
    """A graph of one kind of factor: as the package has it, and as plain torch does."""

    graph: em.FactorGraph
    factors: Factors

    @property
    def n_edges(self) -> int:
        """Messages that one sweep sends to symbols."""
        return self.factors.scopes.numel()


def pairs(n_symbols: int, n_values: int, scopes: Tensor) -> Model:
    """One table that makes neighbours alike; it differs from its transpose."""
    weights = 1.0 + torch.eye(n_values) + 0.2 * torch.rand(n_values, n_values, generator=_generator())
    graph = em.FactorGraph(n_symbols, n_values)
    graph.add(em.factors.pairwise(weights), scopes.numpy())
    return Model(graph, Pairs(scopes, weights))


def grid(side: int, n_values: int) -> Model:
    """Neighbours on a square."""
    cell = torch.arange(side * side).view(side, side)
    every = (cell[:, :-1], cell[:, 1:]), (cell[:-1], cell[1:])
    return pairs(side * side, n_values, torch.cat([torch.stack(pair, -1).view(-1, 2) for pair in every]))


def cycle(n_symbols: int, n_values: int) -> Model:
    """Neighbours on a ring."""
    symbol = torch.arange(n_symbols)
    return pairs(n_symbols, n_values, torch.stack([symbol, symbol.roll(-1)], -1))


def bipartite(side: int) -> Model:
    """All pairs of two sets of symbols with two values."""
    return pairs(2 * side, 2, torch.cartesian_prod(torch.arange(side), torch.arange(side, 2 * side)))


def tree(n_symbols: int, n_values: int) -> Model:
    """Every symbol with its parent in a binary tree."""
    child = torch.arange(1, n_symbols)
    return pairs(n_symbols, n_values, torch.stack([(child - 1) // 2, child], -1))


def roster(side: int, count: int) -> Model:
    """So many ones in every row and every column of a square: automata that count."""
    cell = torch.arange(side * side).view(side, side)
    scopes = torch.cat([cell, cell.T])
    graph = em.FactorGraph(side * side, 2)
    graph.add(em.factors.exactly(count), scopes.numpy())
    states = torch.arange(count + 2)
    following = torch.stack([states, (states + 1).clamp_max(count + 1)], -1)
    return Model(graph, Automata(scopes, following, count))


def code() -> Model:
    """Three random divisions of 504 bits into parities of six."""
    generator = _generator()
    scopes = torch.cat([torch.randperm(CODE_BITS, generator=generator).view(-1, 6) for _ in range(3)])
    graph = em.FactorGraph(CODE_BITS, 2)
    graph.add(em.factors.parity(), scopes.numpy())
    return Model(graph, Parities(scopes))


GRAPHS: dict[str, Callable[[], Model]] = {
    "grid-10-of-2": lambda: grid(10, 2),
    "grid-50-of-2": lambda: grid(50, 2),
    "grid-8-of-8": lambda: grid(8, 8),
    "cycle-100-of-4": lambda: cycle(100, 4),
    "bipartite-50": lambda: bipartite(50),
    "tree-63-of-3": lambda: tree(63, 3),
    "roster-14": lambda: roster(14, 4),
    "code-504": code,
}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@cache
def model(name: str) -> Model:
    """The graph of a name."""
    return GRAPHS[name]()


def inputs(name: str, batch: int, device: torch.device) -> tuple[em.FactorGraph, Tensor, Tensor, Factors]:
    """Logits of a net that has learned nothing (s.d. 1); those of received words for the code."""
    found, generator = model(name), _generator()
    if isinstance(found.factors, Parities):
        logits = received(batch, DECIBELS, generator)
    else:
        logits = torch.randn(batch, *found.graph.latent_shape, found.graph.cardinality, generator=generator)
    label = torch.ones(batch, dtype=torch.int64, device=device)
    return found.graph, logits.to(device), label, found.factors


def received(frames: int, decibels: float, generator: torch.Generator, n_bits: int = CODE_BITS) -> Tensor:
    """Logits [frames, n_bits, 2] of words of zeros through Gaussian noise, at rate 1/2."""
    variance = 10.0 ** (-decibels / 10.0)
    y = 1.0 + variance**0.5 * torch.randn(frames, n_bits, generator=generator)
    return torch.stack([2.0 * y / variance, torch.zeros_like(y)], -1)


def calls(graph: em.FactorGraph, logits: Tensor, label: Tensor, factors: Factors) -> Calls:
    """Each method as a call without arguments; all but the last two return beliefs, or bits."""
    moved = factors._replace(scopes=factors.scopes.to(logits.device))
    target = torch.empty_like(logits)
    flooding, serial = (em.BeliefPropagation(SWEEPS, schedule=name) for name in ("flooding", "serial"))
    return {
        "fused": lambda: em.posterior(graph, logits, label, flooding).marginals,
        "fused serial": lambda: em.posterior(graph, logits, label, serial).marginals,
        "torch": lambda: beliefs([moved], logits, SWEEPS),
        **(rivals(graph, logits, factors) if logits.device.type == "cpu" else {}),
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def rivals(graph: em.FactorGraph, logits: Tensor, factors: Factors) -> Calls:
    """Those that are installed and can infer on the graph."""
    runs: dict[str, Callable[[Tensor], Tensor]] = {}
    if isinstance(factors, Pairs):
        if find_spec("pgmax"):
            runs["PGMax"] = peers.pgmax(factors, graph.n_variables, SWEEPS)
        if graph.is_tree and len(logits) == 1:
            for name, run in (("pgmpy", peers.pgmpy), ("pyAgrum", peers.pyagrum)):
                if find_spec(name.lower()):
                    runs[name] = run(factors, graph.n_variables, graph.cardinality)
    elif isinstance(factors, Parities) and find_spec("ldpc"):
        decode = peers.ldpc(factors.scopes, graph.n_variables, SWEEPS)
        runs["ldpc"] = lambda logits: decode(logits)[0]
    return {name: (lambda run=run: run(logits)) for name, run in runs.items()}  # type: ignore[misc]


def errors(graph: em.FactorGraph, logits: Tensor, label: Tensor, factors: Factors) -> dict[str, float]:
    """Largest error of beliefs in the first rows against the flooding sweeps in plain torch and float64.

    Tests compare these with the reference. Serial sweeps are compared on trees alone, where they are exact, too.
    """
    some = logits[:CHECKED_ROWS]
    moved = factors._replace(scopes=factors.scopes.to(some.device))
    expected = beliefs([moved], some.double(), SWEEPS)
    methods = calls(graph, some, label[:CHECKED_ROWS], factors)
    checked = [name for name in methods if name in ("fused", "torch", "PGMax", "pgmpy", "pyAgrum")]
    checked += ["fused serial"] if graph.is_tree else []
    return {name: float((methods[name]() - expected).abs().max()) for name in checked}


SUITE = Suite(
    name="factor_graph",
    title="Factor graphs",
    size_name="graph",
    sizes=tuple(GRAPHS),
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=calls,
    errors=errors,
    unit="message, value and sweep",
    work=lambda name: SWEEPS * model(name).n_edges * model(name).graph.cardinality,
    baseline="torch",
    plain_torch=("torch", "softmax", "copy"),
    rivals=("PGMax", "pgmpy", "pyAgrum", "ldpc"),
)
