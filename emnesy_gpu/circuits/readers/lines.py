"""Text files whose lines are a letter or none, then integers: .sdd, .nnf and DIMACS, millions of lines in a second."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.circuits.graph import Rows
from emnesy_gpu.errors import CircuitFileError

NEWLINE, SPACE, MINUS = 10, 32, 45
LONGEST_NUMBER = 18
"""Digits that always fit into 64 bits."""

BLANKS = bytes.maketrans(b"\r\t\v\f", b"    ")


@dataclass(frozen=True)
class Lines:
    """The lines of a file, without comments, blank lines and its header.

    name: of the file, for errors. header: the integers after the word that the file starts with, None without such a
    line. kind: uint8 [L], the letter that each line starts with, 0 for none. first [L + 1]: the first of the numbers of
    each line. number [L]: where in the file each line stands.
    """

    name: str
    header: list[int] | None
    kind: NDArray[np.uint8]
    first: Rows
    values: Rows
    number: Rows

    @property
    def counts(self) -> Rows:
        return np.diff(self.first)

    def column(self, index: int) -> Rows:
        """One number of each line, 0 for lines that are too short."""
        place = self.first[:-1] + index
        there = place < self.first[1:]
        return np.where(there, np.append(self.values, 0)[np.where(there, place, -1)], 0)

    def refuse(self, bad: NDArray[np.bool_], message: str | Callable[[int], str]) -> None:
        """Raise CircuitFileError for the first bad line; message: text, or a function of the index of the line."""
        if bad.any():
            line = int(np.argmax(bad))
            fail(self.name, int(self.number[line]), message if isinstance(message, str) else message(line))

    def refuse_item(self, bad: NDArray[np.bool_], line: Rows, message: Callable[[int], str]) -> None:
        """The same for things of which a line has several: line, the index of the line of each."""
        if bad.any():
            first = int(np.argmax(bad))
            fail(self.name, int(self.number[line[first]]), message(first))

    def refuse_all(self, message: str) -> NoReturn:
        """Raise CircuitFileError for the whole file."""
        fail(self.name, None, message)


def fail(name: str, line: int | None, message: str) -> NoReturn:
    raise CircuitFileError(f"{name}, line {line}: {message}" if line is not None else f"{name}: {message}")


def read_bytes(path: str | PathLike[str]) -> tuple[bytes, str]:
    """What a file holds, and its name. Raises CircuitFileError for a file that cannot be read."""
    try:
        checks.is_path("path", path)
        return Path(path).read_bytes(), str(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CircuitFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def split_lines(raw: bytes, name: str, word: str, letters: str) -> Lines:
    """Split a file; word: a pattern of what its header starts with, letters: those that lines may start with.

    Raises CircuitFileError for any other character, and for letters and signs in the wrong place.
    """
    raw = raw.translate(BLANKS)
    begin = re.compile(rb"(?:[ ]*(?:c(?: [^\n]*)?)?\n)*").match(raw).end()  # type: ignore[union-attr]
    header, begin, name_of_lines = _header(raw, begin, name, word)
    body = raw[begin:]
    if b"\nc" in body or body.startswith(b"c"):
        body = re.sub(rb"(?m)^c(?: .*)?$", b"", body)
    text = np.frombuffer(body + b"\n", np.uint8)
    return _numbers(text, name, header, letters, name_of_lines)


def _header(raw: bytes, begin: int, name: str, word: str) -> tuple[list[int] | None, int, int]:
    """The integers of the header, where the lines after it begin, and the number of the first of them."""
    found = re.compile(rb"[ ]*(" + word.encode() + rb")(?=[ \n]|$)([^\n]*)(?:\n|$)").match(raw, begin)
    line = 1 + raw.count(b"\n", 0, begin)
    if not found:
        return None, begin, line
    parts = found[2].split()
    if any(not part.isdigit() or len(part) > LONGEST_NUMBER for part in parts):
        shown = found[2].decode("ascii", "backslashreplace").strip()
        fail(name, line, f"after {found[1].decode()!r} there must be counts, got {shown!r}")
    return [int(part) for part in parts], found.end(), line + 1


def _numbers(text: NDArray[np.uint8], name: str, header: list[int] | None, letters: str, first_line: int) -> Lines:
    ends = np.flatnonzero(text == NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    blank = text <= SPACE
    token = ~blank
    token[1:] &= blank[:-1]
    _check_characters(text, blank, token, letters, lambda at: fail_at(name, text, first_line, at))
    is_letter = text > ord("9")
    numbers = np.flatnonzero(token & ~is_letter)
    kind_at = np.flatnonzero(is_letter)
    line_of_kind = np.searchsorted(ends, kind_at)
    first = np.searchsorted(numbers, np.append(starts, len(text)))
    # A letter is the first of its line: no other letter, no number before it.
    before = first[line_of_kind] < len(numbers)
    wrong = np.zeros(len(kind_at), bool)
    wrong[before] = numbers[first[line_of_kind][before]] < kind_at[before]
    wrong[1:] |= np.diff(line_of_kind) == 0
    if wrong.any():
        fail_at(name, text, first_line, int(kind_at[np.argmax(wrong)]))
    kind = np.zeros(len(ends), np.uint8)
    kind[line_of_kind] = text[kind_at]
    values = _parse(text, numbers, is_letter, lambda at: fail_at(name, text, first_line, at))
    kept = (np.diff(first) > 0) | (kind > 0)
    first = np.append(first[:-1][kept], first[-1])
    return Lines(name, header, kind[kept], first, values, first_line + np.flatnonzero(kept))


def _check_characters(
    text: NDArray[np.uint8],
    blank: NDArray[np.bool_],
    token: NDArray[np.bool_],
    letters: str,
    refuse: Callable[[int], NoReturn],
) -> None:
    """Letters stand alone, signs before a digit; there is nothing else but digits."""
    allowed = np.zeros(256, bool)
    allowed[list(b" \n-0123456789" + letters.encode())] = True
    bad = ~allowed[text]
    last = np.append(blank[1:], True)
    bad |= (text > ord("9")) & ~(token & last)
    bad |= (text == MINUS) & ~(token & ~last)
    if bad.any():
        refuse(int(np.argmax(bad)))


def fail_at(name: str, text: NDArray[np.uint8], first_line: int, at: int) -> NoReturn:
    """Raise for a character that does not belong there."""
    before = bytes(text[:at])
    start = before.rfind(b"\n") + 1
    shown = bytes(text[start : at + 20]).split(b"\n")[0].decode("ascii", "backslashreplace")
    fail(name, first_line + before.count(b"\n"), f"cannot be read at column {at - start + 1}: {shown[-40:]!r}")


def _parse(
    text: NDArray[np.uint8], numbers: Rows, is_letter: NDArray[np.bool_], refuse: Callable[[int], NoReturn]
) -> Rows:
    if not len(numbers):
        return np.zeros(0, np.int64)
    blank = text <= SPACE
    ends = np.flatnonzero(blank[1:] & ~(blank | is_letter)[:-1]) + 1
    too_long = ends - numbers > LONGEST_NUMBER
    if too_long.any():
        refuse(int(numbers[np.argmax(too_long)]))
    digits = text.copy()
    digits[is_letter] = SPACE
    return np.fromstring(digits.tobytes(), np.int64, sep=" ")


def index_of(ids: Rows, named: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Where in ids each named one stands, and whether it is there."""
    low, high = int(ids.min()), int(ids.max())
    if high - low < 4 * len(ids) + 1024:  # a table is faster than a search
        table = np.full(high - low + 2, -1, np.int64)
        table[ids - low] = np.arange(len(ids))
        index = table[np.where((named < low) | (named > high), -1, named - low)]
        return index, index >= 0
    order = np.argsort(ids, kind="stable")
    index = order[np.minimum(np.searchsorted(ids, named, sorter=order), len(ids) - 1)]
    return index, ids[index] == named


def repeated(ids: Rows) -> NDArray[np.bool_]:
    """Which ids were there before.

    >>> repeated(np.array([3, 5, 3])).tolist()
    [False, False, True]
    """
    order = np.argsort(ids, kind="stable")
    again = np.zeros(len(ids), bool)
    again[order[1:]] = np.diff(ids[order]) == 0
    return again
