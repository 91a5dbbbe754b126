"""From clauses, predicates and by hand to circuits: the same theory whatever the way, and known counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import combinations, groupby
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emnesy_gpu as em
from emnesy_gpu import logic
from emnesy_gpu.circuits import checks, orders
from emnesy_gpu.circuits.cnf import INSTALL, CompilerSettings, compile_clauses, variable_order
from emnesy_gpu.circuits.graph import Graph, lexical_order
from emnesy_gpu.circuits.program import compile_predicate
from emnesy_gpu.circuits.readers.variables import make_variables
from emnesy_gpu.circuits.simplify import simplified
from tests.circuit_builder import TRUE, Builder
from tests.circuit_oracles import (
    Clauses,
    assert_theory,
    assignments,
    not_equal_clauses,
    one_hot_variables,
    random_clauses,
    satisfied,
)

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}"))
    for name, package in (("sdd", "pysdd"), ("d4", "py_d4"))
]
needs_compiler = pytest.mark.skipif(find_spec("pysdd") is None, reason="needs pysdd")


def literals(n: int) -> st.SearchStrategy[int]:
    return st.integers(1, n).flatmap(lambda v: st.sampled_from([v, -v]))


@pytest.mark.parametrize("compiler", COMPILERS)
@given(clauses=st.lists(st.lists(literals(4), max_size=3), max_size=8))
@settings(max_examples=25, deadline=None)
def test_clauses_hold_for_their_models_and_fail_for_the_others(compiler: str, clauses: Clauses) -> None:
    graph = compile_clauses(clauses, n_symbols=4, settings=CompilerSettings(compiler)).graph  # type: ignore[arg-type]
    assert_theory(graph, satisfied(clauses, assignments(4, 2)))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_one_hot_symbols_have_exactly_one_value(compiler: str) -> None:
    n, k = 3, 3
    clauses = not_equal_clauses(n, k, lambda i, j: True)
    graph = compile_clauses(clauses, one_hot_variables([k] * n), settings=CompilerSettings(compiler)).graph  # type: ignore[arg-type]
    assert_theory(graph, np.array([len(set(z)) == n for z in assignments(n, k).tolist()]))


@needs_compiler
def test_values_that_exist_for_free_variables_are_enough() -> None:
    """Variable 3 is not a function of 1 and 2: 1 or (2 and 3)."""
    graph = compile_clauses([[1, 2], [1, 3]], free=[3], settings=CompilerSettings("sdd")).graph
    assert_theory(graph, satisfied([[1, 2]], assignments(2, 2)))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("n", "seed", "count"), [(20, 0, 17)])
def test_random_clauses_have_their_known_count(compiler: str, n: int, seed: int, count: int) -> None:
    graph = compile_clauses(random_clauses(n, 3, seed), settings=CompilerSettings(compiler)).graph  # type: ignore[arg-type]
    checks.check(graph)
    assert (checks.model_count(graph, 1), checks.model_count(graph, 0)) == (count, 2**n - count)


@pytest.mark.skipif(find_spec("py_d4") is None, reason="needs py_d4")
def test_d4_takes_theories_that_are_hard_for_diagrams() -> None:
    graph = compile_clauses(random_clauses(40, 3, 0), settings=CompilerSettings("d4")).graph
    checks.check(graph)
    assert (checks.model_count(graph, 1), checks.model_count(graph, 0)) == (19319, 2**40 - 19319)


@needs_compiler
def test_a_sudoku_board_has_288_models() -> None:
    def related(i: int, j: int) -> bool:
        (r, c), (s, d) = divmod(i, 4), divmod(j, 4)
        return r == s or c == d or (r // 2, c // 2) == (s // 2, d // 2)

    graph = compile_clauses(not_equal_clauses(16, 4, related), one_hot_variables([4] * 16)).graph
    checks.check(graph)
    assert (checks.model_count(graph, 1), checks.model_count(graph, 0)) == (288, 4**16 - 288)


@needs_compiler
def test_four_ways_to_one_theory_have_the_same_posterior(tmp_path: Path) -> None:
    """Exactly two of five bits: by hand, by a formula, by trying all, and by clauses in two orders."""
    n, k = 5, 2
    graphs = [by_hand(n, k), logic.exactly(k, logic.symbols(n)).graph()]
    graphs.append(compile_predicate(lambda z: z.sum(1) == k, (n,), 2, 100).graph)
    clauses = [list(c) for c in combinations(range(1, n + 1), n - k + 1)]
    clauses += [[-v for v in c] for c in combinations(range(1, n + 1), k + 1)]
    graphs.append(compile_clauses(clauses, settings=CompilerSettings("sdd", cache=tmp_path)).graph)
    swapped = {v: (n - v, 1) for v in range(1, n + 1)}
    graphs.append(compile_clauses(clauses, swapped, settings=CompilerSettings("sdd", cache=tmp_path)).graph)
    assert len(list(tmp_path.iterdir())) == 2
    rng = np.random.default_rng(0)
    leaves = rng.dirichlet(np.ones(2), (8, n))
    for label in (0, 1):
        results = [checks.posterior(graph, leaves, np.full((8, 1), label)) for graph in graphs]
        for q, evidence in results[1:]:
            np.testing.assert_allclose(q, results[0][0], rtol=0, atol=1e-12)
            np.testing.assert_allclose(evidence, results[0][1], rtol=1e-12)
    assert {checks.model_count(graph, 1) for graph in graphs} == {comb(n, k)}


def by_hand(n: int, k: int) -> Graph:
    """States count the ones that were read."""
    b = Builder(n, 2, (2,))
    rows = [b.label_leaf(0, int(count == k)) for count in range(n + 1)]
    for i in reversed(range(n)):
        rows = [b.sum([(b.leaf(i, 0), rows[c]), (b.leaf(i, 1), rows[c + 1])]) for c in range(i + 1)]
    return b.graph(rows[0])


def test_predicates_may_have_integer_labels() -> None:
    found = compile_predicate(lambda z: z.sum(1), (2,), 3, 100)
    assert found.labels == [(0, 1, 2, 3, 4)]
    assert [checks.model_count(found.graph, value) for value in range(5)] == [1, 2, 3, 2, 1]


def test_meanings_and_compilers_that_do_not_exist_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"variable 2 of the clause \[1, 2\] has no meaning"):
        compile_clauses([[1, 2]], {1: (0, 1)})
    with pytest.raises(ValueError, match=r"compiler must be one of auto, sdd, d4, got 'c2d'"):
        compile_clauses([[1]], settings=CompilerSettings("c2d"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"literals must be integers in 1..16777216 or their negatives, got 0"):
        compile_clauses([[0]])
    monkeypatch.setattr("emnesy_gpu.circuits.cnf.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pysdd is not installed: pip install") as raised:
        compile_clauses([[1]])
    assert INSTALL["sdd"] in str(raised.value)


def hierarchy(numbers: Sequence[int]) -> list[list[int]]:
    """A child implies its parent; 5 classes of 4 children each, which have 4 each; numbers: of depth first."""
    tops = range(1, 106, 21)
    arrows = [(top, top + 1 + 5 * j) for top in tops for j in range(4)]
    arrows += [(child, child + 1 + k) for _, child in arrows for k in range(4)]
    return [[-numbers[child - 1], numbers[parent - 1]] for parent, child in arrows]


def by_levels() -> list[int]:
    """The numbers of a hierarchy level by level: parents first, then all their children, and then theirs."""
    depth = [0 if v % 21 == 1 else 1 if (v % 21 - 2) % 5 == 0 else 2 for v in range(1, 106)]
    return (np.argsort(np.argsort(depth, kind="stable"), kind="stable") + 1).tolist()


@needs_compiler
@pytest.mark.parametrize("numbers", [by_levels(), (np.random.default_rng(0).permutation(105) + 1).tolist()])
def test_clauses_compile_however_their_variables_are_numbered(numbers: list[int]) -> None:
    """As numbered, the first has 2.2 million edges, and 12 seconds do not compile the second."""
    clauses = hierarchy(numbers)
    found = compile_clauses(clauses, settings=CompilerSettings("sdd", time_limit=20))
    assert found.graph.n_edges < 1000
    assert checks.model_count(found.graph, 1) == (1 + (1 + 2**4) ** 4) ** 5
    assert found.method != "clauses as given"
    assert set(found.tried) == {f"clauses {name}" for name in ("as given", "by force", "by breadth", "by elimination")}
    assert em.Circuit.from_cnf(clauses, compiler="sdd").notes["method"] == found.method


@pytest.mark.parametrize("find", [orders.by_force, orders.by_breadth, orders.by_elimination])
@given(st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=4, unique=True), max_size=20))
@settings(max_examples=25, deadline=None)
def test_orders_name_everything_once(find: Callable[..., list[int]], scopes: list[list[int]]) -> None:
    assert sorted(find(scopes, 12)) == list(range(12))


def test_variables_of_a_symbol_stay_together() -> None:
    variables = one_hot_variables([3] * 4)
    order = variable_order([[1, 12], [3, 10], [5, 8]], make_variables(variables)).variables
    symbols = [(variable - 1) // 3 for variable in order]
    assert [symbol for symbol, _ in groupby(symbols)] == [0, 3, 1, 2]
    assert order[:3] == [1, 2, 3]


@needs_compiler
def test_a_compiler_is_stopped_after_its_time() -> None:
    with pytest.raises(TimeoutError, match=r"within time_limit=0.5 seconds"):
        compile_clauses(random_clauses(60, 3, 0), settings=CompilerSettings("sdd", time_limit=0.5))


def overlapping() -> Graph:
    b = Builder(2, 2)
    return b.graph(b.sum([(b.leaf(0, 1), TRUE), (b.leaf(1, 1), TRUE)]))


def undecomposable() -> Graph:
    b = Builder(2, 2)
    return b.graph(b.product([b.leaf(0, 1), b.sum([(b.leaf(0, 0), b.leaf(1, 1)), (b.leaf(1, 0), TRUE)])]))


def test_circuits_that_are_not_sound_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not deterministic: 2 of its parts hold for the assignment \[1, 1\]"):
        checks.check(overlapping())
    with pytest.raises(ValueError, match=r"not decomposable: both rows of a product, \d+ and \d+, mention symbol 0"):
        checks.check(undecomposable())


def test_overlaps_of_large_circuits_are_found_by_samples() -> None:
    n = 40
    b = Builder(n, 2)
    row = b.sum([(b.leaf(0, 1), TRUE), (b.leaf(1, 1), TRUE)])
    graph = b.graph(b.product([row, *(b.sum([(b.leaf(i, 0), TRUE), (b.leaf(i, 1), TRUE)]) for i in range(2, n))]))
    with pytest.raises(ValueError, match="not deterministic: 2 of its parts"):
        checks.check(graph)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_graphs_are_refused_or_are_what_they_count(data: st.DataObject) -> None:
    """What passes the checks has evidence of at most 1 at any leaves, and its counts are those of enumeration."""
    b = Builder(3, 2)
    rows = [b.leaf(i, v) for i in range(3) for v in range(2)]
    for _ in range(data.draw(st.integers(1, 6))):
        pairs = st.tuples(st.sampled_from(rows), st.sampled_from([*rows, TRUE]))
        rows.append(b.sum(data.draw(st.lists(pairs, min_size=1, max_size=3))))
    graph = b.graph(rows[-1])
    z = assignments(3, 2)
    try:
        checks.check(graph)
    except ValueError:
        return
    counts = checks.count_parts(graph, z)
    assert set(counts) <= {0.0, 1.0}
    assert checks.model_count(graph) == counts.sum()
    assert checks.evidence(graph, np.random.default_rng(0).dirichlet(np.ones(2), (4, 3))).max() <= 1 + 1e-12


def test_drafts_lose_constants_and_equal_nodes() -> None:
    """Row 5 is 0, row 6 is leaf 0, rows 7 and 8 are equal once that is known, and row 9 is row 8."""
    first = np.array([0, 0, 2, 4, 6, 8])
    left = np.array([0, 5, 0, 1, 2, 3, 7, 8])
    right = np.array([4, 1, 2, 3, 6, 1, 5, 4])
    parts = simplified(Graph(2, 2, (), first, left, right), 9)
    assert (parts.first.tolist(), parts.root) == ([0, 2], 5)
    assert (parts.left.tolist(), parts.right.tolist()) == ([0, 1], [2, 3])


@pytest.mark.parametrize("largest", [1, 1000, 2**31 - 1])
def test_lexical_order_is_that_of_numpy(largest: int) -> None:
    keys = np.random.default_rng(0).integers(0, largest + 1, (4, 500)) // max(largest // 5, 1) * max(largest // 5, 1)
    assert (lexical_order(*keys) == np.lexsort(keys)).all()
    assert lexical_order(*keys[:, :0]).tolist() == []
