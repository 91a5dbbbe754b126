"""Orders of things that constraints tie together: those of one constraint close to each other.

A scope is the things that one constraint mentions, as indices 0..n-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np

ROUNDS = 30
"""Of moving everything to the middle of its scopes."""

MOST_NEIGHBOURS = 64
"""Of what is still eliminated: behind it no order is narrow."""

Order = list[int]
"""What comes at each position."""

Scopes = Sequence[Sequence[int]]


def cost(scopes: Scopes, order: Order) -> float:
    """About the log2 of the size of a decision diagram in this order.

    The states at a cut are at most the values of all that come before it and share a scope with what comes after it.

    >>> chain = [[0, 1], [1, 2], [2, 3]]
    >>> cost(chain, [0, 1, 2, 3]) < cost(chain, [0, 2, 1, 3])
    True
    """
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    last = place.copy()
    for scope in scopes:
        members = list(scope)
        last[members] = np.maximum(last[members], place[members].max())
    ends = np.bincount(place, minlength=len(order)) - np.bincount(last, minlength=len(order))
    return float(np.logaddexp2.reduce(np.cumsum(ends), initial=0.0))


def by_force(scopes: Scopes, n: int) -> Order:
    """Aloul, Markov and Sakallah, "FORCE: a fast and easy-to-implement variable-ordering heuristic" (2003)."""
    place = np.arange(n, dtype=float)
    best, least = list(range(n)), _span(scopes, place)
    for _ in range(ROUNDS):
        middles = [place[list(scope)].mean() for scope in scopes]
        total, times = place.copy(), np.ones(n)
        for scope, middle in zip(scopes, middles, strict=True):
            total[list(scope)] += middle
            times[list(scope)] += 1
        order = np.argsort(total / times, kind="stable")
        place[order] = np.arange(n)
        span = _span(scopes, place)
        if span >= least:
            break
        best, least = order.tolist(), span
    return best


def _span(scopes: Scopes, place: np.ndarray) -> float:
    return float(sum(np.ptp(place[list(scope)]) for scope in scopes))


def by_breadth(scopes: Scopes, n: int) -> Order:
    """Neighbours after each other, those with few neighbours first (Cuthill and McKee, 1969)."""
    near = _neighbours(scopes, n)
    order: Order = []
    left = set(range(n))
    while left:
        waiting = [min(left, key=lambda symbol: (len(near[symbol]), symbol))]
        left.discard(waiting[0])
        for symbol in waiting:  # grows while it is read
            fresh = sorted(near[symbol] & left, key=lambda other: (len(near[other]), other))
            waiting += fresh
            left -= set(fresh)
        order += waiting
    return order


def by_elimination(scopes: Scopes, n: int) -> Order:
    """The elimination tree of the fewest neighbours first, parents before children, one branch after the other.

    To eliminate is to tie all neighbours to each other. A branch is tied to the rest by its ancestors alone. (Darwiche,
    "Modeling and reasoning with Bayesian networks", 2009, chapter 9.)
    """
    near = _neighbours(scopes, n)
    waiting = [(len(others), index) for index, others in enumerate(near)]
    heapify(waiting)
    eliminated: Order = []
    met: list[set[int]] = [set() for _ in range(n)]
    rank: dict[int, int] = {}
    while waiting:
        degree, index = heappop(waiting)
        if index in rank or degree != len(near[index]):
            continue
        rank[index] = len(eliminated)
        eliminated.append(index)
        met[index] = near[index]
        for other in near[index]:
            near[other].discard(index)
            if degree <= MOST_NEIGHBOURS:
                near[other] |= near[index] - {other}
            heappush(waiting, (len(near[other]), other))
    return _by_depth(eliminated, [min(others, key=rank.__getitem__, default=None) for others in met])


def _by_depth(eliminated: Order, parents: list[int | None]) -> Order:
    """Parents before children, those eliminated early before others."""
    children: dict[int | None, Order] = {}
    for index in reversed(eliminated):
        children.setdefault(parents[index], []).append(index)
    order: Order = []
    waiting = list(children.get(None, []))
    while waiting:
        index = waiting.pop()
        order.append(index)
        waiting += children.get(index, [])
    return order


def _neighbours(scopes: Scopes, n: int) -> list[set[int]]:
    near: list[set[int]] = [set() for _ in range(n)]
    for scope in scopes:
        for index in scope:
            near[index].update(scope)
    for index, others in enumerate(near):
        others.discard(index)
    return near
