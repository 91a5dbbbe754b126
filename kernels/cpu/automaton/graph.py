"""The tables of an automaton as its kernels read them: flat arrays, made once for each automaton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

# Share of the edges that a layer must have for the loops over all states and classes to be worth it.
COMPLETE_SHARE = 0.6
# Entries of a table of predecessors beyond which edge lists serve alone.
PREDECESSORS = 1 << 24

UNKNOWN = 255

FLOAT32, FLOAT64, LOGARITHMS = "float32", "float64", "logarithms"


class Tables(NamedTuple):
    """The tensors that the launch functions receive, in their order: ``automata.tables.AutomatonTables``."""

    layer: Tensor
    n_states: Tensor
    classes: Tensor
    n_classes: Tensor
    in_first: Tensor
    in_source: Tensor
    in_class: Tensor
    in_weight: Tensor
    out_first: Tensor
    out_class: Tensor
    out_target: Tensor
    out_weight: Tensor
    successor: Tensor
    start: Tensor
    entry: Tensor
    emissions: Tensor
    codes: Tensor
    log_scale: Tensor


class Graph(NamedTuple):
    """Every array but the weights is int32; those of several dimensions are flat, with the sizes below.

    n_states, n_classes: the most of any layer, S and C. unit: whether all weights are 1. weights of every kind
    (in_weight, out_weight, start, emissions) are probabilities in float32 or float64, or float64 logarithms.
    Probabilities of emissions are divided by the largest of their row, which log_emission [M, Y + 1] holds.
    """

    n_states: int
    n_classes: int
    n_values: int
    n_edges: int  # of all positions
    unit: bool
    one_class_each: bool  # no layer has two values that act alike
    log_scale: float
    layer: np.ndarray  # [n]
    before: np.ndarray  # [L]: states before the layer
    after: np.ndarray  # [L]
    classes: np.ndarray  # [L, K], C for values without edges
    layer_classes: np.ndarray  # [L]
    in_first: np.ndarray  # [L, S + 1]
    in_source: np.ndarray
    in_class: np.ndarray
    in_weight: np.ndarray
    out_first: np.ndarray  # [L, S + 1]
    out_class: np.ndarray
    out_target: np.ndarray
    out_weight: np.ndarray
    successor: np.ndarray  # [L, S, C], S where there is no edge
    predecessor: np.ndarray  # [L, S, C], S where there is no edge
    complete: np.ndarray  # [L]: whether the step backwards takes the table of successors
    injective: np.ndarray  # [L]: whether the step forwards takes the table of predecessors
    start: np.ndarray  # [S]
    entry: np.ndarray  # [n]
    emissions: np.ndarray  # [M, Y + 1, S]
    log_emission: np.ndarray  # float64 [M, Y + 1]
    starts: np.ndarray  # bool [S]: whether the weight is positive, which float32 may forget
    allowed: np.ndarray  # bool [M, Y + 1, S]: the same of the emissions
    possible: np.ndarray  # uint8 [Y + 1]: filled by the first call that asks, see ``screen``


_graphs: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def graph(tables: Sequence[Tensor], kind: str) -> Graph:
    """Of tables that live as long as their automaton; they must not be written to."""
    t = Tables(*tables)
    marks = tuple(table.data_ptr() for table in tables)
    kept = _graphs.get(t.layer)
    if kept is None or kept[0] != marks:
        # The other tensors are kept alive, so that their addresses stay theirs.
        kept = _graphs[t.layer] = (marks, tables[1:], {})
    if kind not in kept[2]:
        kept[2][kind] = _graph(t, kind)
    return kept[2][kind]


def _graph(t: Tables, kind: str) -> Graph:
    n_classes = int(t.n_classes.max())
    successor, predecessor, complete, injective = _complete_layers(t)
    n_states = t.n_states.numpy()
    weights = {name: getattr(t, name).numpy() for name in ("in_weight", "out_weight", "start", "emissions")}
    top = weights["emissions"].max(-1, initial=0.0)
    if kind != LOGARITHMS:
        weights["emissions"] = weights["emissions"] / np.where(top > 0, top, 1.0)[..., None]
    with np.errstate(divide="ignore"):
        log_top = np.log(top)
        if kind == LOGARITHMS:
            weights = {name: np.log(weight) for name, weight in weights.items()}
    dtype = np.float32 if kind == FLOAT32 else np.float64
    return Graph(
        n_states=len(t.start),
        n_classes=n_classes,
        n_values=t.classes.shape[1],
        n_edges=int((t.in_first[:, -1] - t.in_first[:, 0]).long()[t.layer.long()].sum()),
        unit=bool((t.in_weight == 1.0).all()),
        one_class_each=bool((t.n_classes == t.classes.shape[1]).all()),
        log_scale=float(t.log_scale),
        layer=t.layer.numpy().copy(),
        before=np.ascontiguousarray(n_states[:, 0]),
        after=np.ascontiguousarray(n_states[:, 1]),
        classes=torch.where(t.classes < 0, n_classes, t.classes).numpy().ravel(),
        layer_classes=t.n_classes.numpy(),
        in_first=t.in_first.numpy().ravel(),
        in_source=t.in_source.numpy(),
        in_class=t.in_class.numpy(),
        out_first=t.out_first.numpy().ravel(),
        out_class=t.out_class.numpy(),
        out_target=t.out_target.numpy(),
        successor=successor.ravel(),
        predecessor=predecessor.ravel(),
        complete=complete,
        injective=injective,
        entry=t.entry.numpy(),
        log_emission=log_top,
        starts=(t.start > 0).numpy(),
        allowed=(t.emissions > 0).numpy().ravel(),
        possible=np.full(t.emissions.shape[1], UNKNOWN, np.uint8),
        **{name: np.ascontiguousarray(weight, dtype).ravel() for name, weight in weights.items()},
    )


def _complete_layers(t: Tables) -> tuple[np.ndarray, ...]:
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


@intrinsic
def item(typingctx, array, index):
    """One number of a flat int32 array as an index, without a look whether it counts from the end."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        number = builder.load(cgutils.gep_inbounds(builder, data, args[1]))
        return context.cast(builder, number, types.int32, types.intp)

    return types.intp(array, types.intp), codegen
