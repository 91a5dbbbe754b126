"""One tape for the pass up and the pass down of a circuit, over a table whose rows are used again.

The derivative of the root with respect to a row is the sum over the uses of the row of the derivative of the parent
times the sibling. This is a sum of products as the value of a node is, so both passes are one list of instructions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.graph import Graph, Rows, lexical_order

NO_DERIVATIVE = -1


class Tape(NamedTuple):
    """The part of ``kernels.circuit_tables.CircuitTables`` that is played, and the rows of its table."""

    levels: Rows
    runs: Rows
    out: Rows
    left: Rows
    right: Rows
    derivatives: Rows
    n_rows: int


class _Instructions(NamedTuple):
    """Instructions sorted by level; values are named by numbers of their own, each written once.

    Number r is the value of row r, number n_rows + r the derivative with respect to it. out, level: [I]. first: [I + 1]
    over left, right: [terms].
    """

    out: Rows
    level: Rows
    first: Rows
    left: Rows
    right: Rows


def make_tape(graph: Graph, wanted: NDArray[np.bool_]) -> Tape:
    """The tape that leaves the derivatives with respect to some leaves. wanted: bool [leaves]."""
    leads = _leads_to(graph, wanted)
    todo = _instructions(graph, leads)
    one = graph.n_leaves
    last_level = int(todo.level[-1])
    starts = np.searchsorted(todo.level, np.arange(1, last_level + 2))
    sizes = np.diff(todo.first)
    changes = (np.diff(todo.level) != 0) | (np.diff(sizes) != 0)
    begin = np.concatenate([[0], np.flatnonzero(changes) + 1])
    counts = np.diff(np.concatenate([begin, [len(todo.out)]]))
    runs = np.stack([begin, counts, todo.first[begin], sizes[begin]], 1)
    place, n_rows = _places(todo, starts, graph)
    derivatives = place[graph.n_rows : graph.n_rows + one].copy()
    derivatives[~leads[:one] | ~wanted] = NO_DERIVATIVE
    return Tape(
        np.searchsorted(begin, starts), runs, place[todo.out], place[todo.left], place[todo.right], derivatives, n_rows
    )


def _leads_to(graph: Graph, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that reach a wanted leaf which the root reaches too [rows]."""
    leads = np.zeros(graph.n_rows, bool)
    leads[: graph.n_leaves] = wanted
    fixed = graph.n_leaves + 1
    leads[fixed:] = np.logical_or.reduceat(leads.take(graph.left) | leads.take(graph.right), graph.first[:-1])
    by_level = [] if leads[fixed:].all() else graph.by_level  # most nodes have a wanted leaf of their own
    for nodes, terms, first in by_level:
        hit = leads.take(graph.left[terms]) | leads.take(graph.right[terms])
        leads[fixed + nodes.start : fixed + nodes.stop] = np.logical_or.reduceat(hit, first)
    used = np.zeros(graph.n_leaves, bool)
    for rows in (graph.left, graph.right):
        used[rows.compress(rows < graph.n_leaves)] = True
    leads[: graph.n_leaves] &= used
    return leads


def _instructions(graph: Graph, leads: NDArray[np.bool_]) -> _Instructions:
    """Values in the order of the nodes, then derivatives by the depth and the number of uses of their rows."""
    fixed, down, n_levels = graph.n_leaves + 1, graph.n_rows, len(graph.node_levels) - 1
    child, sibling = np.concatenate([graph.left, graph.right]), np.concatenate([graph.right, graph.left])
    needed = leads.take(child)
    child, sibling = child.compress(needed), sibling.compress(needed)
    parent = np.concatenate([graph.parent, graph.parent]).compress(needed)
    uses = np.bincount(child, minlength=graph.n_rows)
    rows = np.flatnonzero(uses)
    height = _heights(graph)
    rows = rows[lexical_order(uses[rows], height[rows])]
    sizes, place = uses[rows], np.empty(graph.n_rows, np.int64)
    place[rows] = np.arange(len(rows))
    terms = lexical_order(place.take(child))
    return _Instructions(
        np.concatenate([np.arange(fixed, graph.n_rows), down + rows]),
        np.concatenate([np.repeat(np.arange(1, n_levels + 1), np.diff(graph.node_levels)), n_levels + height[rows]]),
        np.concatenate([graph.first, graph.n_edges + np.cumsum(sizes)]),
        np.concatenate([graph.left, down + parent.take(terms)]),
        np.concatenate([graph.right, sibling.take(terms)]),
    )


def _heights(graph: Graph) -> Rows:
    """The longest way from the root down to each row [rows], 0 for the root."""
    heights = np.zeros(graph.n_rows, np.int64)
    for _, terms, _ in reversed(graph.by_level):
        below = heights.take(graph.parent[terms])
        below += 1
        np.maximum.at(heights, graph.left[terms], below)
        np.maximum.at(heights, graph.right[terms], below)
    return heights


def _places(todo: _Instructions, starts: Rows, graph: Graph) -> tuple[Rows, int]:
    """A row of the table for every number, and how many rows there are.

    Leaves, constant and root have the first rows, and the derivative with respect to the root is the constant. The rows
    of values that are read no more are used again, in a later level; derivatives with respect to leaves stay.
    """
    root, down, n_fixed = graph.n_rows - 1, graph.n_rows, graph.n_leaves + 2
    place = np.full(2 * graph.n_rows, NO_DERIVATIVE, np.int64)
    place[: graph.n_leaves + 1], place[root], place[down + root] = np.arange(n_fixed - 1), n_fixed - 1, graph.n_leaves
    last, last_on_right = np.zeros((2, len(place)), np.int64)
    reader = np.repeat(todo.level, np.diff(todo.first))
    # Levels rise: of several readers the last one stays.
    last[todo.left] = reader
    last_on_right[todo.right] = reader
    np.maximum(last, last_on_right, out=last)
    last[place >= 0] = 0
    last[down : down + graph.n_leaves] = 0
    dying = np.flatnonzero(last)
    dying = dying[lexical_order(last[dying])]
    ends = np.searchsorted(last[dying], np.arange(1, len(starts) + 1)).tolist()
    unplaced = place[todo.out] < 0
    all_outs = todo.out.compress(unplaced)
    starts = np.concatenate([[0], unplaced.cumsum()])[starts].tolist()
    free, n_free, places = np.zeros_like(dying), 0, np.arange(n_fixed + len(all_outs))
    # No row is free before the first value dies, which is rarely before the pass down.
    begin = int(last[dying[0]]) - 1 if len(dying) else len(starts) - 1
    used = n_fixed + starts[begin]
    place[all_outs[: starts[begin]]] = places[n_fixed:used]
    for level in range(begin, len(starts) - 1):
        outs = all_outs[starts[level] : starts[level + 1]]
        again = min(len(outs), n_free)
        place[outs[:again]] = free[n_free - again : n_free]
        place[outs[again:]] = places[used : used + len(outs) - again]
        used += len(outs) - again
        dead = dying[ends[level] : ends[level + 1]]
        n_free += len(dead) - again
        free[n_free - len(dead) : n_free] = place[dead]
    return place, used
