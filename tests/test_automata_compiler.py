"""The compiler of automata: minimal tables with the same labels for all words, and errors that name what is wrong."""

from __future__ import annotations

import itertools
import pickle
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import emnesy_gpu as em
from emnesy_gpu.automata.explore import explore, unroll
from emnesy_gpu.automata.machine import DEAD
from emnesy_gpu.automata.minimise import Table, minimise_layers, minimise_shared, number_rows
from tests.rules import assert_close
from tests.test_automaton_counts import dates

SLOWEST_COMPILATION = 10.0
"""Seconds of CPU for 1.9 million steps: 1 on an idle core; the limit leaves room for a machine that is busy."""


def words(n_values: int, length: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product(range(n_values), repeat=length)


def kind_after(tables: list[Table], kinds: list[Table], word: tuple[int, ...]) -> int:
    """The kind of the state that a word leads to, DEAD where a state on the way is forbidden."""
    state = 0
    if not len(tables[0]) or kinds[0][0] < 0:
        return DEAD
    for i, value in enumerate(word):
        state = int(tables[i][state, value])
        if state < 0 or kinds[i + 1][state] < 0:
            return DEAD
    return int(kinds[len(word)][state])


@st.composite
def layered(draw: st.DrawFn) -> tuple[list[Table], list[Table]]:
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 6), min_size=n + 1, max_size=n + 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    tables = [rng.integers(-1, after, (before, k)) for before, after in itertools.pairwise(sizes)]
    return tables, [rng.integers(-1 if draw(st.booleans()) else 0, 2, size) for size in sizes]


def kinds_of_merged(kinds: list[Table], state_of: list[Table]) -> list[Table]:
    result = []
    for kind, merged in zip(kinds, state_of, strict=True):
        of_merged = np.full(merged.max(initial=DEAD) + 1, DEAD)
        of_merged[merged[merged >= 0]] = kind[merged >= 0]
        result.append(of_merged)
    return result


@given(layered())
@settings(max_examples=150, deadline=None)
def test_minimal_layers_have_the_same_words(case: tuple[list[Table], list[Table]]) -> None:
    tables, kinds = case
    small, state_of = minimise_layers(tables, kinds)
    small_kinds = kinds_of_merged(kinds, state_of)
    for word in words(tables[0].shape[1], len(tables)):
        assert kind_after(small, small_kinds, word) == kind_after(tables, kinds, word)
    for table, kind in zip(small, small_kinds[:-1], strict=True):
        rows = np.column_stack([kind, table])
        assert len(np.unique(rows, axis=0)) == len(rows), "two equal states are left"
        assert (table >= 0).any(1).all(), "a state without a way on is left"


@st.composite
def shared(draw: st.DrawFn) -> tuple[Table, Table]:
    n_states, k = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    return rng.integers(-1, n_states, (n_states, k)), rng.integers(-1, 2, n_states)


def language(table: Table, kinds: Table, state: int, length: int) -> list[int]:
    """The kinds after all words up to a length, from a state."""
    found = [int(kinds[state])] if state >= 0 else [DEAD]
    if length:
        for value in range(table.shape[1]):
            after = int(table[state, value]) if state >= 0 else DEAD
            found += language(table, kinds, after, length - 1)
    return found


@given(shared())
@settings(max_examples=100, deadline=None)
def test_a_minimal_table_has_the_same_words(case: tuple[Table, Table]) -> None:
    table, kinds = case
    merged = minimise_shared(table, kinds)
    (small_kinds,) = kinds_of_merged([kinds], [merged.state_of])
    assert language(merged.successor, small_kinds, 0, 5) == language(table, kinds, 0, 5)
    signatures = {tuple(language(merged.successor, small_kinds, s, 6)) for s in range(len(merged.successor))}
    assert len(signatures) == len(merged.successor), "two equal states are left"


