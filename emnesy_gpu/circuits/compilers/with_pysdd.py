"""Clauses to sentential decision diagrams by PySDD. Reads a job as JSON from standard input, writes .sdd files."""

from __future__ import annotations

import json
import sys
from typing import Any

MOST_DEAD = 1 << 20
"""Elements of diagrams that nothing needs any more, up to which they are left in memory."""


def main() -> None:
    """The job: order of the variables; clauses always and theory; forgotten variables; folder.

    Writes holds.sdd, always and theory without the forgotten variables, and fails.sdd, always without theory.
    """
    from pysdd.sdd import SddManager, Vtree

    job = json.load(sys.stdin)
    vtree = Vtree(var_count=len(job["order"]), var_order=job["order"], vtree_type="balanced")
    manager = SddManager.from_vtree(vtree)
    always = conjunction(manager, job["always"], manager.true(), job["order"])
    holds = conjunction(manager, job["theory"], always, job["order"])
    for variable in job["forgotten"]:
        holds = kept(manager.exists(variable, holds), holds)
    fails = always & ~holds
    holds.save(f"{job['folder']}/holds.sdd".encode())
    fails.save(f"{job['folder']}/fails.sdd".encode())


def conjunction(manager: Any, clauses: list[list[int]], start: Any, order: list[int]) -> Any:
    """start and all clauses, those whose last variable comes first in the order before the others."""
    place = {variable: index for index, variable in enumerate(order)}
    start.ref()
    for clause in sorted(clauses, key=lambda clause: max((place[abs(literal)] for literal in clause), default=-1)):
        term = manager.false()
        for literal in clause:
            term = term | manager.literal(literal)
        start = kept(start & term, start)
        if manager.dead_size() > MOST_DEAD:
            manager.garbage_collect()
    return start


def kept(node: Any, instead_of: Any) -> Any:
    """PySDD counts references by hand."""
    node.ref()
    instead_of.deref()
    return node


if __name__ == "__main__":
    main()
