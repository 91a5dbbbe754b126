"""Whether a factor graph has a cycle, and in which order its factors are renewed."""

from __future__ import annotations

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
