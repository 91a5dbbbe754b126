"""A small circuit as a drawing: nodes by level, and on each arrow the values of symbols that it stands for."""

from __future__ import annotations

from typing import NamedTuple

from emnesy_gpu.circuits.graph import Graph, depths
from emnesy_gpu.layered_drawing import Drawing, check_size, listed


class Names(NamedTuple):
    """symbols: names of the symbols, and after them of the entries of the label. labels: of the values of entries."""

    symbols: list[str]
    labels: list[list[str]]


class _Term(NamedTuple):
    """The factors of a term: values of symbols, and of entries, which are counted after them; and nodes."""

    known: dict[int, list[int]]
    nodes: list[int]


Sums = list[list[_Term]]
"""The terms of each node."""


def drawing_of(graph: Graph, names: Names) -> Drawing:
    """The drawing of a circuit.

    A node whose terms all know the values of one symbol has its name, and its arrows have the values. Other sums are
    "+", and products of two nodes are dots. What has no nodes below it is written in full, "1" where it is nothing.
    Raises ValueError for circuits that are too large.
    """
    check_size("circuit", graph.n_nodes, graph.n_edges)
    sums, level = _sums(graph), depths(graph).astype(float)
    drawing, place = Drawing([], [], {}), {}
    leaves: dict[tuple[float, str], int] = {}
    for node in _reached(sums):
        place[node] = drawing.add(level[node], _title(sums[node], names))
    for node, source in place.items():
        if _is_leaf(sums[node]):
            continue
        symbol = _decided(sums[node])
        for term in sums[node]:
            words = [] if symbol is None else [_values(symbol, term.known[symbol], names)]
            rest = [_words(other, values, names) for other, values in term.known.items() if other != symbol]
            if term.nodes:
                target, words = _factors(drawing, level[node], [place[child] for child in term.nodes]), words + rest
            else:
                leaf = level[node] - 1, ", ".join(rest) or "1"
                target = leaves[leaf] = leaves[leaf] if leaf in leaves else drawing.add(*leaf)
            drawing.connect(source, target, ", ".join(words))
    return drawing


def _factors(drawing: Drawing, level: float, nodes: list[int]) -> int:
    """A node of a term, or a dot that leads to both; level: of the sum."""
    if len(nodes) == 1:
        return nodes[0]
    dot = drawing.add(level - 0.5, "")
    for node in nodes:
        drawing.connect(dot, node, "")
    return dot


def _sums(graph: Graph) -> Sums:
    """Nodes that only say which values a symbol has are known values in the terms of others."""
    sizes = [graph.n_values] * graph.n_symbols + list(graph.given)
    leaves = [(symbol, [value]) for symbol, size in enumerate(sizes) for value in range(size)]
    known, fixed = dict(enumerate(leaves)), graph.n_leaves + 1
    sums: Sums = []
    for node in range(graph.n_nodes):
        terms = []
        for index in range(int(graph.first[node]), int(graph.first[node + 1])):
            rows = [row for row in (int(graph.left[index]), int(graph.right[index])) if row != graph.n_leaves]
            parts = dict(known[row] for row in rows if row in known)
            terms.append(_Term(parts, [row - fixed for row in rows if row not in known]))
        sums.append(terms)
        symbol = _decided(terms)
        if symbol is not None and all(len(term.known) == 1 and not term.nodes for term in terms):
            known[fixed + node] = symbol, sorted(value for term in terms for value in term.known[symbol])
    return sums


def _decided(terms: list[_Term]) -> int | None:
    """The first symbol of which every term knows the values, if there is one."""
    shared = set(terms[0].known).intersection(*(term.known for term in terms))
    return min(shared, default=None)


def _is_leaf(terms: list[_Term]) -> bool:
    """Whether the node is written in full."""
    return len(terms) == 1 and not terms[0].nodes


def _title(terms: list[_Term], names: Names) -> str:
    if _is_leaf(terms):
        return ", ".join(_words(*known, names) for known in terms[0].known.items()) or "1"
    symbol = _decided(terms)
    if symbol is not None:
        return names.symbols[symbol]
    return "+" if len(terms) > 1 else "×"


def _values(symbol: int, values: list[int], names: Names) -> str:
    entry = symbol - (len(names.symbols) - len(names.labels))
    return listed(str(value) if entry < 0 else names.labels[entry][value] for value in values)


def _words(symbol: int, values: list[int], names: Names) -> str:
    return f"{names.symbols[symbol]} = {_values(symbol, values, names)}"


def _reached(sums: Sums) -> list[int]:
    """The nodes below the root, itself included."""
    found, waiting = [len(sums) - 1], [len(sums) - 1]
    while waiting:
        for term in sums[waiting.pop()]:
            new = [node for node in term.nodes if node not in found]
            found += new
            waiting += new
    return found
