"""Sentential decision diagrams: .sdd files as the SDD library and PySDD write them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emnesy_gpu.circuits.draft import Draft
from emnesy_gpu.circuits.graph import Rows, ranges
from emnesy_gpu.circuits.readers.lines import Lines, index_of, repeated, split_lines
from emnesy_gpu.circuits.readers.variables import Variables

LITERAL, TRUE, FALSE, DECISION = map(ord, "LTFD")


class Elements(NamedTuple):
    """The elements of all decision nodes. prime, sub: the lines that they name [E]; sizes: of each decision node."""

    prime: Rows
    sub: Rows
    sizes: Rows


class SddFile(NamedTuple):
    """A checked file: its lines, and the elements of its decision nodes."""

    lines: Lines
    elements: Elements

    @property
    def largest_variable(self) -> int:
        literals = self.lines.column(2)[self.lines.kind == LITERAL]
        return int(np.abs(literals).max(initial=0))


def parse_sdd(raw: bytes, name: str) -> SddFile:
    """Raises CircuitFileError for what is no such file."""
    lines = split_lines(raw, name, "sdd", "LTFD")
    _check_header(lines)
    _check_shapes(lines)
    return SddFile(lines, _elements(lines))


def add_sdd(draft: Draft, file: SddFile, variables: Variables) -> tuple[int, int]:
    """Add the nodes of a file; returns the rows of its theory and of the negation.

    The primes of a decision node exclude each other and cover everything, so the negation of the node has the same
    primes with the negated subs. The negation is right where the negations of literals are: not for one-hot symbols.
    """
    lines, (prime, sub, sizes) = file
    decision = lines.kind == DECISION
    n_decisions = int(decision.sum())
    holds, fails = np.full(len(decision), draft.one), np.full(len(decision), draft.zero)
    is_false = lines.kind == FALSE
    holds[is_false], fails[is_false] = draft.zero, draft.one
    literal = np.flatnonzero(lines.kind == LITERAL)
    literals = lines.column(2)[literal]
    holds[literal] = variables.rows(literals, draft.one, lines, literal)
    fails[literal] = variables.rows(-literals, draft.one, lines, literal)
    holds[decision] = draft.next_row + np.arange(n_decisions)
    fails[decision] = draft.next_row + n_decisions + np.arange(n_decisions)
    draft.add(np.concatenate([sizes, sizes]), np.tile(holds[prime], 2), np.concatenate([holds[sub], fails[sub]]))
    return int(holds[-1]), int(fails[-1])


def _check_header(lines: Lines) -> None:
    n_nodes = len(lines.kind)
    if not n_nodes:
        lines.refuse_all("there are no nodes")
    if lines.header is not None and lines.header != [n_nodes]:
        said = " ".join(map(str, lines.header))
        lines.refuse_all(f"the header says 'sdd {said}', but there are {n_nodes} nodes: is the file cut off?")


def _check_shapes(lines: Lines) -> None:
    kind, counts = lines.kind, lines.counts
    lines.refuse(kind == 0, "every line must start with L, T, F or D")
    expected = np.where(kind == LITERAL, 3, np.where(kind == DECISION, 3 + 2 * lines.column(2), 1))
    bad = (counts != expected) | ((kind == DECISION) & (lines.column(2) < 1))
    shapes = {
        LITERAL: "L id vtree literal",
        TRUE: "T id",
        FALSE: "F id",
        DECISION: "D id vtree k, then k times prime sub",
    }
    lines.refuse(
        bad, lambda line: f"a node must be {shapes[int(kind[line])]!r}, got {counts[line]} numbers: is it cut off?"
    )


def _elements(lines: Lines) -> Elements:
    ids = lines.column(0)
    lines.refuse(repeated(ids), lambda line: f"there is a node {ids[line]} already")
    decision = np.flatnonzero(lines.kind == DECISION)
    start, stop = lines.first[decision] + 3, lines.first[decision + 1]
    named = lines.values[ranges(start, stop)]
    owner = np.repeat(decision, stop - start)
    line_of, known = index_of(ids, named)
    lines.refuse_item(
        ~known | (line_of >= owner), owner, lambda item: f"node {named[item]} is not defined before it is used"
    )
    return Elements(line_of[::2], line_of[1::2], (stop - start) // 2)
