"""What the variables of a file of clauses or of a compiled circuit say of the symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.circuits.checks import check_decomposable
from emnesy_gpu.circuits.graph import Graph, Rows
from emnesy_gpu.circuits.readers.lines import Lines
from emnesy_gpu.circuits.tables import mentioned_symbols

MOST_LEAVES = 1 << 24
"""Symbols times values: more than any net has outputs, so that a lying file takes no memory."""

LARGEST_VARIABLE = 1 << 24
"""More variables would be a mistake, or harm."""

ONE, UNKNOWN = -1, -2
"""In place of a leaf: the constant 1, and a variable that nobody has explained."""

Symbols = Literal["bits"] | Mapping[int, tuple[int, int]]
"""variable -> (symbol, value), or "bits": variable v is the symbol v - 1 with the values 0 and 1."""


class Variables(NamedTuple):
    """The leaf of each literal. positive, negative: [V + 1], by variable. one_hot: bool [n_symbols].

    The variables of a one-hot symbol say that it has a value, one for each of its values. That exactly one of them is
    true is part of the theory, so a negative literal is the constant 1.
    """

    n_symbols: int
    n_values: int
    positive: Rows
    negative: Rows
    one_hot: NDArray[np.bool_]

    def rows(self, literals: Rows, one: int, lines: Lines, of_line: Rows) -> Rows:
        """The row of each literal in a circuit whose constant is one; of_line: the line that it stands in.

        Raises CircuitFileError for a literal 0 and for variables without a meaning.
        """
        variable = np.abs(literals)
        known = (variable > 0) & (variable < len(self.positive))
        place = np.where(known, variable, 0)
        rows = np.where(literals > 0, self.positive[place], self.negative[place])
        lines.refuse_item(rows == UNKNOWN, of_line, lambda item: _no_meaning(int(literals[item])))
        return np.where(rows == ONE, one, rows)


def _no_meaning(literal: int) -> str:
    if literal == 0:
        return "there is no literal 0"
    return (
        f"variable {abs(literal)} has no meaning: give it a (symbol, value) in symbols, or name it in free if it is a "
        "function of the others"
    )


def make_variables(
    symbols: Symbols, *, n_symbols: int | None = None, free: Iterable[int] = (), largest: int = 0
) -> Variables:
    """The meaning of variables.

    Args:
        symbols: see ``Symbols``. A symbol with a single variable, of value 0 or 1, is a bit: the negative literal says
            that it has the other value. All other symbols are one-hot.
        n_symbols: how many symbols there are; by default as many as are named.
        free: variables that are functions of the others, such as those of an encoding: they count 1.
        largest: the largest variable of the file, for "bits".

    Raises TypeError and ValueError for symbols that are not as described.
    """
    if n_symbols is not None:
        checks.is_integer("n_symbols", n_symbols, 1, MOST_LEAVES)
    auxiliary = _checked_free(free)
    if isinstance(symbols, str):
        if symbols != "bits":
            raise ValueError(f'symbols must be "bits" or {{variable: (symbol, value)}}, got {symbols!r}')
        named = n_symbols
        if named is None:
            named = largest
            while named in auxiliary:
                named -= 1
        _check_size(named, 2)
        meaning = {v: (v - 1, 1) for v in range(1, named + 1) if v not in auxiliary}
    else:
        meaning = _checked_meaning(symbols)
    return _variables(meaning, auxiliary, n_symbols)


def _variables(meaning: Mapping[int, tuple[int, int]], auxiliary: set[int], n_symbols: int | None) -> Variables:
    n_named = max((symbol for symbol, _ in meaning.values()), default=-1) + 1
    n = n_named if n_symbols is None else n_symbols
    if n < 1:
        raise ValueError("no variable is named: say how many symbols there are by n_symbols")
    if n < n_named:
        raise ValueError(f"n_symbols must be at least {n_named}, as many as symbols names, got {n}")
    of_symbol: dict[int, list[int]] = {}
    for symbol, value in meaning.values():
        of_symbol.setdefault(symbol, []).append(value)
    bits = {symbol for symbol, values in of_symbol.items() if len(values) == 1 and values[0] < 2}
    n_values = max([value + 1 for _, value in meaning.values()] + [2] * bool(bits or not meaning))
    _check_size(n, n_values)
    size = max([*meaning, *auxiliary], default=0) + 1
    positive, negative = np.full(size, UNKNOWN, np.int64), np.full(size, UNKNOWN, np.int64)
    positive[list(auxiliary)] = negative[list(auxiliary)] = ONE
    one_hot = np.zeros(n, bool)
    for variable, (symbol, value) in meaning.items():
        positive[variable] = symbol * n_values + value
        negative[variable] = symbol * n_values + 1 - value if symbol in bits else ONE
        one_hot[symbol] = symbol not in bits
    return Variables(n, n_values, positive, negative, one_hot)


def _checked_free(free: Iterable[int]) -> set[int]:
    found = set(checks.items("free", free, "integers"))
    for variable in found:
        if isinstance(variable, bool) or not isinstance(variable, (int, np.integer)) or not 0 < variable <= MOST_LEAVES:
            raise ValueError(f"free must hold variables in 1..{MOST_LEAVES}, got {variable!r}")
    return {int(variable) for variable in found}


def _checked_meaning(symbols: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    if not isinstance(symbols, Mapping):
        raise TypeError(f'symbols must be "bits" or {{variable: (symbol, value)}}, got {type(symbols).__name__}')
    used: dict[tuple[int, int], int] = {}
    for variable, pair in symbols.items():
        if not _is_index(variable, 1):
            raise ValueError(f"variables in symbols must be integers in 1..{MOST_LEAVES}, got {variable!r}")
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(_is_index(part, 0) for part in pair):
            raise ValueError(f"symbols[{variable}] must be (symbol, value), two integers >= 0, got {pair!r}")
        other = used.setdefault(pair, variable)
        if other != variable:
            raise ValueError(f"symbols gives the variables {other} and {variable} the same symbol and value {pair}")
    return {int(variable): (int(symbol), int(value)) for variable, (symbol, value) in symbols.items()}


def _is_index(value: object, low: int) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and low <= int(value) <= MOST_LEAVES  # type: ignore[call-overload]


def _check_size(n_symbols: int, n_values: int) -> None:
    if n_symbols * n_values > MOST_LEAVES:
        raise ValueError(
            f"{n_symbols} symbols of {n_values} values are more than {MOST_LEAVES} leaves: map the variables by "
            "symbols={variable: (symbol, value)}"
        )


def check_one_hot(graph: Graph, variables: Variables, name: str) -> None:
    """Raise ValueError unless every part of the circuit gives each one-hot symbol exactly one value.

    If so, the circuit with negative literals folded away is right: a part with the values of all symbols holds for one
    assignment, whose other variables are false. If not, the file does not say that exactly one variable is true.
    """
    check_decomposable(graph)
    missing = variables.one_hot & ~mentioned_symbols(graph)
    if missing.any():
        symbol = int(np.argmax(missing))
        raise ValueError(
            f"{name} does not say that exactly one variable of symbol {symbol} is true, so its negative literals "
            "cannot be left out: add clauses that say it before compiling, or take the variables as bits"
        )
