"""Rules that compare symbols with each other."""

from __future__ import annotations

from emnesy_gpu import checks
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.rules.labels import BOTH, itself

MAX_DIFFERENT = 12
"""The largest cardinality of ``all_different``, which has 2^12 states then, one for each set of values."""


def maximum(n_symbols: int, cardinality: int) -> Automaton:
    """The largest of the symbols: y = max_i z_i. Label: 0..cardinality-1. States: cardinality.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.maximum(3, 10).label(torch.tensor([2, 7, 1])).item()
    7
    """
    return Automaton(max, 0, itself, n_symbols, cardinality)


def minimum(n_symbols: int, cardinality: int) -> Automaton:
    """The smallest of the symbols: y = min_i z_i. Label: 0..cardinality-1. States: cardinality.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.minimum(3, 10).label(torch.tensor([2, 7, 1])).item()
    1
    """
    checks.is_integer("cardinality", cardinality, 1, None)
    return Automaton(min, cardinality - 1, itself, n_symbols, cardinality)


def sorted_order(n_symbols: int, cardinality: int, strict: bool = False) -> Automaton:
    """Whether the symbols ascend: y = [z_0 <= z_1 <= ... <= z_{n-1}], with strict [z_0 < z_1 < ...].

    Label: 1 or 0. States: cardinality + 1.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.sorted_order(3, 10).label(torch.tensor([[2, 2, 7], [2, 7, 3]])).tolist()
    [1, 0]
    """
    checks.is_flag("strict", strict)
    if strict:

        def step(last: int, value: int) -> int:
            return value if last < value else cardinality

    else:

        def step(last: int, value: int) -> int:
            return value if last <= value else cardinality

    return Automaton(step, -1, lambda last: last < cardinality, n_symbols, cardinality, labels=BOTH)


def all_different(n_symbols: int, cardinality: int) -> Automaton:
    """Whether no value appears twice: y = [z_i != z_j for all i < j].

    Label: 1 or 0. States: 2^cardinality, for cardinality up to 12. For more, or for many groups: ``em.AllDifferent``.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.all_different(3, 4).label(torch.tensor([[0, 3, 1], [0, 3, 0]])).tolist()
    [1, 0]
    """
    checks.is_integer("cardinality", cardinality, 1, MAX_DIFFERENT)

    def step(seen: int, value: int) -> int:
        return REPEATED if seen == REPEATED or seen >> value & 1 else seen | 1 << value

    return Automaton(step, 0, lambda seen: seen != REPEATED, n_symbols, cardinality, labels=BOTH)


REPEATED = -1
"""The state of ``all_different`` once a value has appeared twice."""


def compare(n_digits: int, base: int = 10) -> Automaton:
    """Which of two numbers is larger.

        y = "<", "=" or ">", as the first number stands to the second

    Symbols: [2, n_digits], the most significant digit first. Codes of the labels: 0 for "<", 1 for "=", 2 for ">".
    States: base + 3.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.rules.compare(2)
    >>> rule.labels[rule.label(torch.tensor([[4, 2], [3, 9]]))]
    '>'
    """
    checks.is_integer("n_digits", n_digits, 1, checks.MOST_SYMBOLS)
    checks.is_integer("base", base, 1, checks.MOST_SYMBOLS)

    def step(state: tuple[str, int | None], digit: int) -> tuple[str, int | None]:
        order, first = state
        if first is None and order == "=":
            return "=", digit
        if order == "=":
            return ("<" if first < digit else ">" if first > digit else "="), None  # type: ignore[operator]
        return state

    places = [row * n_digits + digit for digit in range(n_digits) for row in range(2)]
    return Automaton(
        *(step, ("=", None), lambda state: state[0]),
        cardinality=base,
        latent_shape=(2, n_digits),
        order=places,
        labels="<=>",
    )
