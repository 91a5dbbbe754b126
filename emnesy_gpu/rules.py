"""Common rules, each in one line: functions that return an ``em.Automaton``.

Every rule has symbols z_0 .. z_{n-1} with values 0..cardinality-1, and a label that is a function of them. All
inference on them is exact. "States" below says how many states the automaton has at most, "n" is n_symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from emnesy_gpu import checks
from emnesy_gpu.automata.regex import checked_alphabet
from emnesy_gpu.problems.automaton import Automaton

MAX_DIFFERENT = 12
"""The largest cardinality of ``all_different``, which has 2^12 states then, one for each set of values."""

BOTH = (False, True)


def parity(n_symbols: int, cardinality: int = 2) -> Automaton:
    """The sum of the symbols modulo 2.

        y = (z_0 + ... + z_{n-1}) mod 2

    Label: 0 or 1. States: 2.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.parity(4).label(torch.tensor([1, 0, 1, 1])).item()
    1
    """
    return Automaton(lambda s, v: (s + v) % 2, 0, _itself, n_symbols, cardinality, labels=(0, 1))


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
    return Automaton(step, 0, _itself, n_symbols, cardinality, labels=range(n_symbols + 1))


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
        label=_itself,
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
    return Automaton(lambda s, v: (base * s + v) % m, 0, _itself, n_digits, base, labels=range(m))


def maximum(n_symbols: int, cardinality: int) -> Automaton:
    """The largest of the symbols: y = max_i z_i. Label: 0..cardinality-1. States: cardinality.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.maximum(3, 10).label(torch.tensor([2, 7, 1])).item()
    7
    """
    return Automaton(max, 0, _itself, n_symbols, cardinality)


def minimum(n_symbols: int, cardinality: int) -> Automaton:
    """The smallest of the symbols: y = min_i z_i. Label: 0..cardinality-1. States: cardinality.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.minimum(3, 10).label(torch.tensor([2, 7, 1])).item()
    1
    """
    checks.is_integer("cardinality", cardinality, 1, None)
    return Automaton(min, cardinality - 1, _itself, n_symbols, cardinality)


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


def regex(pattern: str, alphabet: str, n_symbols: int, variable_length: bool = False) -> Automaton:
    """Whether a string matches a regular expression as a whole: see ``em.Automaton.from_regex``.

    Label: 1 or 0. States: those of the minimal automaton of the pattern.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.regex("(ab)+", "ab", n_symbols=4).label(torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1]])).tolist()
    [1, 0]
    """
    return Automaton.from_regex(pattern, alphabet, n_symbols, variable_length=variable_length)


def lexicon(words: Iterable[str], alphabet: str, n_symbols: int | None = None) -> Automaton:
    """Whether a string is one of the words.

    Value v of a symbol is the character alphabet[v]. Words of different length make a rule of variable length: it has
    one more value ``pad``, and ``padded`` makes its logits, see ``em.Automaton``. Label: 1 or 0. States: at most the
    different beginnings of words; equal endings are merged.

    Args:
        words: at least one, of characters of the alphabet.
        n_symbols: the length of the string, or the largest one; by default that of the longest word.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.rules.lexicon(["cat", "car", "bat"], alphabet="abcrt")
    >>> post = em.posterior(rule, torch.zeros(1, 3, 5), torch.tensor([1]))
    >>> [round(q, 3) for q in post.marginals[0, 0].tolist()]
    [0.0, 0.333, 0.667, 0.0, 0.0]
    """
    characters = set(checked_alphabet(alphabet))
    given = checks.items("words", words, "strings")
    for word in given:
        checks.is_text("a word of words", word, "a string")
    known = set(given)
    for word in known:
        if not set(word) <= characters:
            raise ValueError(f"words must have characters of the alphabet {alphabet!r} alone, got {word!r}")
    if not any(known):
        raise ValueError("words must have at least one word that is not empty")
    longest = max(map(len, known))
    n = longest if n_symbols is None else n_symbols
    checks.is_integer("n_symbols", n, 1, checks.MOST_SYMBOLS)
    if n < longest:
        raise ValueError(f"n_symbols must be at least {longest}, the length of the longest word, got {n}")
    beginnings = {word[:length] for word in known for length in range(len(word) + 1)}

    def step(read: str, value: int) -> str:
        longer = read + alphabet[value]
        return longer if longer in beginnings else NO_WORD

    return Automaton(
        *(step, "", lambda read: read in known, n, len(alphabet)),
        labels=BOTH,
        variable_length=any(len(word) != n for word in known),
    )


NO_WORD = "\0"
"""The state of ``lexicon`` after a string that begins no word."""


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


def balanced_brackets(n_symbols: int, kinds: int = 1, max_depth: int | None = None) -> Automaton:
    """Whether brackets of one or more kinds are balanced.

    Value 2 k opens a bracket of kind k, and value 2 k + 1 closes it. Label: 1 or 0. States: the stacks of open
    brackets, kinds^0 + kinds^1 + ... + kinds^depth.

    Args:
        kinds: how many kinds of brackets there are.
        max_depth: a string that opens more brackets within each other has label 0; n // 2 by default, which allows
            everything.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.balanced_brackets(4, kinds=2).label(torch.tensor([[0, 2, 3, 1], [0, 2, 1, 3]])).tolist()  # ([]) ([)]
    [1, 0]
    """
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    checks.is_integer("kinds", kinds, 1, checks.MOST_SYMBOLS // 2)
    deepest = n_symbols // 2 if max_depth is None else max_depth
    checks.is_integer("max_depth", deepest, 0, None)

    def step(stack: tuple[int, ...] | bool, value: int) -> tuple[int, ...] | bool:
        kind, closes = divmod(value, 2)
        if stack is False or (closes and stack[-1:] != (kind,)):  # type: ignore[index]
            return False
        changed = stack[:-1] if closes else (*stack, kind)  # type: ignore[index, misc]
        return changed if len(changed) <= deepest else False

    return Automaton(step, (), lambda stack: stack == (), n_symbols, 2 * kinds, labels=BOTH)


def formula(
    n_symbols: int,
    digits: Sequence[int] = tuple(range(1, 10)),
    operators: str = "+-*/",
    one_alphabet: bool = False,
    variable_length: bool = False,
) -> Automaton:
    """The value of a formula of digits and operators, with * and / before + and -.

        y = z_0 z_1 z_2 ... z_{n-1}, as in 3 + 4 * 2 = 11

    Symbols at even positions 0, 2, ... are digits, value v is digits[v]; those at odd positions are operators, value v
    is operators[v]. The cardinality is the larger of the two numbers: logits of values that do not exist are ignored,
    as their posterior is 0; give them -inf. Label: the value, an exact fraction, see ``encode`` and ``labels``. A
    division by 0 is forbidden. States: the different pairs of a sum and a product so far, 897 for 5 symbols with
    the default digits, one a label; with 7 symbols 8,314, and a table of 0.5 GiB. As in handwritten formula recognition
    (Li et al., "Closed loop neural-symbolic learning", 2020).

    Args:
        n_symbols: an odd number.
        digits: the numbers that the values of digits stand for.
        operators: of "+-*/", each once at most.
        one_alphabet: every symbol has a value for each digit, and behind them one for each operator: value
            len(digits) + v is operators[v]. The rule forbids operators at even positions and digits at odd ones. This
            suits a net that reads every symbol by itself, and knows nothing of its position.
        variable_length: formulas of 1, 3, ..., n_symbols symbols: one more value ``pad`` stands for no symbol, see
            ``em.Automaton``.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.rules.formula(3)
    >>> rule.labels[rule.label(torch.tensor([0, 3, 1]))]                                       # 1 / 2
    Fraction(1, 2)
    >>> rule.labels[rule.encode([8])]
    Fraction(8, 1)
    >>> rule = em.rules.formula(3, one_alphabet=True)
    >>> rule.cardinality, rule.labels[rule.label(torch.tensor([0, 12, 1]))]
    (13, Fraction(1, 2))
    """
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    if n_symbols % 2 == 0:
        raise ValueError(f"n_symbols must be odd, a digit before and after every operator, got {n_symbols}")
    checks.is_text("operators", operators, 'different characters of "+-*/"')
    checks.is_flag("one_alphabet", one_alphabet)
    checks.is_flag("variable_length", variable_length)
    values = [_fraction(digit) for digit in checks.items("digits", digits, "numbers")]
    if not values:
        raise ValueError("digits must have at least one number, got none")
    if not operators or not set(operators) <= set("+-*/") or len(set(operators)) < len(operators):
        raise ValueError(f'operators must be different characters of "+-*/", got {operators!r}')
    sizes = [len(values) if i % 2 == 0 else len(operators) for i in range(n_symbols)]
    step = _formula_step(values, operators)
    if one_alphabet:
        step, sizes = _in_one_alphabet(step, len(values)), [len(values) + len(operators)] * n_symbols
    return Automaton(
        step_at=step,
        start=(Fraction(0), None, None),
        label=lambda state: state[0] + state[1] if _ends_in_a_digit(state) else None,
        cardinalities=sizes,
        variable_length=variable_length,
    )


FormulaStep = Callable[[tuple[Any, ...], int, int], "tuple[Any, ...] | None"]


def _ends_in_a_digit(state: tuple[Any, ...]) -> bool:
    return state[1] is not None and state[2] is None


def _formula_step(numbers: Sequence[Fraction], operators: str) -> FormulaStep:
    """States: the sum of all finished products, the product so far, and the operator behind it.

    Positions suffice to tell digits from operators, but not where symbols may be left out.
    """

    def step(state: tuple[Any, ...], value: int, position: int) -> tuple[Any, ...] | None:
        if _ends_in_a_digit(state) != bool(position % 2):
            return None
        total, product, operator = state
        if position % 2:
            operator = operators[value]
            return (total, product, operator) if operator in "*/" else (total + product, None, operator)
        number = numbers[value]
        if operator == "/":
            return None if number == 0 else (total, product / number, None)
        signed = product * number if operator == "*" else -number if operator == "-" else number
        return (total, signed, None)

    return step


def _fraction(digit: Any) -> Fraction:
    try:
        return Fraction(digit)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"digits must be finite numbers, got {digit!r}") from error


def _in_one_alphabet(step: FormulaStep, n_digits: int) -> FormulaStep:
    """The same step with the values of operators behind those of digits, each forbidden at the places of the other."""

    def shifted(state: tuple[Any, ...], value: int, position: int) -> tuple[Any, ...] | None:
        is_operator = value >= n_digits
        if is_operator != bool(position % 2):
            return None
        return step(state, value - n_digits if is_operator else value, position)

    return shifted


def _itself(state: Any) -> Any:
    return state


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
