"""Under uniform priors log evidence + n log K is the log of the number of assignments: automata against counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from tests.rules import assert_close


def log_count(problem: em.Automaton, code: int) -> float:
    logits = torch.zeros(1, *problem.latent_shape, problem.cardinality, dtype=torch.float64)
    n = math.prod(problem.latent_shape)
    with em.backend("reference"):
        return em.posterior(problem, logits, torch.tensor([code])).log_evidence.item() + n * math.log(
            problem.cardinality
        )


def dice(n: int, sides: int, total: int) -> int:
    coefficients = [1]
    for _ in range(n):
        coefficients = np.convolve(coefficients, [1] * sides).tolist()
    return coefficients[total]


def fibonacci(n: int) -> int:
    a, b = 1, 1
    for _ in range(n):
        a, b = b, a + b
    return a


COUNTS = {
    "parity": (em.rules.parity(20), 1, 2**19),
    "exactly": (em.rules.exactly(30, 2, [1], 7), 1, math.comb(30, 7)),
    "at most": (em.rules.at_most(10, 2, [1], 2), 1, 1 + 10 + 45),
    "brackets": (em.rules.balanced_brackets(16), 1, math.comb(16, 8) // 9),
    "two kinds of brackets": (em.rules.balanced_brackets(8, kinds=2), 1, math.comb(8, 4) // 5 * 2**4),
    "dice": (em.rules.weighted_sum([1] * 12, 6), 20, dice(12, 6, 20)),
    "permutations": (em.rules.all_different(7, 7), 1, math.factorial(7)),
    "combinations": (em.rules.sorted_order(4, 9, strict=True), 1, math.comb(9, 4)),
    "multisets": (em.rules.sorted_order(4, 9), 1, math.comb(12, 4)),
    "no two ones": (em.Automaton(lambda s, v: None if s and v else v, 0, lambda s: 0, 25, 2), 0, fibonacci(26)),
    "smaller numbers": (em.rules.compare(5), 0, 10**5 * (10**5 - 1) // 2),
    "multiples of 97": (em.rules.modulo(6, 97), 0, (10**6 - 1) // 97 + 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_uniform_priors_count_assignments(name: str) -> None:
    problem, code, expected = COUNTS[name]
    assert log_count(problem, code) == pytest.approx(math.log(expected), abs=1e-9)


def days(month: int, year: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31


def dates() -> em.Automaton:
    """DDMMYYYY, written naively: the state is the day, the month, and the year modulo 400."""

    def step(state: tuple[int, int, int], digit: int, i: int) -> tuple[int, int, int] | None:
        day, month, year = state
        if i < 2:
            day = 10 * day + digit
            return None if day > 31 or (i == 1 and day == 0) else (day, month, year)
        if i < 4:
            month = 10 * month + digit
            return None if month > 12 or (i == 3 and month == 0) else (day, month, year)
        return day, month, (10 * year + digit) % 400

    def label(state: tuple[int, int, int]) -> bool | None:
        return state[0] <= days(*state[1:]) or None

    return em.Automaton(step_at=step, start=(0, 0, 0), label=label, n_symbols=8, cardinality=10, max_states=1 << 18)


def test_dates_written_naively_have_six_states_and_the_right_number() -> None:
    rule = dates()
    assert rule.n_states == 6
    assert log_count(rule, 1) == pytest.approx(math.log(25 * 146_097), abs=1e-9)
    valid, invalid = [2, 9, 0, 2, 2, 0, 2, 4], [2, 9, 0, 2, 2, 0, 2, 3]
    assert rule.label(torch.tensor([valid, invalid])).tolist() == [1, -1]


def test_expected_number_of_ones_is_k() -> None:
    post = em.posterior(em.rules.exactly(9, 2, [1], 4), torch.randn(3, 9, 2), torch.ones(3, dtype=torch.int64))
    assert_close(post.marginals[..., 1].sum(1), torch.full((3,), 4.0))
