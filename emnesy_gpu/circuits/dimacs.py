"""Clauses, from lists of literals or from text in the format of DIMACS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import NamedTuple

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.circuits.readers.lines import read_bytes, split_lines
from emnesy_gpu.circuits.readers.variables import LARGEST_VARIABLE
from emnesy_gpu.errors import CircuitFileError

ClauseSource = str | PathLike[str] | Iterable[Sequence[int]]
"""A path, text that starts with 'p cnf' or a comment, or clauses as sequences of literals."""


class Formula(NamedTuple):
    """A conjunction of clauses over the variables 1..n_variables."""

    n_variables: int
    clauses: list[list[int]]


def read_clauses(source: ClauseSource) -> Formula:
    """Clauses from a file, from text, or from sequences.

    Raises CircuitFileError for text that is not in the format, ValueError and TypeError for other clauses.

    >>> read_clauses("p cnf 3 2\\n1 -2 0\\n2 3 0\\n")
    Formula(n_variables=3, clauses=[[1, -2], [2, 3]])
    """
    if isinstance(source, str) and (source.startswith(("p cnf", "c ", "c\n")) or "\n" in source):
        return _parse(source.encode(), "the text of clauses")
    if isinstance(source, (str, PathLike)):
        return _parse(*read_bytes(fspath(source)))
    given = checks.items("clauses", source, "a path, text, or sequences of literals")
    clauses = [_checked(clause, index) for index, clause in enumerate(given)]
    return Formula(max((abs(literal) for clause in clauses for literal in clause), default=0), clauses)


def _checked(clause: Sequence[int], index: int) -> list[int]:
    try:
        literals = list(clause)
    except TypeError:
        raise TypeError(f"clauses[{index}] must be a sequence of literals, got {clause!r}") from None
    for literal in literals:
        whole = isinstance(literal, (int, np.integer)) and not isinstance(literal, bool)
        if not whole or not 0 < abs(literal) <= LARGEST_VARIABLE:
            raise ValueError(
                f"literals must be integers in 1..{LARGEST_VARIABLE} or their negatives, got {literal!r} in clause "
                f"{index}"
            )
    return [int(literal) for literal in literals]


def _parse(raw: bytes, name: str) -> Formula:
    lines = split_lines(raw.split(b"\n%")[0], name, "p +cnf", "")
    if lines.header is None or len(lines.header) != 2:
        raise CircuitFileError(f"{name}: the header 'p cnf variables clauses' is missing")
    n_variables, n_clauses = lines.header
    line = np.repeat(np.arange(len(lines.kind)), lines.counts)
    lines.refuse_item(
        np.abs(lines.values) > min(n_variables, LARGEST_VARIABLE),
        line,
        lambda item: f"there are {n_variables} variables, got the literal {lines.values[item]}",
    )
    ends = np.flatnonzero(lines.values == 0)
    if len(ends) != n_clauses or (len(lines.values) and lines.values[-1] != 0):
        lines.refuse_all(f"the header says {n_clauses} clauses, but there are {len(ends)}: is the file cut off?")
    literals = lines.values.tolist()
    starts = np.concatenate([[0], ends[:-1] + 1]).tolist() if len(ends) else []
    return Formula(n_variables, [literals[a:b] for a, b in zip(starts, ends.tolist(), strict=True)])
