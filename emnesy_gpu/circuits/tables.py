"""A circuit as tensors for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from emnesy_gpu.circuits.graph import Graph, Rows
from emnesy_gpu.circuits.tape import make_tape
from emnesy_gpu.kernels.circuit_tables import CircuitTables

NESTED_BITS = 32
"""Of a number of nodes that lie below each other."""


class Compiled(NamedTuple):
    """Tables of a circuit, and how many rows the table of their tape has."""

    tables: CircuitTables
    tape_rows: int


def make_tables(graph: Graph, codes: Sequence[dict[int, int]] = (), *, prediction: bool = False) -> Compiled:
    """Tables on the CPU.

    Args:
        graph: the circuit.
        codes: for each entry of the label, the value that each code stands for; without, values are their own codes.
        prediction: the tape leaves the derivatives with respect to the leaves of the label, in place of those of the
            symbols.
    """
    n_hidden = graph.n_symbols * graph.n_values
    parts = {
        "given": n_hidden + np.concatenate([[0], np.cumsum(graph.given)]),
        "codes": _codes(graph, codes),
        "first": graph.first,
        "left": graph.left,
        "right": graph.right,
        "node_levels": graph.node_levels,
        "draws": _draws(graph),
        "mentioned": mentioned_symbols(graph),
    }
    tape, rows = _tape_parts(graph, prediction)
    return Compiled(CircuitTables(**_tensors(parts), **_tensors(tape)), rows)


def with_prediction(graph: Graph, compiled: Compiled) -> Compiled:
    """The tables of a circuit with the tape of predictions."""
    tape, rows = _tape_parts(graph, prediction=True)
    return Compiled(compiled.tables._replace(**_tensors(tape)), rows)


def _tape_parts(graph: Graph, prediction: bool) -> tuple[dict[str, Rows], int]:
    hidden = np.arange(graph.n_leaves) < graph.n_symbols * graph.n_values
    tape = make_tape(graph, ~hidden if prediction else hidden)
    parts = {
        "levels": tape.levels,
        "runs": tape.runs,
        "out": tape.out,
        "tape_left": tape.left,
        "tape_right": tape.right,
        "derivatives": tape.derivatives,
    }
    return parts, tape.n_rows


def _tensors(parts: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(part.astype(np.int32)) for name, part in parts.items()}


def _codes(graph: Graph, codes: Sequence[dict[int, int]]) -> Rows:
    """[M, Q + 3]: one more than the value of each code, -1 for codes that do not exist; a code is its column less 2."""
    known = codes or [{value: value for value in range(size)} for size in graph.given]
    table = np.full((len(known), max(map(max, known), default=0) + 4), -1, np.int64)
    table[:, 1] = 0
    for row, entry in zip(table, known, strict=True):
        row[[code + 2 for code in entry]] = [value + 1 for value in entry.values()]
    return table


def _draws(graph: Graph) -> Rows:
    """A counter for each node [N]: its smallest symbol, and how many nodes with that symbol are nested below it.

    Of two nodes of a sample with the same smallest symbol one lies below the other.
    """
    # One number for both, which is the smaller, the smaller the symbol is, then the more nodes are nested.
    word = np.full(graph.n_rows, graph.n_symbols << NESTED_BITS)
    n_hidden = graph.n_symbols * graph.n_values
    word[:n_hidden] = np.repeat(np.arange(graph.n_symbols) << NESTED_BITS, graph.n_values)
    fixed = graph.n_leaves + 1
    for nodes, terms, first in graph.by_level:
        of_term = np.minimum(word.take(graph.left[terms]), word.take(graph.right[terms]))
        smallest = np.minimum.reduceat(of_term, first)
        word[fixed + nodes.start : fixed + nodes.stop] = smallest - 1
    symbol = (word[fixed:] >> NESTED_BITS) + 1
    return ((symbol << NESTED_BITS) - word[fixed:]) * (graph.n_symbols + 1) + symbol


def mentioned_symbols(graph: Graph) -> NDArray[np.bool_]:
    """The symbols that all parts of the root mention, bool [n]."""
    sets = symbol_sets(graph, every_part=True)
    bits = np.unpackbits(sets[-1:].view(np.uint8), bitorder="little")
    return bits[: graph.n_symbols].astype(bool)


def symbol_sets(graph: Graph, *, every_part: bool) -> NDArray[np.uint64]:
    """[rows, words]: the symbols that some part of each row mentions, or that every part mentions, as bits."""
    words = graph.n_symbols // 64 + 1
    sets = np.zeros((graph.n_rows, words), np.uint64)
    leaf = np.arange(graph.n_symbols * graph.n_values)
    symbol = leaf // max(graph.n_values, 1)
    sets[leaf, symbol // 64] = np.uint64(1) << (symbol % 64).astype(np.uint64)
    reduce = np.bitwise_and if every_part else np.bitwise_or
    fixed = graph.n_leaves + 1
    for nodes, terms, first in graph.by_level:
        parts = sets.take(graph.left[terms], 0) | sets.take(graph.right[terms], 0)
        sets[fixed + nodes.start : fixed + nodes.stop] = reduce.reduceat(parts, first, axis=0)
    return sets