def test_a_long_chain_that_only_its_end_tells_apart_is_minimal() -> None:
    """Each round of refinement tells one more state apart: rounds that looked at all states would take minutes."""
    n = 5000
    table = np.repeat(np.arange(1, n + 1)[:, None], 2, axis=1)
    table[-1] = DEAD
    kinds = np.full(n, DEAD)
    kinds[-1] = 0
    merged = minimise_shared(table, kinds)
    assert (merged.successor == table).all()
    assert (merged.state_of == np.arange(n)).all()


def test_rows_whose_hashes_agree_are_compared(monkeypatch) -> None:
    monkeypatch.setattr("emnesy_gpu.automata.minimise.MULTIPLIER", np.uint64(0))
    assert number_rows(np.array([[1, 2], [3, 4], [1, 2]]) << 40).tolist() == [0, 1, 0]
    large = np.array([[2**63 - 1], [-(2**63)], [-2], [2**63 - 1], [-(2**63)]])
    for rows in (large, large[:2], np.array([[-2, 5], [5, -2], [-1, 5], [-2, 5]]), np.zeros((0, 3), np.int64)):
        numbers = number_rows(rows)
        assert (np.equal.outer(numbers, numbers) == (rows[:, None] == rows).all(2)).all()
        assert set(numbers.tolist()) == set(range(len(set(map(tuple, rows.tolist())))))


