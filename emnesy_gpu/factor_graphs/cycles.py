"""Whether a factor graph has a cycle, and in which order its factors are renewed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def leaves_to_root(first: NDArray[np.int64], variable: NDArray[np.int64], n: int) -> NDArray[np.int64] | None:
    """The factors of a forest, each after those that lie further from the root of its tree; None if there is a cycle.

    first: [F + 1], the first edge of each factor; variable: [E], that of each edge. The search goes by breadth. It
    meets every factor from one variable, its parent. A graph without a cycle meets every other variable of it for the
    first time.
    """
    factor = np.repeat(np.arange(len(first) - 1), np.diff(first))
    by_variable = np.argsort(variable, kind="stable")
    start = np.searchsorted(variable[by_variable], np.arange(n + 1)).tolist()
    incident = factor[by_variable].tolist()
    members = np.split(variable, first[1:-1]) if len(first) > 1 else []
    scopes = [scope.tolist() for scope in members]
    met, found = [False] * n, list[int]()
    done = [False] * len(scopes)
    for root in range(n):
        if met[root]:
            continue
        met[root], waiting = True, [root]
        while waiting:
            reached = list[int]()
            for i in waiting:
                for f in incident[start[i] : start[i + 1]]:
                    if done[f]:
                        continue
                    done[f] = True
                    found.append(f)
                    others = [j for j in scopes[f] if j != i]
                    if any(met[j] for j in others):
                        return None
                    for j in others:
                        met[j] = True
                    reached += others
            waiting = reached
    return np.array(found[::-1], np.int64)


def rounds_of(scopes: Sequence[Sequence[int]], from_root: Sequence[int], n: int) -> list[list[int]]:
    """The variables of a forest in rounds: those of one round are independent given all of the rounds before.

    from_root: the factors, each after that which is nearer to the root of its tree. A variable comes after the one
    through which its factor is met, and after those of the factor that are written before it.
    """
    found = [-1] * n
    for factor in from_root:
        scope = scopes[factor]
        parent = next((i for i in scope if found[i] >= 0), scope[0])
        number = found[parent] = max(found[parent], 0)
        for i in scope:
            if i != parent:
                number += 1
                found[i] = number
    rounds: list[list[int]] = [[] for _ in range(max(found, default=0) + 1)]
    for i, number in enumerate(found):
        rounds[max(number, 0)].append(i)
    return [variables for variables in rounds if variables]
