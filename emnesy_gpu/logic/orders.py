"""Orders in which the symbols of a formula may be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from emnesy_gpu.logic.formulas import Formula

ROUNDS = 30
"""Of moving every symbol to the middle of its constraints."""

Order = list[int]
"""The symbol that is read at each position."""


def orders(formula: Formula) -> Iterator[tuple[str, Order]]:
    """The order of the symbols, and others that bring those closer that one constraint mentions."""
    index = {symbol.number: place for place, symbol in enumerate(formula.symbols)}
    scopes = [sorted(index[number] for number in scope) for scope in _scopes(formula)]
    given = list(range(len(index)))
    tried = [given]
    yield "as given", given
    for name, order in (("by force", _by_force(scopes, len(index))), ("by breadth", _by_breadth(scopes, len(index)))):
        if order not in tried:
            tried.append(order)
            yield name, order


def _scopes(formula: Formula) -> list[frozenset[int]]:
    """The symbols of each constraint of more than one."""
    found, waiting = [], [formula]
    while waiting:
        part = waiting.pop()
        inner = getattr(part, "parts", None) or ([part.part] if hasattr(part, "part") else [])
        waiting += inner
        if not inner or all(len(child.mentioned) == 1 for child in inner):
            found.append(frozenset(part.mentioned))
    return [scope for scope in found if len(scope) > 1]


def _by_force(scopes: Sequence[Sequence[int]], n: int) -> Order:
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


def _span(scopes: Sequence[Sequence[int]], place: np.ndarray) -> float:
    return float(sum(np.ptp(place[list(scope)]) for scope in scopes))


def _by_breadth(scopes: Sequence[Sequence[int]], n: int) -> Order:
    """Neighbours after each other, those with few neighbours first (Cuthill and McKee, 1969)."""
    near: list[set[int]] = [set() for _ in range(n)]
    for scope in scopes:
        for symbol in scope:
            near[symbol] |= set(scope) - {symbol}
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
