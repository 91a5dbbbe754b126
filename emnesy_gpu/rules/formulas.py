"""The value of a formula of digits and operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from emnesy_gpu import checks
from emnesy_gpu.problems.automaton import Automaton


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
