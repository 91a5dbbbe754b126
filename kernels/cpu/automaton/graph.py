"""The tables of an automaton as its kernels read them: flat arrays, made once for each automaton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numba import types
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton.few_tables import few_tables
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables, joined
from emnesy_gpu.kernels.cpu.common.records import record_reader

# Share of the edges that a layer must have for the loops over all states and classes to be worth it.
COMPLETE_SHARE = 0.6
# Entries of a table of predecessors beyond which edge lists serve alone.
PREDECESSORS = 1 << 24

# Rough nanoseconds of a logit and of an edge, for one row: in float32 lanes, and in float64 logarithms.
LINEAR_COST = 0.5, 0.1
LOG_COST = 30.0, 10.0

UNKNOWN = 255

FLOAT32, FLOAT64, LOGARITHMS = "float32", "float64", "logarithms"


class Graph(NamedTuple):
    """Sizes, and where the tables begin in ``numbers`` (int32) and ``weights``: few arrays cost a call least.

    Weights are probabilities in float32 or float64, or float64 logarithms. Those of emissions are divided by the
    largest of their row, unless they are logarithms; log_emission has what is divided out.
    """

    n: int
    n_states: int  # S, the most of any layer
    n_classes: int  # C
    n_values: int
    n_labels: int  # rows of the emissions of an entry
    n_edges: int  # of all positions
    unit: bool  # whether all edges have weight 1
    one_class_each: bool  # no layer has two values that act alike, or a value without edges
    few: int  # P of FewTables, or 0 where its kernel does not serve
    n_sets: int
    sparse: bool
    log_scale: float
    growth: float  # the most by which a position multiplies a sum of messages, for priors of at most 1
    layer: int  # [n]
    before: int  # [L]: states before the layer
    after: int  # [L]
    classes: int  # [L, K], C for values without edges
    layer_classes: int  # [L]
    class_first: int  # [L, C + 1]: where the values of each class begin in the next table
    class_values: int  # [L, K]: values in the order of their classes
    in_first: int  # [L, S + 1]
    in_source: int
    in_class: int
    out_first: int  # [L, S + 1]
    out_class: int
    out_target: int
    successor: int  # [L, S, C], S where there is no edge
    predecessor: int  # [L, S, C], S where there is no edge
    complete: int  # [L]: whether the step backwards takes the table of successors
    injective: int  # [L]: whether the step forwards takes the table of predecessors
    step: int  # [L, P, P], follow: [L, C, P], set_first: [L, n_sets + 1] and set_classes: see FewTables
    follow: int
    set_first: int
    set_classes: int
    entry: int  # [n]
    starts: int  # [S]: whether the weight is positive, which float32 may forget
    allowed: int  # [M, Y + 1, S]: the same of the emissions
    in_weight: int
    out_weight: int
    start: int  # [S]
    emissions: int  # [M, Y + 1, S]
    numbers: np.ndarray
    weights: np.ndarray
    log_emission: np.ndarray  # float64 [M, Y + 1]
    possible: np.ndarray  # uint8 [Y + 1]: filled by the first call that asks, see ``screen``


graph_at = record_reader(
    Graph, numbers=(types.int32, 1), weights=(None, 1), log_emission=(types.float64, 2), possible=(types.uint8, 1)
)
"""In kernels: (address of the record of a graph, a number of the type of its weights) -> the graph."""


def row_cost(g: Graph, costs: tuple[float, float]) -> float:
    """Rough nanoseconds per row."""
    return costs[0] * g.n * g.n_values + costs[1] * g.n_edges


kept_automata = KeptTables(watched=(1, -3))
"""What was made of tables that live as long as their automaton; they must not be written to."""


def graph(tables: Sequence[Tensor], kind: str) -> Graph:
    found: Graph = kept_automata.get(tables, kind, lambda: _graph(AutomatonTables(*tables), kind))
    return found


def _graph(t: AutomatonTables, kind: str) -> Graph:
    n_classes = t.successor.shape[2]
    successor = t.successor if kind == FLOAT32 else t.successor[:0]
    few = few_tables(successor.numpy(), t.n_states[:, 0].numpy(), t.classes.shape[1])
    numbers, where = joined(_numbers(t, n_classes) | few.tables(), np.int32)
    dtype = np.float32 if kind == FLOAT32 else np.float64
    scaled, log_top = _weights(t, kind)
    weights, weights_where = joined(scaled, dtype)
    return Graph(
        n=len(t.layer),
        n_states=len(t.start),
        n_classes=n_classes,
        n_values=t.classes.shape[1],
        n_labels=t.emissions.shape[1],
        n_edges=int((t.in_first[:, -1] - t.in_first[:, 0]).long()[t.layer.long()].sum()),
        unit=bool((t.in_weight == 1.0).all()),
        one_class_each=bool((t.n_classes == t.classes.shape[1]).all()),
        few=few.size,
        n_sets=few.n_sets,
        sparse=few.sparse,
        log_scale=float(t.log_scale),
        growth=float(t.classes.shape[1] * (1 if len(t.successor) else len(t.start))),
        **where,
        **weights_where,
        numbers=numbers,
        weights=weights,
        log_emission=log_top,
        possible=np.full(t.emissions.shape[1], UNKNOWN, np.uint8),
    )


def _numbers(t: AutomatonTables, n_classes: int) -> dict[str, np.ndarray]:
    successor, predecessor, complete, injective = _complete_layers(t)
    found = {name: getattr(t, name).numpy() for name in ("layer", "in_first", "in_source", "in_class")}
    found |= {name: getattr(t, name).numpy() for name in ("out_first", "out_class", "out_target", "entry")}
    classes = torch.where(t.classes < 0, n_classes, t.classes)
    return found | {
        "before": t.n_states[:, 0].numpy(),
        "after": t.n_states[:, 1].numpy(),
        "classes": classes.numpy(),
        "class_first": (classes[:, :, None] < torch.arange(n_classes + 1)).sum(1).numpy(),
        "class_values": torch.argsort(classes, dim=1, stable=True).numpy(),
        "layer_classes": t.n_classes.numpy(),
        "successor": successor,
        "predecessor": predecessor,
        "complete": complete,
        "injective": injective,
        "starts": (t.start > 0).numpy(),
        "allowed": (t.emissions > 0).numpy(),
    }


def _weights(t: AutomatonTables, kind: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights of a kind, and the logarithm of the largest one of each row of the emissions."""
    weights = {name: getattr(t, name).numpy() for name in ("in_weight", "out_weight", "start", "emissions")}
    top = weights["emissions"].max(-1, initial=0.0)
    with np.errstate(divide="ignore"):
        if kind == LOGARITHMS:
            return {name: np.log(weight) for name, weight in weights.items()}, np.log(top)
        weights["emissions"] = weights["emissions"] / np.where(top > 0, top, 1.0)[..., None]
        return weights, np.log(top)


def _complete_layers(t: AutomatonTables) -> tuple[np.ndarray, ...]:
    """Successors, predecessors, and which layers are complete, and injective in every class."""
    successor = t.successor.numpy()
    n_states = len(t.start)
    layers = len(t.n_classes)
    if len(successor) == 0:
        no = np.zeros(layers, np.int32)
        return successor, successor, no, no
    edges = (successor < n_states).sum((1, 2))
    complete = edges > COMPLETE_SHARE * t.n_states[:, 0].numpy() * t.n_classes.numpy()
    if not complete.any() or successor.size > PREDECESSORS:
        return successor, successor[:0], complete.astype(np.int32), np.zeros(layers, np.int32)
    predecessor = np.full_like(successor, n_states)
    layer, source, klass = np.nonzero(successor < n_states)
    predecessor[layer, successor[layer, source, klass], klass] = source
    # Where two sources share a target under one class, the table has lost one of them.
    injective = ((predecessor < n_states).sum((1, 2)) == edges) & complete
    return successor, predecessor, complete.astype(np.int32), injective.astype(np.int32)