@given(shared(), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_one_table_and_a_table_a_position_have_equal_posteriors(case: tuple[Table, Table], n: int, seed: int) -> None:
    table, kinds = case
    labels = [None if kind < 0 else int(kind) for kind in kinds]
    if kind_set(table, kinds, n) == {DEAD}:
        with pytest.raises(ValueError, match="forbids every assignment"):
            em.Automaton.from_tables(table, n, labels=labels)
        return
    one = em.Automaton.from_tables(table, n, labels=labels)
    many = em.Automaton.from_tables([table.copy() for _ in range(n)], n, labels=labels)
    weighted = em.Automaton.from_tables(np.eye(len(table) + 1)[table][:, :, :-1], n, labels=labels)
    logits = torch.randn(3, n, table.shape[1], generator=torch.Generator().manual_seed(seed))
    label = torch.tensor([one.encode([name for name in one.labels if name is not None])[-1], -1, -1])
    posts = [em.posterior(problem, logits, label) for problem in (one, many, weighted)]
    for post in posts[1:]:
        assert_close(post.marginals, posts[0].marginals)
        assert_close(post.log_evidence, posts[0].log_evidence)


def kind_set(table: Table, kinds: Table, n: int) -> set[int]:
    reached = {0}
    for _ in range(n):
        reached = {int(t) for s in reached for t in table[s] if t >= 0}
    return {int(kinds[s]) for s in reached} | {DEAD}


def test_a_table_for_all_positions_and_one_for_each_agree(monkeypatch) -> None:
    rule = {"step": lambda s, v: min(s + v, 5), "label": lambda s: s, "n_symbols": 6, "cardinality": 3}
    layers = em.Automaton(**rule)
    monkeypatch.setattr("emnesy_gpu.automata.compile.UNROLLED_ENTRIES", 0)
    table = em.Automaton(**rule)
    assert (len(table.machine.layers), len(layers.machine.layers)) == (1, 4)
    logits, label = torch.randn(6, 6, 3), torch.arange(6)
    for engine in (em.Exact(), em.MAP()):
        posts = [em.posterior(problem, logits, label, engine) for problem in (table, layers)]
        assert_close(posts[0].marginals, posts[1].marginals)
        assert_close(posts[0].log_evidence, posts[1].log_evidence)
    z = [em.sample_posterior(problem, logits, label, 4, seed=0) for problem in (table, layers)]
    assert torch.equal(*z)


def test_tables_can_be_lists() -> None:
    logits, label = torch.randn(2, 2, 3), torch.tensor([1, 0])
    integers = [[0, 1, 1], [1, -1, 0]]
    weights = np.eye(3)[integers][:, :, :2]
    forms = [integers, np.array(integers), [integers] * 2, weights, weights.tolist(), [torch.tensor(weights)] * 2]
    posts = [em.posterior(em.Automaton.from_tables(form, 2, labels=[0, 1]), logits, label) for form in forms]
    for post in posts[1:]:
        assert_close(post.marginals, posts[0].marginals)


def test_rules_can_be_pickled() -> None:
    problem = pickle.loads(pickle.dumps(em.rules.compare(2)))
    assert problem.label(torch.tensor([[1, 2], [1, 3]])).item() == 0


def test_states_need_no_bound() -> None:
    rule = em.Automaton(lambda s, v: s + v, 0, lambda s: s, n_symbols=20, cardinality=10)
    assert rule.n_states == 181
    assert rule.label(torch.full((20,), 9)).item() == 180


def test_results_do_not_depend_on_the_names_of_states() -> None:
    numbers = em.Automaton(lambda s, v: (s + v) % 5, 0, lambda s: s % 2, 6, 3)
    words_of_states = em.Automaton(
        lambda s, v: "abcde"[("abcde".index(s) + v) % 5], "a", lambda s: "abcde".index(s) % 2, 6, 3
    )
    for found, expected in zip(
        numbers.tables(torch.device("cpu")), words_of_states.tables(torch.device("cpu")), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_million_steps_take_seconds() -> None:
    start = time.process_time()
    rule = dates()
    assert time.process_time() - start < SLOWEST_COMPILATION
    assert rule.n_states == 6


def test_values_that_act_alike_are_one_edge() -> None:
    rule = em.rules.count(10, 10, values=[7])
    assert rule.machine.layers[0].n_after == 2
    assert rule.n_edges == sum(2 * (i + 1) for i in range(10))


def test_explored_and_unrolled_states_are_in_the_order_of_their_discovery() -> None:
    found = explore(lambda s, v: (2 * s + v) % 5, 0, 10, 2)
    assert found.states == [0, 1, 2, 3, 4]
    tables, states = unroll(lambda s, v, i: s + v, 0, [2, 3])
    assert states == [[0], [0, 1], [0, 1, 2, 3]]
    assert tables[0].tolist() == [[0, 1, DEAD]]


# Errors: what is wrong, what was got, what to do.


def rule(step: Any = lambda s, v: v, label: Any = lambda s: s, **changes: Any) -> em.Automaton:
    arguments = {"start": 0, "n_symbols": 3, "cardinality": 2} | changes
    return em.Automaton(step, label=label, **arguments)


calls = itertools.count()


def raises(*_: Any) -> Any:
    raise KeyError("lost")


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"step": lambda s, v: [v]}, TypeError, r"step\(0, 0\) is \[0\], of type list: use a tuple in place of a list"),
    (
        {"step": lambda s, v: torch.tensor(v)},
        TypeError,
        r"is tensor\(0\), of type Tensor.*a number in place of a tensor",
    ),
    ({"start": set()}, TypeError, r"start is set\(\), of type set.*a frozenset in place of a set"),
    ({"step": raises}, ValueError, r"step\(0, 0\) raised KeyError: 'lost'"),
    ({"step": lambda s, v: next(calls)}, ValueError, r"the result of step\(0, 0\) changes from call to call"),
    (
        {"step": lambda s, v: (s, v), "max_states": 5},
        ValueError,
        "step reaches 7 states within 2 symbols.*max_states=5.*bound",
    ),
    ({"step": lambda s, v: None}, ValueError, "forbids every assignment"),
    ({"label": lambda s: None}, ValueError, "forbids every assignment"),
    ({"label": lambda s: {0: 0.0}}, ValueError, "forbids every assignment"),
    ({"label": lambda s: [s]}, TypeError, r"label\(0\) is \[0\], of type list: use a tuple in place of a list"),
    ({"label": lambda s: torch.tensor(s)}, TypeError, r"label\(0\) is tensor\(0\), of type Tensor"),
    ({"label": raises}, ValueError, r"label\(0\) raised KeyError: 'lost'"),
    ({"label": lambda s: {s: -0.5}}, ValueError, "weights of labels must be finite numbers >= 0, got -0.5 for label 0"),
    ({"label": lambda s: {s: "much"}}, ValueError, "finite numbers >= 0, got 'much' for label 0"),
    ({"label": lambda s: {(0, (torch.ones(1),)[0]): 1.0, torch.ones(1): 1.0}}, TypeError, "a label of label"),
    ({"step": None}, TypeError, "takes either step or step_at, and needs one of them"),
    ({"step": 3}, TypeError, "step must be a function of a state and a value, got 3"),
    ({"label": None}, TypeError, "takes either label or output, and needs one of them"),
    ({"n_symbols": 0}, ValueError, "n_symbols must be an integer in 1..16777216, got 0"),
    ({"n_symbols": None}, TypeError, "needs n_symbols, latent_shape or cardinalities"),
    ({"latent_shape": (2, 2)}, ValueError, "n_symbols must be 4, as latent_shape says, or left out, got 3"),
    ({"n_symbols": None, "latent_shape": (2, 0)}, ValueError, r"latent_shape\[1\] must be an integer >= 1, got 0"),
    ({"cardinality": 0}, ValueError, "cardinality must be an integer in 1..16777216, got 0"),
    ({"cardinality": None}, TypeError, "needs cardinality or cardinalities"),
    ({"order": (0, 1, 1)}, ValueError, r"order must name every symbol 0..2 once, got \[0, 1, 1\]"),
    ({"order": "abc"}, TypeError, "order must be integers, got 'abc'"),
    ({"cardinalities": (2, 2)}, ValueError, "cardinalities must have 3 entries, one for each symbol, got 2"),
    ({"cardinalities": (2, 1, 2)}, ValueError, r"symbols of different cardinality need step_at.*\[2, 1, 2\]"),
    ({"cardinalities": (3, 3, 3)}, ValueError, "cardinality must be the largest of cardinalities, 3, or left out"),
    ({"labels": [[0]]}, TypeError, r"an entry of labels is \[0\], of type list"),
    ({"max_states": 0}, ValueError, "max_states must be an integer >= 1, got 0"),
]


