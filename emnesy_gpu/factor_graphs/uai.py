"""Files in the UAI format: Markov networks and Bayesian networks, as in the competitions on probabilistic inference.

A file has MARKOV or BAYES, the number of variables, their cardinalities, the number of tables, the scope of each (its
length, then its variables), and each table: how many numbers it has, then the numbers, the last variable of the scope
changing fastest. White space separates all; "c" or "#" starts a line that is a comment. In a BAYES file each table is
that of the last variable of its scope given the others.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.errors import GraphFileError
from emnesy_gpu.factor_graphs.chains import Floats
from emnesy_gpu.factor_graphs.networks import check_rows

KINDS = ("MARKOV", "BAYES")

MOST_VALUES = 1 << 16
"""Of a variable; more would be a mistake."""

MOST_VARIABLES = 1 << 24


class UaiFile(NamedTuple):
    sizes: list[int]
    scopes: list[list[int]]
    tables: list[Floats]  # [k of each variable of the scope]


class _Words:
    """The words of a file, one after the other."""

    def __init__(self, text: str, name: str) -> None:
        lines = text.splitlines()
        kept = [(number, line) for number, line in enumerate(lines, 1) if not line.lstrip().startswith(("c ", "#"))]
        self._words = [(number, word) for number, line in kept for word in line.split()]
        self._next, self._name = 0, name

    def fail(self, message: str) -> NoReturn:
        """Raise for the word that was read last."""
        number = self._words[min(self._next, len(self._words)) - 1][0] if self._words else 1
        raise GraphFileError(f"{self._name}, line {number}: {message}")

    @property
    def left(self) -> int:
        return len(self._words) - self._next

    def take(self, what: str) -> str:
        if not self.left:
            self.fail(f"the file ends where there must be {what}: is it cut off?")
        self._next += 1
        return self._words[self._next - 1][1]

    def integer(self, what: str, low: int, high: int) -> int:
        word = self.take(what)
        if not (word.isascii() and word.isdigit() and len(word) <= 18 and low <= int(word) <= high):
            self.fail(f"{what} must be an integer in {low}..{high}, got {_shown(word)}")
        return int(word)

    def numbers(self, count: int, what: str) -> Floats:
        """Numbers >= 0."""
        if self.left < count:
            self.fail(f"{what} must have {count} numbers, but {self.left} words are left: is the file cut off?")
        values = np.empty(count)
        for index in range(count):
            word = self.take(what)
            try:
                values[index] = float(word)
            except ValueError:
                values[index] = -1.0
            if not 0.0 <= values[index] < np.inf:
                self.fail(f"{what} must have finite numbers >= 0, got {_shown(word)}")
        return values


def _shown(word: str) -> str:
    return repr(word if len(word) <= 40 else f"{word[:37]}...")


def read_uai(source: str | PathLike[str]) -> UaiFile:
    """Read a file, or the text of one. Raises GraphFileError, with one line, for anything else."""
    text, name = _text(source)
    words = _Words(text, name)
    kind = words.take("MARKOV or BAYES")
    if kind not in KINDS:
        words.fail(f"a file must start with MARKOV or BAYES, got {_shown(kind)}")
    n = words.integer("the number of variables", 1, MOST_VARIABLES)
    if n > words.left:
        words.fail(f"there must be {n} cardinalities, but {words.left} words are left: is the file cut off?")
    sizes = [words.integer(f"the cardinality of variable {i}", 1, MOST_VALUES) for i in range(n)]
    n_tables = words.integer("the number of tables", 0, words.left)
    scopes = [_scope(words, f"the scope of table {index}", n) for index in range(n_tables)]
    tables = [_table(words, f"table {index}", [sizes[i] for i in scope]) for index, scope in enumerate(scopes)]
    if words.left:
        words.take("nothing")
        words.fail(f"the file goes on after table {n_tables - 1}")
    if kind == "BAYES":
        _check_conditional(words, scopes, tables)
    return UaiFile(sizes, scopes, tables)


def _text(source: str | PathLike[str]) -> tuple[str, str]:
    """The text of a file, and its name for errors; a string with a line break is itself the text."""
    if isinstance(source, str) and "\n" in source:
        return source, "text"
    try:
        checks.is_path("source", source)
        return Path(source).read_bytes().decode("ascii", "replace"), str(source)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise GraphFileError(f"{source} cannot be read: {reason}") from error


def _scope(words: _Words, what: str, n: int) -> list[int]:
    length = words.integer(f"the length of {what}", 0, n)
    scope = [words.integer(what, 0, n - 1) for _ in range(length)]
    if len(set(scope)) < length:
        words.fail(f"{what} names a variable twice: {scope}")
    return scope


def _table(words: _Words, what: str, sizes: list[int]) -> Floats:
    count = words.integer(f"the length of {what}", 0, words.left)
    expected = 1
    for size in sizes:
        expected *= size
    if count != expected:
        words.fail(f"{what} must have {expected} numbers, one for each assignment of its scope, got {count}")
    table = words.numbers(count, what).reshape(sizes)
    if not (table > 0).any():
        words.fail(f"{what} must have a number above 0")
    return table


def _check_conditional(words: _Words, scopes: list[list[int]], tables: list[Floats]) -> None:
    children = [scope[-1] if scope else None for scope in scopes]
    if None in children or len(set(children)) < len(children):
        words.fail("in a BAYES file each table must be that of another variable, the last one of its scope")
    for index, table in enumerate(tables):
        try:
            check_rows(f"table {index}", table)
        except ValueError as error:
            words.fail(str(error))
