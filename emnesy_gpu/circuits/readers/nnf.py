"""Deterministic decomposable circuits: .nnf files of c2d (also of dsharp) and of d4."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.circuits.draft import Draft
from emnesy_gpu.circuits.graph import Rows, ranges
from emnesy_gpu.circuits.readers.lines import Lines, index_of, repeated, split_lines
from emnesy_gpu.circuits.readers.variables import Variables

LITERAL, AND, OR = map(ord, "LAO")
D4_OR, D4_AND, D4_TRUE, D4_FALSE = map(ord, "oatf")
D4_ROOT = 1


class NnfFile(NamedTuple):
    """A checked file, and which of the two formats it has."""

    lines: Lines
    is_c2d: bool

    @property
    def largest_variable(self) -> int:
        lines = self.lines
        literals = lines.column(0)[lines.kind == LITERAL] if self.is_c2d else lines.values[_d4_literals(lines)[0]]
        return int(np.abs(literals).max(initial=0))


def parse_nnf(raw: bytes, name: str) -> NnfFile:
    """c2d files start with 'nnf nodes edges variables', those of d4 with a node. Raises CircuitFileError."""
    lines = split_lines(raw, name, "nnf", "LAOoatf")
    if not len(lines.kind):
        lines.refuse_all("there are no nodes")
    is_c2d = lines.header is not None
    if is_c2d:
        _check_c2d(lines)
    else:
        _check_d4(lines)
    return NnfFile(lines, is_c2d)


def add_nnf(draft: Draft, file: NnfFile, variables: Variables) -> int:
    """Add the nodes of a file; returns the row of its theory."""
    return (_add_c2d if file.is_c2d else _add_d4)(draft, file.lines, variables)


def _check_c2d(lines: Lines) -> None:
    kind, counts, header = lines.kind, lines.counts, lines.header or []
    if len(header) != 3:
        lines.refuse_all(f"the header must be 'nnf nodes edges variables', got {len(header)} counts")
    if header[0] != len(kind):
        lines.refuse_all(f"the header says {header[0]} nodes, but there are {len(kind)}: is the file cut off?")
    lines.refuse(~np.isin(kind, (LITERAL, AND, OR)), "every line must start with L, A or O")
    expected = np.where(kind == LITERAL, 1, np.where(kind == AND, 1 + lines.column(0), 2 + lines.column(1)))
    shapes = {LITERAL: "L literal", AND: "A k, then k children", OR: "O j k, then k children"}
    lines.refuse(
        (counts != expected) | ((kind == OR) & (counts < 2)),
        lambda line: f"a node must be {shapes[int(kind[line])]!r}, got {counts[line]} numbers: is it cut off?",
    )


def _add_c2d(draft: Draft, lines: Lines, variables: Variables) -> int:
    literal = np.flatnonzero(lines.kind == LITERAL)
    rows = np.full(len(lines.kind), draft.zero)
    rows[literal] = variables.rows(lines.column(0)[literal], draft.one, lines, literal)
    inner = np.flatnonzero(lines.kind != LITERAL)
    start = lines.first[inner] + np.where(lines.kind[inner] == AND, 1, 2)
    sizes = lines.first[inner + 1] - start
    child = lines.values[ranges(start, start + sizes)]
    owner = np.repeat(inner, sizes)
    unknown = (child < 0) | (child >= owner)
    lines.refuse_item(unknown, owner, lambda item: f"node {child[item]} is not defined before it is used")
    block = draft.reserve(len(inner))
    rows[inner] = block + np.arange(len(inner))
    is_and = lines.kind[inner] == AND
    of_and = np.repeat(is_and, sizes)
    products = draft.products(rows[child[of_and]], sizes[is_and])
    _fill(draft, block, is_and, products, rows[child[~of_and]], sizes)
    return int(rows[-1])


def _fill(draft: Draft, block: int, is_product: NDArray[np.bool_], products: Rows, parts: Rows, sizes: Rows) -> None:
    """Nodes that are products, and nodes that are sums of so many single rows as sizes says."""
    n_terms = np.where(is_product, 1, sizes)
    left = np.empty(int(n_terms.sum()), np.int64)
    of_product = np.repeat(is_product, n_terms)
    left[of_product], left[~of_product] = products, parts
    draft.fill(block, n_terms, left, np.full(len(left), draft.one))


def _check_d4(lines: Lines) -> None:
    kind, counts = lines.kind, lines.counts
    is_node = kind > 0
    lines.refuse(np.isin(kind, (LITERAL, AND, OR)), "a line of a c2d file, but the header 'nnf ...' is missing")
    last = lines.values[lines.first[1:] - 1]
    bad = np.where(is_node, counts != 2, counts < 3) | (last != 0)
    lines.refuse(bad, "a line must be 'o|a|t|f node 0', or 'from to literals 0' for an edge: is the file cut off?")
    ids = lines.column(0)
    again = np.zeros(len(kind), bool)
    again[is_node] = repeated(ids[is_node])
    lines.refuse(again, lambda line: f"there is a node {ids[line]} already")
    nodes = np.flatnonzero(is_node)
    if not len(nodes) or D4_ROOT not in ids[nodes]:
        lines.refuse_all(f"the root, node {D4_ROOT}, is missing")
    for column in (0, 1):
        edge = np.flatnonzero(~is_node)
        named = lines.column(column)[edge]
        node, known = index_of(ids[nodes], named)
        lines.refuse_item(~known, edge, lambda item, named=named: f"there is no node {named[item]}")  # type: ignore[misc]
        if column == 0:
            leaf = np.isin(kind[nodes[node]], (D4_TRUE, D4_FALSE))
            lines.refuse_item(leaf, edge, lambda item, named=named: f"the constant {named[item]} has an edge")  # type: ignore[misc]


def _d4_literals(lines: Lines) -> tuple[Rows, Rows]:
    """Where the literals of the edges stand among the values, and the line of each."""
    edge = np.flatnonzero(lines.kind == 0)
    start, stop = lines.first[edge] + 2, lines.first[edge + 1] - 1
    return ranges(start, stop), np.repeat(edge, stop - start)


def _add_d4(draft: Draft, lines: Lines, variables: Variables) -> int:
    nodes = np.flatnonzero(lines.kind > 0)
    ids, kind = lines.column(0)[nodes], lines.kind[nodes]
    block = draft.reserve(len(nodes))
    edge = np.flatnonzero(lines.kind == 0)
    source, _ = index_of(ids, lines.column(0)[edge])
    edge, source = _sorted_by_source(edge, source)
    rows = lines.values.copy()  # the row of every value that is a child or a literal
    rows[lines.first[edge] + 1] = block + index_of(ids, lines.column(1)[edge])[0]
    place, line = _d4_literals(lines)
    rows[place] = variables.rows(lines.values[place], draft.one, lines, line)
    start, stop = lines.first[edge] + 1, lines.first[edge + 1] - 1
    # The edges of an AND are one product, every edge of an OR is a product of its own.
    new = (kind[source] == D4_OR) | np.append(True, np.diff(source) != 0)[: len(source)]
    group = np.cumsum(new) - 1
    sizes = np.bincount(group, weights=stop - start).astype(np.int64)
    products = draft.products(rows[ranges(start, stop)], sizes)
    n_terms = np.bincount(source[new], minlength=len(nodes))
    is_one = (kind == D4_TRUE) | ((kind == D4_AND) & (n_terms == 0))
    _fill(draft, block, is_one, np.full(int(is_one.sum()), draft.one), products, n_terms)
    return block + int(np.flatnonzero(ids == D4_ROOT)[0])


def _sorted_by_source(edge: Rows, source: Rows) -> tuple[Rows, Rows]:
    order = np.argsort(source, kind="stable")
    return edge[order], source[order]
