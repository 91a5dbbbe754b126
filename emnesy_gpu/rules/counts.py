"""Rules that count and add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from emnesy_gpu import checks
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.rules.labels import BOTH, itself


def parity(n_symbols: int, cardinality: int = 2) -> Automaton:
    """The sum of the symbols modulo 2.

        y = (z_0 + ... + z_{n-1}) mod 2

    Label: 0 or 1. States: 2.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.parity(4).label(torch.tensor([1, 0, 1, 1])).item()
    1
    """
    return Automaton(lambda s, v: (s + v) % 2, 0, itself, n_symbols, cardinality, labels=(0, 1))


def count(n_symbols: int, cardinality: int, values: Iterable[int]) -> Automaton:
    """How many symbols have one of the values.

        y = #{i : z_i in values}

    Label: 0..n. States: n + 1.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.count(4, 10, values=[7, 9]).label(torch.tensor([7, 9, 0, 7])).item()
    3
    """
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    step = _counting(values, cardinality, n_symbols)
    return Automaton(step, 0, itself, n_symbols, cardinality, labels=range(n_symbols + 1))


def exactly(n_symbols: int, cardinality: int, values: Iterable[int], k: int) -> Automaton:
    """Whether exactly k symbols have one of the values: y = [#{i : z_i in values} = k].

    Label: 1 or 0. States: k + 2.

    >>> import torch, emnesy_gpu as em
    >>> one_of_three = em.rules.exactly(3, 2, values=[1], k=1)
    >>> post = em.posterior(one_of_three, torch.zeros(1, 3, 2), torch.tensor([1]))
    >>> [round(q, 4) for q in post.marginals[0, :, 1].tolist()]
    [0.3333, 0.3333, 0.3333]
    """
    return _counted(n_symbols, cardinality, values, k, lambda counted: counted == k)


def at_least(n_symbols: int, cardinality: int, values: Iterable[int], k: int) -> Automaton:
    """Whether k symbols or more have one of the values: y = [#{i : z_i in values} >= k].

    Label: 1 or 0. States: k + 1.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.at_least(3, 2, values=[1], k=2).label(torch.tensor([[1, 0, 1], [0, 0, 1]])).tolist()
    [1, 0]
    """
    return _counted(n_symbols, cardinality, values, k, lambda counted: counted >= k)


def at_most(n_symbols: int, cardinality: int, values: Iterable[int], k: int) -> Automaton:
    """Whether k symbols or fewer have one of the values: y = [#{i : z_i in values} <= k].

    Label: 1 or 0. States: k + 2.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.at_most(3, 2, values=[1], k=1).label(torch.tensor([[1, 0, 1], [0, 0, 1]])).tolist()
    [0, 1]
    """
    return _counted(n_symbols, cardinality, values, k, lambda counted: counted <= k)


def weighted_sum(weights: Sequence[int], cardinality: int) -> Automaton:
    """The sum of the symbols with a weight each.

        y = w_0 z_0 + ... + w_{n-1} z_{n-1}

    The label is the sum, its own code where no sum can be negative; else ask ``encode``. States: the different partial
    sums, at most (cardinality - 1) (|w_0| + ... + |w_{n-1}|) + 1.

    Args:
        weights: one integer for each symbol, also 0 or negative.

    >>> import torch, emnesy_gpu as em
    >>> price = em.rules.weighted_sum([5, 10, 25], cardinality=4)                # coins of three kinds, 0 to 3 of each
    >>> price.label(torch.tensor([3, 0, 2])).item()
    65
    """
    factors = checks.integers("weights", weights, -(2**60), 2**60)
    checks.is_integer("the number of weights", len(factors), 1, None)
    return Automaton(
        step_at=lambda s, v, i: s + factors[i] * v,
        label=itself,
        n_symbols=len(factors),
        cardinality=cardinality,
    )


def modulo(n_digits: int, m: int, base: int = 10) -> Automaton:
    """The remainder of a number that is read digit by digit, the most significant one first.

        y = (sum_i z_i base^{n-1-i}) mod m

    Label: 0..m-1. States: m.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.modulo(4, m=97).label(torch.tensor([1, 9, 4, 3])).item(), 1943 % 97
    (3, 3)
    """
    checks.is_integer("n_digits", n_digits, 1, checks.MOST_SYMBOLS)
    checks.is_integer("base", base, 1, checks.MOST_SYMBOLS)
    checks.is_integer("m", m, 1, checks.MOST_SYMBOLS)
    return Automaton(lambda s, v: (base * s + v) % m, 0, itself, n_digits, base, labels=range(m))


def _counting(values: Iterable[int], cardinality: int, largest: int) -> Callable[[int, int], int]:
    """A step that counts symbols with one of the values, up to the largest number that matters."""
    checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
    counted = frozenset(checks.integers("values", values, 0, None))
    outside = [value for value in counted if not 0 <= value < cardinality]
    if outside:
        raise ValueError(f"values must lie in 0..{cardinality - 1}, got {outside[0]!r}")
    return lambda state, value: min(state + (value in counted), largest)


def _counted(
    n_symbols: int, cardinality: int, values: Iterable[int], k: int, holds: Callable[[int], bool]
) -> Automaton:
    checks.is_integer("k", k, 0, None)
    return Automaton(_counting(values, cardinality, k + 1), 0, holds, n_symbols, cardinality, labels=BOTH)