@pytest.mark.parametrize(("changes", "error", "message"), MISTAKES)
def test_wrong_rules(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rule(**changes)


MISTAKES_AT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"step_at": lambda s, v, i: [v] if i else v}, TypeError, r"step_at\(0, 0, 1\) is \[0\], of type list"),
    ({"step_at": lambda s, v, i: 1 // (2 - i)}, ValueError, r"step_at\(\w, 0, 2\) raised ZeroDivisionError"),
    (
        {"step_at": lambda s, v, i: (s, v), "max_states": 3},
        ValueError,
        "step_at reaches 4 states after position 1, more than",
    ),
    ({"step_at": lambda s, v, i: next(calls)}, ValueError, r"the result of step_at\(0, 0, 0\) changes"),
    ({"step_at": lambda s, v, i: v, "output": lambda s, i: None}, ValueError, "output sees nothing after any position"),
    ({"step_at": lambda s, v, i: v, "output": lambda s, i: [s]}, TypeError, r"output\(0, 0\) is \[0\], of type list"),
    ({"step_at": lambda s, v, i: v, "output": lambda s: s}, ValueError, r"output\(0, 0\) raised TypeError"),
]


@pytest.mark.parametrize(("changes", "error", "message"), MISTAKES_AT)
def test_wrong_rules_by_position(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    label = None if "output" in changes else lambda s: s
    with pytest.raises(error, match=message):
        rule(step=None, label=label, **changes)


TABLE = np.zeros((2, 3), np.int64)
WEIGHTS = np.ones((2, 3, 2))
GROWING = [np.ones((i + 1, 2, i + 2)) for i in range(4)]

WRONG_TABLES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"transitions": [["a"]]}, TypeError, "transitions must be integers .* got dtype <U1"),
    ({"transitions": TABLE[0]}, ValueError, r"transitions must be integers \[S, K\].* got int64 \[3\]"),
    ({"transitions": WEIGHTS[0]}, ValueError, r"transitions must be float \[S, K, S'\].* got float64 \[3, 2\]"),
    ({"transitions": TABLE - 2}, ValueError, "must hold states, or -1 for none, got -2"),
    ({"transitions": -WEIGHTS}, ValueError, "must hold finite weights >= 0, got -1.0..-1.0"),
    ({"transitions": WEIGHTS * np.inf}, ValueError, "must hold finite weights >= 0, got inf..inf"),
    ({"transitions": TABLE + 2}, ValueError, "transitions must lead to the 2 states that.* got 3 states"),
    ({"transitions": [TABLE, TABLE]}, ValueError, "transitions must have 4 tables, one for each symbol, got 2"),
    ({"transitions": [TABLE, WEIGHTS, TABLE, TABLE]}, ValueError, "tables must be of one kind"),
    ({"transitions": [TABLE, TABLE + 4, TABLE, TABLE]}, ValueError, r"transitions\[1\] must lead to.* got 5"),
    ({"start": 2}, ValueError, r"start must be a state in 0..1, got 2"),
    ({"start": [0.5]}, TypeError, r"start must be the number of a state, or float weights \[2\], got \[0.5\]"),
    ({"start": [0.5, -1.0]}, ValueError, "start must hold finite weights >= 0, and one of them above 0"),
    ({"labels": [0]}, ValueError, "labels must have 2 entries, one a state after the last symbol, got 1"),
    ({"labels": [0, [1]]}, TypeError, r"labels\[1\] is \[1\], of type list"),
    ({"labels": [0, 1], "label_weights": np.eye(2)}, TypeError, "takes labels or label_weights, not both"),
    ({"label_weights": np.eye(3)}, ValueError, r"label_weights of label 0 must be \[2\].* got \[3\]"),
    ({"label_weights": -np.eye(2)}, ValueError, "weights of labels must be finite numbers >= 0"),
    ({"labels": [None, 1]}, ValueError, "forbids every assignment"),
    ({"transitions": WEIGHTS * 0}, ValueError, "forbids every assignment"),
    ({"latent_shape": (3,)}, ValueError, "n_symbols must be 3, as latent_shape says"),
    (
        {"transitions": GROWING, "variable_length": True},
        ValueError,
        "variable_length needs .* got 1 and 2",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), WRONG_TABLES)
