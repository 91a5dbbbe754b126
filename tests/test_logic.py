"""Formulas: what they mean, by enumeration, and circuits that mean the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise, product
from math import comb, factorial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import emnesy_gpu as em
from emnesy_gpu import logic
from emnesy_gpu.circuits import checks
from emnesy_gpu.circuits.cnf import CompilerSettings
from emnesy_gpu.errors import TooManyStatesError
from emnesy_gpu.logic.compile import MAX_STATES
from tests.circuit_oracles import assert_theory, assignments

needs_compiler = pytest.mark.skipif(find_spec("pysdd") is None, reason="needs pysdd")
SDD = CompilerSettings("sdd")
NO_STATES = 0
"""A limit that no automaton keeps, so that formulas become clauses."""


def truth(formula: logic.Formula, meaning: Callable[[tuple[int, ...]], bool]) -> np.ndarray:
    """The meaning of a formula for all assignments; what holds says is compared with it."""
    z = assignments(len(formula.symbols), formula.cardinality)
    expected = np.array([bool(meaning(tuple(row))) for row in z.tolist()])
    found = formula.holds(z.reshape(-1, *formula.latent_shape))
    np.testing.assert_array_equal(found, expected)
    return expected


a, b, c = logic.symbols("a b c")
x = logic.symbols(3, cardinality=3)
w = logic.symbols((2, 2), cardinality=3)


def starts_and_ends_alike(word: tuple[int, ...]) -> bool:
    return word[0] == word[-1]


CASES: dict[str, tuple[logic.Formula, Callable[[tuple[int, ...]], bool]]] = {
    "and": (a & b, lambda z: z[0] == z[1] == 1),
    "or": (a | ~b, lambda z: z[0] == 1 or z[1] == 0),
    "xor": (logic.xor(a, b, c), lambda z: sum(z) % 2 == 1),
    "xor operator": (a ^ (b | c), lambda z: (z[0] + (z[1] or z[2])) % 2 == 1),
    "implies": (logic.implies(a & b, c), lambda z: not (z[0] and z[1]) or z[2] == 1),
    "iff": (logic.iff(a, b & c), lambda z: z[0] == (z[1] and z[2])),
    "not": (~(a & b & c), lambda z: z != (1, 1, 1)),
    "constants": ((a & True) | False, lambda z: z[0] == 1),
    "nothing": (a & ~a, lambda z: False),
    "anything": (a | ~a, lambda z: True),
    "exactly": (logic.exactly(2, x == 1), lambda z: z.count(1) == 2),
    "exactly of formulas": (logic.exactly(1, [a & b, b | c, a]), lambda z: (z[0] & z[1]) + (z[1] | z[2]) + z[0] == 1),
    "at least": (logic.at_least(2, x != 0), lambda z: z.count(0) <= 1),
    "at most": (logic.at_most(1, x >= 1), lambda z: z.count(0) >= 2),
    "too many": (logic.exactly(4, x == 1) | (x[0] == 0), lambda z: z[0] == 0),
    "different": (logic.all_different(x), lambda z: len(set(z)) == 3),
    "diagonals": (logic.all_different([x[i] - i for i in range(3)]), lambda z: len({z[i] - i for i in range(3)}) == 3),
    "not different": (~logic.all_different(x[:2]), lambda z: z[0] == z[1]),
    "too few values": (logic.all_different([*x[:2], x[0]]) | (x[2] == 1), lambda z: z[2] == 1),
    "sum": (x.sum() == 4, lambda z: sum(z) == 4),
    "differences": (x[0] - 2 * x[1] < x[2] - 1, lambda z: z[0] - 2 * z[1] < z[2] - 1),
    "linear": (logic.linear([1, -2, 3], x) >= 2, lambda z: z[0] - 2 * z[1] + 3 * z[2] >= 2),
    "unequal": (x[0] != x[2], lambda z: z[0] != z[2]),
    "above": (x[0] > x[1], lambda z: z[0] > z[1]),
    "number on the left": (3 - x[0] <= x[1] + 1, lambda z: 3 - z[0] <= z[1] + 1),
    "one of": (x[1].is_in([0, 2]), lambda z: z[1] != 1),
    "table": (logic.table([x[2], x[0]], [(0, 1), (2, 2), (0, 1)]), lambda z: (z[2], z[0]) in {(0, 1), (2, 2)}),
    "table with one symbol twice": (logic.table([x[0], x[0]], [(0, 1), (2, 2)]), lambda z: z[0] == 2),
    "empty table": (logic.table(x[:2], []) | (x[0] == 1), lambda z: z[0] == 1),
    "regex": (logic.regular(x, "a(b|c)*", alphabet="abc"), lambda z: re.fullmatch("a[bc]*", word(z)) is not None),
    "rule": (
        logic.regular(x, (lambda s, v: v if s is None else (s, v)[0] if v >= s else None, None, lambda s: s < 2)),
        lambda z: z[1] >= z[0] and z[2] >= z[0] and z[0] < 2,
    ),
    "automaton": (logic.regular(x, em.rules.exactly(3, 3, values=[2], k=1)), lambda z: z.count(2) == 1),
    "rows and columns": (
        logic.all_of([w[r, 0] < w[r, 1] for r in range(2)], logic.all_different(w[:, 0])),
        lambda z: z[0] < z[1] and z[2] < z[3] and z[0] != z[2],
    ),
    "two kinds of symbols": ((x[0] == 2) & a, lambda z: z[0] == 1 and z[3] == 2),
}


def word(z: tuple[int, ...]) -> str:
    return "".join("abc"[value] for value in z)


def allowed_values(formula: logic.Formula) -> np.ndarray:
    """Which assignments give every symbol one of its own values."""
    sizes = np.array([symbol.cardinality for symbol in formula.symbols])
    return (assignments(len(sizes), formula.cardinality) < sizes).all(1)


@pytest.mark.parametrize("name", CASES)
def test_automata_mean_what_formulas_mean(name: str) -> None:
    formula, meaning = CASES[name]
    assert_theory(formula.graph(), truth(formula, meaning), allowed_values(formula))


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_clauses_mean_what_formulas_mean(name: str) -> None:
    formula, meaning = CASES[name]
    told = logic.to_graph(formula, max_states=NO_STATES, clauses=SDD)
    assert told.method.startswith("clauses ")
    assert_theory(told.graph, truth(formula, meaning), allowed_values(formula))


@pytest.mark.parametrize("name", ["and", "exactly", "sum", "regex"])
def test_step_at_ends_in_the_truth(name: str) -> None:
    formula, meaning = CASES[name]
    for z in product(range(formula.cardinality), repeat=len(formula.symbols)):
        state = formula.start
        for position, value in enumerate(z):
            state = formula.step_at(state, value, position)
        assert state is bool(meaning(z))


y = logic.symbols(4, cardinality=3)

indices, values = st.integers(0, 3), st.integers(0, 2)

atoms = st.one_of(
    st.builds(lambda i, v: y[i] == v, indices, values),
    st.builds(lambda i, j: y[i] <= y[j], st.integers(0, 3), st.integers(0, 3)),
    st.builds(lambda i, j: y[i] != y[j], st.integers(0, 3), st.integers(0, 3)),
    st.builds(lambda w, k: logic.linear(w, y) <= k, st.tuples(*[st.integers(-2, 2)] * 4), st.integers(-3, 5)),
    st.builds(lambda mask: logic.all_different([y[i] for i in range(4) if mask >> i & 1]), st.integers(1, 15)),
    st.builds(lambda rows: logic.table([y[3], y[1]], rows), st.lists(st.tuples(values, values), max_size=4)),
)
formulas = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda p, q: p & q, inner, inner),
        st.builds(lambda p, q: p | q, inner, inner),
        st.builds(lambda p, q: p ^ q, inner, inner),
        st.builds(lambda p: ~p, inner),
        st.builds(logic.implies, inner, inner),
        st.builds(logic.iff, inner, inner),
        st.builds(logic.exactly, indices, st.lists(inner, max_size=4)),
        st.builds(logic.at_least, indices, st.lists(inner, max_size=4)),
        st.builds(logic.at_most, indices, st.lists(inner, max_size=4)),
    ),
    max_leaves=8,
).filter(lambda formula: bool(formula.symbols))


@given(formulas, st.permutations(range(4)))
@settings(max_examples=120, deadline=None)
def test_random_formulas_are_what_they_say_in_any_order(formula: logic.Formula, order: list[int]) -> None:
    holds = formula.holds(assignments(4, 3))
    assert_theory(formula.graph(), holds)
    assert_theory(formula.graph(order=order), holds)


@needs_compiler
@given(formulas)
@settings(max_examples=15, deadline=None)
def test_random_formulas_are_what_they_say_as_clauses(formula: logic.Formula) -> None:
    told = logic.to_graph(formula, max_states=NO_STATES, clauses=SDD)
    assert_theory(told.graph, formula.holds(assignments(4, 3)))


def queens(n: int) -> logic.Formula:
    q = logic.symbols(n, cardinality=n)
    diagonals = (logic.all_different([q[i] + sign * i for i in range(n)]) for sign in (1, -1))
    return logic.all_of(logic.all_different(q), diagonals)


def board() -> logic.Formula:
    z = logic.symbols((4, 4), cardinality=4)
    lines = [z[i] for i in range(4)] + [z[:, i] for i in range(4)]
    boxes = [z[r : r + 2, s : s + 2] for r in (0, 2) for s in (0, 2)]
    return logic.all_of(logic.all_different(part) for part in lines + boxes)


COUNTS = {
    "exactly 5 of 20": (logic.exactly(5, logic.symbols(20)), comb(20, 5)),
    "permutation of 6": (logic.all_different(logic.symbols(6, cardinality=6)), factorial(6)),
    "parity of 30": (logic.xor(logic.symbols(30)), 2**29),
    "queens 4": (queens(4), 2),
    "queens 6": (queens(6), 4),
    "queens 8": (queens(8), 92),
    "sudoku": (board(), 288),
}


@pytest.mark.parametrize("name", COUNTS)
def test_formulas_have_their_known_counts(name: str) -> None:
    formula, count = COUNTS[name]
    graph = formula.graph()
    checks.check(graph)
    n_assignments = formula.cardinality ** len(formula.symbols)
    assert (checks.model_count(graph, 1), checks.model_count(graph, 0)) == (count, n_assignments - count)


def test_a_bad_order_is_replaced_by_a_better_one() -> None:
    """Pairs of equal symbols that are far from each other."""
    z = logic.symbols(16)
    told = logic.to_graph(logic.all_of(logic.iff(z[i], z[i + 8]) for i in range(8)))
    assert told.method != "automaton as given"
    assert told.graph.n_edges < 100
    assert max(int(re.sub(r"\D", "", size)) for size in told.tried.values()) > 500


def test_regular_constraints_keep_their_order() -> None:
    z = logic.symbols(4)
    formula = logic.regular(z, "a*b*", alphabet="ab") & logic.regular(z[::-1], "b*a*", alphabet="ab")
    with pytest.raises(ValueError, match="an automaton must read its symbols in their order"):
        logic.to_graph(formula, clauses=False)


def test_too_many_states_are_named() -> None:
    with pytest.raises(TooManyStatesError, match=r"after position \d+, more than max_states=5"):
        logic.to_graph(board(), max_states=5, clauses=False)


def test_circuits_of_formulas_are_problems() -> None:
    z = logic.symbols(4, cardinality=4)
    problem = em.Circuit(logic.all_different(z) & (z[0] + z[1] == 3))
    right = torch.tensor([[0, 3, 1, 2], [0, 1, 2, 3]])
    assert problem.label(right).tolist() == [1, 0]
    post = em.posterior(problem, torch.zeros(2, 4, 4), torch.tensor([1, 0]))
    torch.testing.assert_close(post.log_evidence, torch.log(torch.tensor([8 / 256, 248 / 256])))


def test_values_may_have_names() -> None:
    light, walk = logic.symbols("light walk", values=("red", "green"))
    formula = logic.implies(light == "green", walk == "red")
    assert formula.holds(torch.tensor([[0, 1], [1, 1]])).tolist() == [True, False]
    assert repr(formula) == "~(light == 'green') | (walk == 'red')"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: bool(a), TypeError, "write &, | and ~ in place of and, or and not"),
        (lambda: 0 <= x[0] <= 1, TypeError, "no chains such as a < b < c"),
        (lambda: x[0] & a, TypeError, r"symbol z\[0\] has 3 values: compare it, such as z\[0\] == 1"),
        (lambda: a & 3, TypeError, "an operand of & must be a formula, a symbol or a bool, got 3"),
        (lambda: x[0] == 3, ValueError, r"symbol z\[0\] has the values 0..2, got 3"),
        (lambda: x[0] + 1.5, TypeError, "a term of a sum must be an integer or a symbol, got 1.5"),
        (lambda: ~(x[0] + 1), TypeError, "is a number, not a formula: compare it"),
        (lambda: logic.table(x, [(0, 1)]), ValueError, r"rows of the table must have 3 values, got \(0, 1\)"),
        (lambda: logic.all_different([x[0] + x[1]]), ValueError, "a term of terms must be a symbol, times"),
        (lambda: logic.regular(x, "a*"), TypeError, "needs an alphabet"),
        (lambda: logic.regular(x, "a*", alphabet="ab"), ValueError, "alphabet must have 3 characters"),
        (lambda: logic.regular([x[0], x[0]], "a*", alphabet="abc"), ValueError, "reads each symbol once"),
        (lambda: logic.regular(x, em.rules.parity(2, 3)), ValueError, "the automaton must read 3 symbols"),
        (
            lambda: logic.regular(x, 5),
            TypeError,
            "rule must be a pattern, an em.Automaton or",
        ),
        (lambda: logic.linear([1], x), ValueError, "weights must have one integer for each of 3 symbols, got 1"),
        (lambda: logic.exactly(-1, x == 1), ValueError, "k must be an integer >= 0"),
        (lambda: logic.symbols("a", 2, values=(1, 2)), TypeError, "cardinality or values, not both"),
        (lambda: logic.symbols("a", values=(1, 1)), ValueError, "values must be different"),
        (lambda: logic.symbols(""), ValueError, "at least one name"),
        (lambda: logic.symbols(0), ValueError, "names must be an integer in 1"),
        (lambda: logic.to_graph(logic.all_of()), ValueError, "mentions no symbol"),
        (lambda: logic.to_graph(a & b, order=[0, 0]), ValueError, "order must name every symbol 0..2 once"),
        (lambda: (a & b).holds(np.zeros((2, 2), int)), ValueError, r"z must be integers of shape \[..., 3\]"),
    ],
)
def test_wrong_formulas_are_named(wrong: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrong()


def test_the_limit_of_states_bounds_the_time() -> None:
    """A product that is too large is given up soon: a Sudoku board of size 9 has no small automaton in any order."""
    assert MAX_STATES <= 1 << 15
    z = logic.symbols((9, 9), cardinality=9)
    formula = logic.all_of(logic.all_different(part) for part in [*z, *(z[:, i] for i in range(9))])
    with pytest.raises(TooManyStatesError):
        logic.to_graph(formula, clauses=False)


def test_neighbours_in_the_order_are_neighbours_in_the_formula() -> None:
    """A chain whose links are shuffled is found again."""
    n = 12
    names = np.random.default_rng(0).permutation(n).tolist()
    z = logic.symbols(n, cardinality=3)
    told = logic.to_graph(logic.all_of(z[i] != z[j] for i, j in pairwise(names)))
    assert told.graph.n_edges < 200
