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
    """A checked file, and which of the two formats it has.

    decisions: of a file of d4, bool for each of its values: the literal by which an edge of an OR differs from the
    other one. negatable: whether each OR with two edges has such literals.
    """

    lines: Lines
    is_c2d: bool
    decisions: NDArray[np.bool_]
    negatable: bool

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
    if lines.header is not None:
        _check_c2d(lines)
        return NnfFile(lines, True, np.zeros(len(lines.values), bool), False)
    _check_d4(lines)
    return NnfFile(lines, False, *_decisions(lines))


def add_nnf(draft: Draft, file: NnfFile, variables: Variables) -> tuple[int, int]:
    """Add the nodes of a file; returns the rows of its theory, and of the negation where the file is negatable.

    A decision (x and A) or (not x and B) has the negation (x and not A) or (not x and not B), and A and B without a
    variable in common has the negation not A, or A and not B. The negation is right where those of literals are: not
    for one-hot symbols.
    """
    if file.is_c2d:
        return _add_c2d(draft, file.lines, variables), draft.zero
    return _add_d4(draft, file, variables)


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
    nodes = np.concatenate([np.flatnonzero(is_and), np.repeat(np.arange(len(inner)), sizes)[~of_and]])
    parts = np.concatenate([products, rows[child[~of_and]]])
    _fill(draft, block, len(inner), _Terms(nodes, parts, np.full(len(parts), draft.one)))
    return int(rows[-1])


class _Terms(NamedTuple):
    """Terms left * right of nodes, which are numbered from the start of their block."""

    node: Rows
    left: Rows
    right: Rows


def _fill(draft: Draft, block: int, n_nodes: int, terms: _Terms) -> None:
    order = np.argsort(terms.node, kind="stable")
    sizes = np.bincount(terms.node, minlength=n_nodes)
    draft.fill(block, sizes, terms.left[order], terms.right[order])


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


def _d4_edges(lines: Lines) -> tuple[Rows, Rows, Rows, Rows]:
    """The lines of the nodes and of the edges, sorted by source; source and target of each edge among the nodes.

    Edges from an OR to the constant false are left out.
    """
    nodes, edge = np.flatnonzero(lines.kind > 0), np.flatnonzero(lines.kind == 0)
    ids, kind = lines.column(0)[nodes], lines.kind[nodes]
    source, target = (index_of(ids, lines.column(end)[edge])[0] for end in (0, 1))
    kept = np.flatnonzero((kind[source] != D4_OR) | (kind[target] != D4_FALSE))
    kept = kept[np.argsort(source[kept], kind="stable")]
    return nodes, edge[kept], source[kept], target[kept]


def _decisions(lines: Lines) -> tuple[NDArray[np.bool_], bool]:
    """Which values are literals that decide between the two edges of an OR, and whether each such OR has them."""
    nodes, edge, source, _ = _d4_edges(lines)
    n_edges = np.bincount(source, minlength=len(nodes))
    is_or = lines.kind[nodes] == D4_OR
    place, line = _d4_literals(lines)
    source_of_line = np.full(len(lines.kind), -1)
    source_of_line[edge] = source
    owner = source_of_line[line]
    wanted = np.flatnonzero((owner >= 0) & (is_or & (n_edges == 2))[owner])
    literal, owner = lines.values[place[wanted]], owner[wanted]
    order = np.lexsort((np.abs(literal), owner))
    a, b = order[:-1], order[1:]
    opposite = (owner[a] == owner[b]) & (literal[a] == -literal[b]) & (line[wanted][a] != line[wanted][b])
    a, b = a[opposite], b[opposite]
    decided, first = np.unique(owner[a], return_index=True)
    mask = np.zeros(len(lines.values), bool)
    mask[place[wanted[a[first]]]] = mask[place[wanted[b[first]]]] = True
    return mask, bool((n_edges[is_or] <= 2).all()) and len(decided) == int((is_or & (n_edges == 2)).sum())


def _add_d4(draft: Draft, file: NnfFile, variables: Variables) -> tuple[int, int]:
    lines = file.lines
    nodes, edge, source, child = _d4_edges(lines)
    ids, kind = lines.column(0)[nodes], lines.kind[nodes]
    block, not_block = draft.reserve(len(nodes)), draft.reserve(len(nodes))
    # The rows of all values that are children or literals, and of their negations.
    rows, negations = lines.values.copy(), lines.values.copy()
    rows[lines.first[edge] + 1], negations[lines.first[edge] + 1] = block + child, not_block + child
    place, line = _d4_literals(lines)
    rows[place] = variables.rows(lines.values[place], draft.one, lines, line)
    negations[place] = variables.rows(-lines.values[place], draft.one, lines, line)
    # The edges of an AND are one product, every edge of an OR is a product of its own, by its decision.
    new = (kind[source] == D4_OR) | np.append(True, np.diff(source) != 0)[: len(source)]
    start, stop = lines.first[edge] + 1, lines.first[edge + 1] - 1
    items = ranges(start, stop)
    group = np.repeat(np.cumsum(new) - 1, stop - start)
    decides = file.decisions[items]
    by = np.full(int(new.sum()), draft.one)
    by[group[decides]] = rows[items[decides]]
    items, sizes = items[~decides], np.bincount(group[~decides], minlength=len(by))
    products, not_products = draft.products_and_negations(rows[items], negations[items], sizes)
    owner = source[new]
    childless = np.bincount(owner, minlength=len(nodes)) == 0
    true = np.flatnonzero((kind == D4_TRUE) | ((kind == D4_AND) & childless))
    false = np.flatnonzero((kind == D4_FALSE) | ((kind == D4_OR) & childless))
    for start_row, parts, constant in ((block, products, true), (not_block, not_products, false)):
        ones = np.full(len(constant), draft.one)
        left, right = np.concatenate([parts, ones]), np.concatenate([by, ones])
        _fill(draft, start_row, len(nodes), _Terms(np.concatenate([owner, constant]), left, right))
    root = int(np.flatnonzero(ids == D4_ROOT)[0])
    return block + root, not_block + root
