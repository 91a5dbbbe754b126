"""What the factor graph kernels are given: tables in flat arrays, made once for each graph, and a layout of scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton import graph as automaton_graph
from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, LOGARITHMS
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables, joined
from emnesy_gpu.kernels.cpu.common.layout import consecutive_rows
from emnesy_gpu.kernels.cpu.common.records import record_reader
from emnesy_gpu.kernels.cpu.common.transpose import TILE
from emnesy_gpu.kernels.factor_graph_tables import CHAIN, FLOODING, PAIR, RESIDUAL, Compiled, FactorGraphTables

RUN = 8
"""Messages that are multiplied before the product is scaled, at most."""

LARGEST_EXPONENT = 40
"""A product of messages, whose entries are at most K, stays below 2 to this power."""


PAIR_OF_BITS = -1
"""The kind of a PAIR in a graph whose variables all have two values."""


class Graph(NamedTuple):
    """Sizes, and where the tables begin in ``numbers`` (int32) and ``weights``: few arrays cost a call least.

    Weights are probabilities in float32 or float64, or float64 logarithms.
    """

    n: int
    n_values: int  # K
    n_factors: int
    n_edges: int
    n_updates: int  # of a serial sweep
    n_products: int  # of runs of messages
    arity: int  # the largest
    run: int  # messages that are multiplied at once
    chained: bool  # whether there is a factor that is a chain
    bits: bool  # whether all variables have two values
    degree: int  # the most factors of a variable
    paired: bool  # whether all factors are pairs
    log_scale: float
    size: int  # [n]
    kind: int  # [F]: PAIR_OF_BITS, PAIR, CHAIN or PARITY
    first: int  # [F + 1]
    variable: int  # [E]
    which: int  # [F]
    incident: int  # [E]
    incident_first: int  # [n + 1]
    position: int  # [E]: of each edge among those of its symbol
    products: int  # [n]: the first product of the runs of a symbol
    order: int  # [U]: factors as a serial sweep renews them
    owner: int  # [E]: the factor of each edge
    flooding: int  # [F]: all factors once
    unary: int  # [n, K]
    pairs: int  # [T, K, K]
    numbers: np.ndarray
    weights: np.ndarray


class Layout(NamedTuple):
    """The first rows of what the scratch array of a block of rows holds."""

    priors: int  # [n, K], exponentials of the logits times unary weights
    beliefs: int  # [n, K], also logits on their way to priors
    messages: int  # [E, K], from factors, with sum k_i
    renewed: int  # [E, K] with flooding: what the next sweep reads
    products: int  # [n_products, K] but with flooding: see ``products``
    before: int  # [arity, K] by residuals: the messages of one factor before it was renewed
    cavities: int  # [arity, K]: n of the members of one factor
    fresh: int  # [2, K], or [arity + 1, 2] of a parity: what is under way of one factor
    behind: int  # [degree, K] with flooding where there are products: see ``flooding``
    sums: int  # [arity, C]: cavities of classes of values
    alpha: int  # [arity + 1, S + 1]
    beta: int  # [2, S + 1]
    rest: int  # [C + 1]
    counts: int
    lane_rows: int  # int64 of each lane: its row of the batch
    total: int


layout_at = record_reader(Layout)
graph_at = record_reader(Graph, numbers=(types.int32, 1), weights=(None, 1))
"""In kernels: (address of the record, a number of the type of the weights) -> the named tuple."""


N_COUNTS = 9

_graphs = KeptTables(watched=(1, 7))


def graphs(tables: Sequence[Tensor], kind: str) -> tuple[Graph, automaton_graph.Graph]:
    """Of tables that live as long as their graph, and of the automaton of its chains; they must not be written to."""
    compiled = Compiled.from_list(tables)
    return (
        _graphs.get(list(compiled.graph), kind, lambda: _graph(compiled.graph, kind)),
        automaton_graph.graph(list(compiled.chains), kind),
    )


def _graph(t: FactorGraphTables, kind: str) -> Graph:
    names = ("size", "kind", "first", "variable", "which", "incident", "incident_first", "order", "owner")
    parts = {name: getattr(t, name).numpy() for name in names}
    bits = t.unary.shape[1] == 2 and bool((t.size == 2).all())
    if bits:
        parts["kind"] = np.where(parts["kind"] == PAIR, PAIR_OF_BITS, parts["kind"])
    runs = _runs(np.diff(t.incident_first.numpy()), longest_run(t.unary.shape[1]))
    parts["products"] = np.cumsum(runs) - runs
    parts["position"] = _positions(t)
    numbers, where = joined(parts | {"flooding": np.sort(np.unique(parts["order"]))}, np.int32)
    weights = {"unary": t.unary.numpy(), "pairs": t.pairs.numpy()}
    if kind == LOGARITHMS:
        with np.errstate(divide="ignore"):
            weights = {name: np.log(weight) for name, weight in weights.items()}
    flat, weights_where = joined(weights, np.float32 if kind == FLOAT32 else np.float64)
    n, k = t.unary.shape
    return Graph(
        n=n,
        n_values=k,
        n_factors=len(t.kind),
        n_edges=len(t.variable),
        n_updates=len(t.order),
        n_products=int(runs.sum()),
        arity=max(2, int(t.first.diff().max())) if len(t.kind) else 2,
        run=longest_run(k),
        chained=bool((t.kind == CHAIN).any()),
        bits=bits,
        degree=int(t.incident_first.diff().max()),
        paired=bool((t.kind == PAIR).all()),
        log_scale=float(t.log_scale),
        **where,
        **weights_where,
        numbers=numbers,
        weights=flat,
    )


def _runs(degree: NDArray[np.int32], run: int) -> NDArray[np.int64]:
    """How many products of runs each symbol has: of messages, of these products, and so on."""
    count, total = degree.astype(np.int64), np.zeros(len(degree), np.int64)
    while (count > run).any():
        count = np.where(count > run, -(-count // run), 0)
        total += count
    return total


def _positions(t: FactorGraphTables) -> NDArray[np.int64]:
    """The position of each edge among those of its symbol."""
    incident, first = t.incident.numpy(), t.incident_first.numpy()
    position = np.empty(len(incident), np.int64)
    position[incident] = np.arange(len(incident)) - np.repeat(first[:-1], np.diff(first))
    return position


def longest_run(n_values: int) -> int:
    """How many messages are multiplied before the product is scaled."""
    return max(1, min(RUN, int(LARGEST_EXPONENT / math.log2(max(2, n_values)))))


def layout(g: Graph, chains: automaton_graph.Graph, schedule: str) -> Layout:
    """Rows of the scratch array for one number, table or message after the other."""
    n, k = g.n, g.n_values
    states = chains.n_states + 1 if g.chained else 0
    classes = chains.n_classes + 1 if g.chained else 0
    sizes = {
        "priors": n * k,
        "beliefs": -(-n * k // TILE) * TILE,
        "messages": g.n_edges * k,
        "renewed": g.n_edges * k if schedule == FLOODING else 0,
        "products": 0 if schedule == FLOODING else g.n_products * k,
        "before": g.arity * k if schedule == RESIDUAL else 0,
        "cavities": g.arity * k,
        "fresh": 2 * max(k, g.arity + 1),
        "behind": g.degree * k if schedule == FLOODING and g.n_products else 0,
        "sums": g.arity * classes,
        "alpha": (g.arity + 1) * states,
        "beta": 2 * states,
        "rest": classes,
        "counts": N_COUNTS,
        "lane_rows": 2,  # of float32
    }
    return Layout(**consecutive_rows(sizes))
