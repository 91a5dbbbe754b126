"""Pairs in groups that are renewed at once, for a kernel that has the factors of one row in its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables, joined
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.layout import consecutive_rows
from emnesy_gpu.kernels.cpu.common.records import Record, record_of, record_reader
from emnesy_gpu.kernels.cpu.common.transpose import TILE
from emnesy_gpu.kernels.cpu.factor_graph.graph import longest_run
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, PAIR, SERIAL, Compiled, FactorGraphTables
from emnesy_gpu.kernels.levels import levels

WIDTH = 16
"""Factors of a group: lanes."""

NOTHING = -1
"""In place of an edge: a message that says nothing; or of a table."""

MOST_ROWS = 12
"""A row with its factors in lanes takes about a twelfth of what a block of rows takes, if factors fill the lanes."""

MOST_WEIGHTS = 1 << 22
"""Numbers of the tables of groups, which may hold the same table more than once: 16 MB in float32."""

LARGE = 16
"""Values from which tables of WIDTH factors in their lanes, 16 KB in float32, are too many for the fastest cache."""

SIZES, RECIPROCALS, TABLES = 0, 2, 4
"""Rows of weights: of each side the numbers of values and their reciprocals; and the tables."""


class Waves(NamedTuple):
    """Groups of WIDTH factors that share no variable, or of any with flooding; and blocks of WIDTH symbols.

    In place of factors that a group lacks its last one stands again, and computes the same; so with blocks. Values come
    in pairs, and an odd number of them has one more, with weight 0. Messages lie as [group, side, K / 2, WIDTH, 2], and
    behind them one that says nothing; priors as [block, K / 2, WIDTH, 2]. A place is that of the first two values, and
    the next two are 2 WIDTH behind. Tables of places and of weights begin where their names say. The scratch numbers of
    a row begin with the lanes that are under way.
    """

    flooding: bool
    n: int
    n_values: int
    even: int  # K: n_values, or one more
    bits: bool  # whether all variables have two values
    n_factors: int
    n_blocks: int
    n_groups: int
    n_steps: int
    n_messages: int  # numbers of all messages
    n_absent: int
    degree: int  # D: messages to a symbol, at most
    most_rows: int  # up to which factors in lanes take less time than rows in lanes
    log_scale: float
    priors: int  # of the scratch, [blocks, K / 2, WIDTH, 2]
    read: int  # [groups, 2, K / 2, WIDTH, 2]: the priors of the symbols of each group
    messages: int
    renewed: int  # the same ones, or those that the next sweep reads
    mantissas: int  # of factors and then of symbols, in their order
    exponents: int
    total: int
    steps: int  # [steps]: the groups as a sweep renews them
    factor: int  # [groups, WIDTH]
    prior: int  # [groups, 2, WIDTH]: of the symbols
    others: int  # [groups, 2]: messages in a cavity, at most
    cavity: int  # [groups, 2, D, WIDTH]: messages to the symbols but for those of the factors
    around: int  # [blocks]: messages to a symbol, at most
    belief: int  # [blocks, D, WIDTH]: messages to the symbols
    weight: int  # [groups]: where the weights of a group begin, [TABLES + n_values^2, WIDTH]
    table: int  # [groups]: where the one LARGE table of all its factors begins, or NOTHING
    absent: int  # [n_absent]: entries of messages for values that symbols do not have
    numbers: np.ndarray  # int32
    unary: int  # [blocks, K / 2, WIDTH, 2], weights of values
    tables: int  # [tables, n_values, n_values]
    connected: int  # [blocks, WIDTH]: 1 for symbols of some factor, and 0 for others
    weights: np.ndarray  # of the float type


waves_at = record_reader(Waves, numbers=(types.int32, 1), weights=(None, 1))
"""In kernels: (address of the record of waves, a number of the type of their weights) -> the waves."""

_waves = KeptTables(watched=(1, 7))


def waves(tables: Sequence[Tensor], schedule: str, kind: str) -> Record | None:
    """The record of ``Waves`` of tables that live as long as their graph, in the float type of a kind.

    None where there are none: factors of other kinds, symbols with many neighbours, large tables, and residuals.
    """
    return _waves.get(tables, (schedule, kind), lambda: _made(Compiled.from_list(tables).graph, schedule, kind))


def _has_groups(t: FactorGraphTables) -> bool:
    n_factors, k = len(t.kind), t.unary.shape[1]
    return (
        0 < n_factors <= MOST_WEIGHTS // k**2
        and bool((t.kind == PAIR).all())
        and int(t.incident_first.diff().max()) <= longest_run(k)
    )


def _made(t: FactorGraphTables, schedule: str, kind: str) -> Record | None:
    if not _has_groups(t):
        return None
    n_factors, order = len(t.kind), t.order.numpy()
    scopes = t.variable.numpy().reshape(-1, 2)
    if schedule == FLOODING:
        groups = np.split(np.sort(order[:n_factors]), range(WIDTH, n_factors, WIDTH))
        steps = np.arange(len(groups))
    elif schedule == SERIAL:
        there_and_back = len(order) > n_factors  # to the roots of a tree: the last factor is renewed once
        groups = _independent(scopes, order[:n_factors], alone=there_and_back)
        back = np.arange(len(groups) - 1)[::-1] if there_and_back else np.arange(0)
        steps = np.concatenate([np.arange(len(groups)), back])
    else:
        return None
    return record_of(_joined(t, scopes, groups, steps, schedule == FLOODING, kind))


def _independent(scopes: NDArray[np.int32], order: NDArray[np.int32], alone: bool) -> list[NDArray[np.int32]]:
    """The factors in groups that share no variable; one group after the other gives the same messages as the order.

    An update moves in front of earlier ones that it shares no variable with. alone: the last one is a group of its own.
    """
    head, tail = (order[:-1], [order[-1:]]) if alone else (order, [])
    level = levels(scopes.tolist(), head.tolist())
    groups: list[list[int]] = []
    members: set[int] = set()
    for factor in head[np.argsort(level, kind="stable")].tolist():
        scope = scopes[factor].tolist()
        if not groups or len(groups[-1]) == WIDTH or not members.isdisjoint(scope):
            groups.append([])
            members = set()
        groups[-1].append(factor)
        members.update(scope)
    return [np.array(group, np.int32) for group in groups] + tail


def _joined(
    t: FactorGraphTables,
    scopes: NDArray[np.int32],
    groups: list[NDArray[np.int32]],
    steps: NDArray[np.int64],
    flooding: bool,
    kind: str,
) -> Waves:
    (n, k), n_factors = t.unary.shape, len(scopes)
    factor = np.stack([np.pad(group, (0, WIDTH - len(group)), mode="edge") for group in groups])
    edges = 2 * factor[:, None] + np.arange(2)[:, None]  # [groups, 2, WIDTH]
    block = np.minimum(np.arange(-(-n // WIDTH) * WIDTH), n - 1).reshape(-1, WIDTH)
    even = k + k % 2
    nothing = 2 * len(groups) * even * WIDTH
    place = np.append(_places(groups, even), nothing)
    around, others = _edges_around(t)
    sizes = t.size.numpy()[scopes[factor].swapaxes(1, 2)]  # [groups, 2, WIDTH]
    values = np.arange(even).reshape(-1, 1, 2)
    absent = np.flatnonzero(values >= sizes[:, :, None, :, None])
    unary = np.pad(t.unary.numpy(), ((0, 0), (0, even - k)))[block].reshape(len(block), WIDTH, -1, 2)
    which = t.which.numpy()[factor]
    is_shared = (which == which[:, :1]).all(1) & (k >= LARGE)
    blocks, begins = _weights(t.pairs.numpy(), sizes, which)
    weights, weights_where = joined(
        {
            "blocks": blocks,
            "unary": unary.swapaxes(1, 2),
            "tables": t.pairs.numpy(),
            "connected": (around[block] != NOTHING).any(-1),
        },
        np.float32 if kind == FLOAT32 else np.float64,
    )
    numbers, where = joined(
        {
            "steps": steps,
            "factor": factor,
            "prior": _place_in_block(t.variable.numpy()[edges], even),
            "others": (others[edges] != NOTHING).sum(-1).max(-1),
            "cavity": place[others[edges]].swapaxes(-1, -2),
            "around": (around[block] != NOTHING).sum(-1).max(-1),
            "belief": place[around[block]].swapaxes(-1, -2),
            "weight": begins,
            "table": np.where(is_shared, which[:, 0] * k**2, NOTHING),
            "absent": absent,
        },
        np.int32,
    )
    n_messages = nothing + even * WIDTH
    return Waves(
        flooding=flooding,
        n=n,
        n_values=k,
        even=even,
        bits=k == 2 and bool((t.size == 2).all()),
        n_factors=n_factors,
        n_blocks=len(block),
        n_groups=len(groups),
        n_steps=len(steps),
        n_messages=n_messages,
        n_absent=len(absent),
        degree=around.shape[1],
        most_rows=max(1, MOST_ROWS * n_factors // (len(groups) * WIDTH)),
        log_scale=float(t.log_scale),
        **_scratch(even, n_factors, (len(groups), len(block)), n_messages, flooding),
        **where,
        numbers=numbers,
        unary=weights_where["unary"],
        tables=weights_where["tables"],
        connected=weights_where["connected"],
        weights=weights,
    )


def _scratch(even: int, n_factors: int, counts: tuple[int, int], n_messages: int, flooding: bool) -> dict[str, int]:
    """Each part begins on a cache line of its own, so that no load of lanes touches two.

    counts: of groups and of blocks.
    """
    n_groups, n_blocks = counts
    terms = -(-n_factors // WIDTH) * WIDTH + n_blocks * WIDTH
    sizes = {
        "priors": n_blocks * even * WIDTH,
        "read": 2 * n_groups * even * WIDTH,
        "messages": n_messages if flooding else 0,
        "renewed": n_messages,
        "mantissas": terms,
        "exponents": terms,
    }
    return consecutive_rows(sizes, first=lane_rows(even) * FLOAT32_LANES)


def lane_rows(even: int) -> int:
    """Rows of lanes: cavities of both sides, and messages or the logits of a block."""
    return 2 * even + -(-even // TILE) * TILE


def _place_in_block(i: NDArray[np.int32], k: int) -> NDArray[np.int32]:
    """Where the prior of a symbol begins."""
    return i // WIDTH * (k * WIDTH) + 2 * (i % WIDTH)


def _places(groups: list[NDArray[np.int32]], k: int) -> NDArray[np.int64]:
    """int64 [E]: where each message begins."""
    group = np.repeat(np.arange(len(groups)), list(map(len, groups)))
    lane = np.concatenate([np.arange(len(one)) for one in groups])
    place = np.empty((len(group), 2), np.int64)
    place[np.concatenate(groups)] = (2 * group[:, None] + np.arange(2)) * (k * WIDTH) + 2 * lane[:, None]
    return place.ravel()


def _edges_around(t: FactorGraphTables) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The edges of each symbol, int64 [n, D]; and for each edge the others of its symbol, [E, D]; then NOTHING."""
    incident, first, variable = t.incident.numpy(), t.incident_first.numpy(), t.variable.numpy()
    around = np.full((len(first) - 1, int(np.diff(first).max())), NOTHING)
    others = np.full((len(variable), around.shape[1]), NOTHING)
    for i in range(len(around)):
        edges = incident[first[i] : first[i + 1]]
        around[i, : len(edges)] = edges
        for edge in edges:
            others[edge, : len(edges) - 1] = edges[edges != edge]
    return around, others


def _weights(
    pairs: NDArray[np.float64], sizes: NDArray[np.int32], which: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Weights of all groups, equal ones once, and where those of each group begin."""
    k = pairs.shape[1]
    keys = np.concatenate([sizes.reshape(len(which), -1), which], 1)
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    tables = pairs[which[first]].reshape(len(first), WIDTH, k * k).swapaxes(1, 2)
    blocks = np.concatenate([sizes[first], 1.0 / sizes[first], tables], 1)
    return blocks, number.ravel() * blocks[0].size