def test_wrong_tables(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        em.Automaton.from_tables(**({"transitions": TABLE, "n_symbols": 4} | changes))


LOGITS = torch.zeros(2, 3, 2)
LABEL = torch.zeros(2, dtype=torch.int64)

WRONG_INPUTS = [
    (torch.zeros(2, 3, 3), LABEL, ValueError, r"logits must have shape \[batch, 3, 2\], got \[2, 3, 3\]"),
    (torch.zeros(2, 4, 2), LABEL, ValueError, r"logits must have shape \[batch, 3, 2\], got \[2, 4, 2\]"),
    (LOGITS, LABEL[:, None], ValueError, r"label must have shape \[batch\], got \[2, 1\]"),
    (LOGITS, LABEL.float(), TypeError, "label must have one of the dtypes int64.* got float32"),
    (LOGITS, torch.tensor([0, 2]), ValueError, r"label\[1, 0\] must be the code of a label.* got 2"),
    (LOGITS, torch.tensor([-2, 0]), ValueError, r"label\[0, 0\] must be the code of a label.* got -2"),
    (LOGITS / 0, LABEL, ValueError, r"logits\[0, 0, 0\] must be finite or -inf, got nan"),
]


@pytest.mark.parametrize(("logits", "label", "error", "message"), WRONG_INPUTS)
@pytest.mark.parametrize("engine", [em.Exact(), em.MAP(), em.ABC(samples=8), em.Gibbs(chains=1)], ids=str)
def test_wrong_inputs(logits, label, error, message, engine: em.Engine) -> None:
    with pytest.raises(error, match=message):
        em.posterior(rule(), logits, label, engine)
    if isinstance(engine, em.Exact):
        for function in (em.fused_em_loss, lambda *arguments: em.sample_posterior(*arguments, 1, seed=0)):
            with pytest.raises(error, match=message):
                function(rule(), logits, label)


WRONG_SYMBOLS = [
    (torch.zeros(3), TypeError, "z must have one of the dtypes int64"),
    (torch.zeros(2, 4, dtype=torch.int64), ValueError, r"z must have shape \[..., 3\], got \[2, 4\]"),
    (torch.tensor([0, 1, 2]), ValueError, r"z must hold values in 0..1, got 0..2"),
]


@pytest.mark.parametrize(("z", "error", "message"), WRONG_SYMBOLS)
def test_wrong_symbols(z, error, message) -> None:
    with pytest.raises(error, match=message):
        rule().label(z)


def test_wrong_labels() -> None:
    with pytest.raises(ValueError, match=r"no state has the label 7; known labels are \[0, 1\], 2 in all"):
        rule().encode([7])
    with pytest.raises(TypeError, match=r"labels is \[7\], of type list"):
        rule().encode([[7]])
    entries = em.Automaton(lambda s, v: v, 0, output=lambda s: s, n_symbols=3, cardinality=2)
    with pytest.raises(ValueError, match=r"labels\[1\] must have 3 entries, got 2"):
        entries.encode([(0, 1, 1), (0, 1)])


def test_wrong_lengths() -> None:
    with pytest.raises(ValueError, match="has no pad: make it with variable_length=True"):
        rule().padded(LOGITS, LABEL)
    padded = rule(variable_length=True).padded
    with pytest.raises(ValueError, match=r"logits must have shape \[batch, 3, 2\], got \[2, 3, 3\]"):
        padded(torch.zeros(2, 3, 3), LABEL)
    with pytest.raises(ValueError, match=r"lengths must have shape \[2\], got \[3\]"):
        padded(LOGITS, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"lengths must lie in 0..3, got 0..4"):
        padded(LOGITS, torch.tensor([0, 4]))


WRONG_HELPERS = [
    (lambda: em.rules.count(3, 4, [4]), ValueError, r"values must lie in 0..3, got 4"),
    (lambda: em.rules.exactly(3, 4, [0], -1), ValueError, "k must be an integer >= 0, got -1"),
    (lambda: em.rules.weighted_sum([0.5], 2), TypeError, r"weights\[0\] must be an integer in .*, got 0.5"),
    (lambda: em.rules.weighted_sum([], 2), ValueError, "the number of weights must be an integer >= 1, got 0"),
    (lambda: em.rules.modulo(3, 0), ValueError, "m must be an integer in 1..16777216, got 0"),
    (lambda: em.rules.all_different(3, 13), ValueError, "cardinality must be an integer in 1..12, got 13"),
    (
        lambda: em.rules.lexicon(["ax"], "ab"),
        ValueError,
        "words must have characters of the alphabet 'ab' alone, got 'ax'",
    ),
    (lambda: em.rules.lexicon([], "ab"), ValueError, "at least one word that is not empty"),
    (lambda: em.rules.lexicon(["ab"], "ab", 1), ValueError, "n_symbols must be at least 2"),
    (lambda: em.rules.lexicon(["ab"], "aab"), ValueError, "alphabet must be a string of different characters"),
    (lambda: em.rules.balanced_brackets(4, kinds=0), ValueError, "kinds must be an integer in 1..8388608, got 0"),
    (lambda: em.rules.formula(4), ValueError, "n_symbols must be odd.* got 4"),
    (lambda: em.rules.formula(3, operators="+%"), ValueError, "operators must be different characters of"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG_HELPERS)
def test_wrong_helpers(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()


def test_too_many_labels_for_a_table(monkeypatch) -> None:
    monkeypatch.setattr("emnesy_gpu.automata.tables.MAX_EMISSIONS", 100)
    with pytest.raises(ValueError, match="too many labels for a table: 1 entries of up to 28 labels, and 28 states"):
        em.rules.weighted_sum([1, 1, 1], 10)
