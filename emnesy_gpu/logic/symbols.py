"""Symbols with values, and sums of them: what formulas speak of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import count, product
from math import prod
from typing import Any

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.logic.formulas import FALSE, TRUE, Formula, Not, OneOf, Operators, SumWithin

_numbers = count()


class Universe:
    """The symbols that one call of ``symbols`` made; a formula that mentions one of them is over all of them."""

    def __init__(self, names: Sequence[str], shape: tuple[int, ...], values: tuple[Hashable, ...]) -> None:
        self.shape, self.values = shape, values
        self.symbols = tuple(Symbol(name, self) for name in names)


class Expression(Operators):
    """A sum of symbols with integer weights and a constant; comparisons make formulas.

    weights[0] z_0 + ... + constant
    """

    def __init__(self, weights: dict[Symbol, int], constant: int = 0) -> None:
        self.weights = {symbol: weight for symbol, weight in weights.items() if weight}
        self.constant = constant

    def __add__(self, other: Any) -> Expression:
        added = as_expression(other)
        weights = dict(self.weights)
        for symbol, weight in added.weights.items():
            weights[symbol] = weights.get(symbol, 0) + weight
        return Expression(weights, self.constant + added.constant)

    def __mul__(self, factor: int) -> Expression:
        scale = _integer("a factor of a symbol", factor, "an integer")
        return Expression({symbol: scale * weight for symbol, weight in self.weights.items()}, scale * self.constant)

    def __sub__(self, other: Any) -> Expression:
        return self + as_expression(other) * -1

    def __rsub__(self, other: Any) -> Expression:
        return self * -1 + other

    def __neg__(self) -> Expression:
        return self * -1

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: Any) -> Formula:  # type: ignore[override]
        return _within(self - other, 0, 0)

    def __ne__(self, other: Any) -> Formula:  # type: ignore[override]
        return Not.of(self == other, "a comparison")

    def __le__(self, other: Any) -> Formula:
        return _within(self - other, None, 0)

    def __lt__(self, other: Any) -> Formula:
        return _within(self - other, None, -1)

    def __ge__(self, other: Any) -> Formula:
        return _within(self - other, 0, None)

    def __gt__(self, other: Any) -> Formula:
        return _within(self - other, 1, None)

    def __hash__(self) -> int:
        return id(self)

    def as_formula(self) -> Formula:
        raise TypeError(f"{self!r} is a number, not a formula: compare it, such as {self!r} == 1")

    def __repr__(self) -> str:
        parts = [f"{'' if weight == 1 else f'{weight} * '}{symbol}" for symbol, weight in self.weights.items()]
        return " + ".join(parts + [str(self.constant)] * (self.constant != 0 or not parts))


class Symbol(Expression):
    """An unknown with values 0..cardinality-1, or with names for them; made by ``symbols``."""

    def __init__(self, name: str, universe: Universe) -> None:
        self.name, self.universe, self.number = name, universe, next(_numbers)
        self.weights, self.constant = {self: 1}, 0

    @property
    def cardinality(self) -> int:
        return len(self.universe.values)

    def __eq__(self, other: Any) -> Formula:  # type: ignore[override]
        if isinstance(other, Expression):
            return super().__eq__(other)
        return OneOf.of(self, [self.index(other)])

    def index(self, value: Any) -> int:
        """The number of a value. Raises ValueError for what is none."""
        if type(value) is not bool and getattr(value, "ndim", 0) == 0:
            for index, own in enumerate(self.universe.values):
                if own == value:
                    return index
        raise ValueError(f"symbol {self} has the values {_shown(self.universe.values)}, got {value!r}")

    def is_in(self, values: Iterable[Any]) -> Formula:
        """That the symbol has one of some values."""
        return OneOf.of(self, [self.index(value) for value in checks.items("values", values, "values of the symbol")])

    def as_formula(self) -> Formula:
        """A symbol with two values says that it has the second one."""
        if self.cardinality != 2:
            raise TypeError(f"symbol {self} has {self.cardinality} values: compare it, such as {self} == 1")
        return OneOf.of(self, [1])

    __hash__ = Expression.__hash__

    def __repr__(self) -> str:
        return self.name


def _shown(values: Sequence[Any]) -> str:
    return f"0..{len(values) - 1}" if values == tuple(range(len(values))) else ", ".join(map(repr, values))


def _within(total: Expression, low: int | None, high: int | None) -> Formula:
    """low <= total <= high."""
    low = None if low is None else low - total.constant
    high = None if high is None else high - total.constant
    if len(total.weights) == 1:
        ((symbol, weight),) = total.weights.items()
        values = range(symbol.cardinality)
        return OneOf.of(symbol, [v for v in values if _inside(weight * v, low, high)])
    if not total.weights:
        return TRUE if _inside(0, low, high) else FALSE
    return SumWithin(total.weights, low, high)


def _inside(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def as_expression(value: Any, name: str = "a term of a sum") -> Expression:
    """Raises TypeError for what is neither a sum of symbols nor an integer; name: of the argument."""
    return value if isinstance(value, Expression) else Expression({}, _integer(name, value, "an integer or a symbol"))


def _integer(name: str, value: Any, expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    return int(value)


class Symbols(Sequence[Any]):
    """Symbols in an array: indices and slices as in NumPy; a comparison compares each of them.

    >>> z = symbols((2, 3), cardinality=4)
    >>> z[0, 1], z[:, 0], len(z), z.shape
    (z[0,1], [z[0,0], z[1,0]], 2, (2, 3))
    >>> z[0] == 3
    [z[0,0] == 3, z[0,1] == 3, z[0,2] == 3]
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def __getitem__(self, index: Any) -> Any:
        found = self._array[index]
        return Symbols(found) if isinstance(found, np.ndarray) else found

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def flat(self) -> list[Symbol]:
        """All symbols in row-major order."""
        return list(self._array.flat)

    def sum(self) -> Expression:
        """The sum of all of them."""
        return Expression({}) if not self._array.size else sum(self.flat(), Expression({}))

    def _each(self, compare: Callable[[Symbol], Formula]) -> list[Formula]:
        return [compare(symbol) for symbol in self.flat()]

    def __eq__(self, other: Any) -> list[Formula]:  # type: ignore[override]
        return self._each(lambda symbol: symbol == other)

    def __ne__(self, other: Any) -> list[Formula]:  # type: ignore[override]
        return self._each(lambda symbol: symbol != other)

    def __le__(self, other: Any) -> list[Formula]:
        return self._each(lambda symbol: symbol <= other)

    def __lt__(self, other: Any) -> list[Formula]:
        return self._each(lambda symbol: symbol < other)

    def __ge__(self, other: Any) -> list[Formula]:
        return self._each(lambda symbol: symbol >= other)

    def __gt__(self, other: Any) -> list[Formula]:
        return self._each(lambda symbol: symbol > other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def symbols(
    names: str | int | Sequence[int], cardinality: int | None = None, *, values: Sequence[Hashable] | None = None
) -> Symbols:
    """New symbols for formulas.

    Args:
        names: names with blanks between them, or how many symbols there are, or the shape of an array of them.
        cardinality: the number of values of each, 2 by default.
        values: names of the values, in place of cardinality; all different.

    A circuit of a formula is over all symbols of the calls that made some of its symbols, in the order in which they
    were made.

    >>> a, b = symbols("a b")
    >>> a & ~b
    (a == 1) & ~(b == 1)
    >>> light, walk = symbols("light walk", values=("red", "green"))
    >>> (light == "red") | (walk == "red")
    (light == 'red') | (walk == 'red')
    """
    if values is not None and cardinality is not None:
        raise TypeError("symbols takes cardinality or values, not both")
    if values is None:
        cardinality = 2 if cardinality is None else cardinality
        checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
        values = range(cardinality)
    if not isinstance(values, Sequence) or not all(isinstance(value, Hashable) for value in values):
        raise TypeError(f"values must be a sequence of strings or other constants, got {values!r}")
    if not len(values) or len(set(values)) < len(values):
        raise ValueError(f"values must be different, and at least one, got {list(values)!r}")
    if isinstance(names, str):
        words = names.split()
        shape: tuple[int, ...] = (len(words),)
    else:
        if isinstance(names, int):
            checks.is_integer("names", names, 1, checks.MOST_SYMBOLS)
            names = (names,)
        checks.is_shape("names", names)
        shape = tuple(names)
        checks.is_integer("the number of symbols", prod(shape), 1, checks.MOST_SYMBOLS)
        words = [f"z[{','.join(map(str, place))}]" for place in product(*map(range, shape))]
    if not words:
        raise ValueError("symbols needs at least one name")
    array = np.empty(prod(shape), object)
    array[:] = Universe(words, shape, tuple(values)).symbols
    return Symbols(array.reshape(shape))
