"""Files of compiled circuits: the theories that they say, and one-line errors for everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emnesy_gpu.circuits import checks
from emnesy_gpu.circuits.dimacs import read_clauses
from emnesy_gpu.circuits.files import cached, load, save
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.readers import read_nnf, read_sdd
from emnesy_gpu.errors import CircuitFileError
from tests.circuit_oracles import assert_theory, assignments

PUBLISHED = Path(os.environ.get("EMNESY_CIRCUITS", ""))
SDD = b"c a diagram\nsdd 6\nL 0 0 1\nL 2 0 -1\nL 1 2 2\nL 3 2 -2\nF 4\nD 5 1 2 0 1 2 4\n"
C2D = b"nnf 7 6 3\nL 1\nL -1\nL 2\nL 3\nA 2 0 2\nA 2 1 3\nO 1 2 4 5\n"
D4 = b"o 1 0\na 2 0\nt 3 0\n1 2 1 0\n1 3 -1 3 0\n2 3 2 0\n"
"""(1 and 2) or (not 1 and 3), as c2d and d4 write it."""

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(raw: bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(raw)
        return path

    return write_file


def choice(z: np.ndarray) -> np.ndarray:
    return np.where(z[:, 0] == 1, z[:, 1] == 1, z[:, 2] == 1)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_an_sdd_holds_for_its_models_and_fails_for_the_others(write: Write, ending: bytes) -> None:
    graph = read_sdd(write(SDD.replace(b"\n", ending)))
    assert_theory(graph, assignments(2, 2).all(1))


@pytest.mark.parametrize("raw", [C2D, D4], ids=["c2d", "d4"])
def test_nnf_files_of_both_kinds_say_the_same(write: Write, raw: bytes) -> None:
    assert_theory(read_nnf(write(raw)), choice(assignments(3, 2)))


def test_the_label_0_can_be_left_out(write: Write) -> None:
    both, alone = read_sdd(write(SDD)), read_sdd(write(SDD), with_negation=False)
    assert alone.given == (1,)
    assert alone.n_edges < both.n_edges
    assert checks.model_count(alone, 0) == checks.model_count(both, 1) == 1


def test_the_variables_of_a_symbol_become_its_values(write: Write) -> None:
    """Two of three values: (1 and not 2 and not 3) or (not 1 and 2 and not 3)."""
    raw = b"nnf 9 8 3\nL 1\nL -1\nL 2\nL -2\nL -3\nA 3 0 3 4\nA 3 1 2 4\nO 1 2 5 6\nA 1 7\n"
    graph = read_nnf(write(raw), {1: (0, 0), 2: (0, 1), 3: (0, 2)})
    assert_theory(graph, assignments(1, 3)[:, 0] < 2)


def test_symbols_without_exactly_one_value_are_refused(write: Write) -> None:
    with pytest.raises(ValueError, match=r"does not say that exactly one variable of symbol 0 is true"):
        read_nnf(write(b"nnf 1 0 1\nL -1\n"), {1: (0, 0), 2: (0, 1)})
    with pytest.raises(ValueError, match=r"not decomposable.*mention symbol 0"):
        read_nnf(write(b"nnf 3 2 2\nL 1\nL 2\nA 2 0 1\n"), {1: (0, 0), 2: (0, 1)})


def test_a_symbol_with_one_variable_is_a_bit(write: Write) -> None:
    graph = read_sdd(write(SDD), {1: (1, 1), 2: (0, 0)})
    z = assignments(2, 2)
    assert_theory(graph, (z[:, 1] == 1) & (z[:, 0] == 0))


def test_free_variables_count_one(write: Write) -> None:
    """Variable 3 is 1 exactly where 1 and 2 are equal."""
    raw = b"nnf 11 14 3\nL 1\nL -1\nL 2\nL -2\nL 3\nL -3\nA 3 0 2 4\nA 3 1 3 4\nA 3 0 3 5\nA 3 1 2 5\nO 0 4 6 7 8 9\n"
    graph = read_nnf(write(raw), free=[3])
    assert (graph.n_symbols, checks.model_count(graph, 0)) == (2, 4)


@pytest.mark.parametrize(
    ("read", "raw", "n_models"),
    [
        (read_sdd, b"sdd 1\nL 0 0 -1\n", 1),
        (read_sdd, b"sdd 1\nT 0\n", 4),
        (read_sdd, b"F 7\n", 0),
        (read_nnf, b"nnf 1 0 2\nL 2\n", 2),
        (read_nnf, b"nnf 1 0 2\nA 0\n", 4),
        (read_nnf, b"t 1 0\n", 4),
        (read_nnf, b"f 1 0\n", 0),
        (read_nnf, b"o 1 0\nt 2 0\n1 2 2 0\n", 2),
    ],
)
def test_literals_and_constants_alone_are_circuits(
    write: Write, read: Callable[..., Graph], raw: bytes, n_models: int
) -> None:
    graph = read(write(raw), n_symbols=2)
    expected = n_models if n_models != 1 else 2
    assert checks.model_count(graph, len(graph.given) and graph.given[0] - 1) == expected


def test_a_false_theory_without_label_0_is_refused(write: Write) -> None:
    with pytest.raises(CircuitFileError, match="no assignment satisfies it"):
        read_nnf(write(b"nnf 1 0 2\nO 0 0\n"), n_symbols=2)


def test_an_or_of_d4_without_a_decision_has_no_label_0(write: Write) -> None:
    both = read_nnf(write(b"o 1 0\nt 2 0\n1 2 1 2 0\n1 2 -1 0\n"))
    with_false = read_nnf(write(b"o 1 0\nt 2 0\nf 3 0\n1 2 1 2 0\n1 3 0\n"))
    assert_theory(with_false, assignments(2, 2).all(1))
    alone = read_nnf(write(b"o 1 0\nt 2 0\n1 2 1 2 0\n1 2 1 -2 0\n1 2 -1 0\n"))
    assert (both.given, alone.given) == ((2,), (1,))
    assert_theory(both, ~(assignments(2, 2) == [1, 0]).all(1))
    assert_theory(alone, np.ones(4, bool))


BROKEN_SDD = {
    "forward reference": (b"sdd 2\nL 0 0 1\nD 1 0 1 0 2\n", r"line 3: node 2 is not defined before it is used"),
    "itself": (b"L 0 0 1\nD 1 0 1 0 1\n", r"line 2: node 1 is not defined"),
    "cut off": (SDD[:-4], r"line 8: .*'D id vtree k, then k times prime sub', got 5 numbers: is it cut off"),
    "nodes missing": (SDD[: SDD.rindex(b"D")], r"says 'sdd 6', but there are 5 nodes: is the file cut off"),
    "lying count": (b"L 0 0 1\nD 1 0 99999999999999 0 0\n", r"line 2: .*got 5 numbers"),
    "huge number": (b"L 0 0 9999999999999999999999\n", r"line 1: cannot be read"),
    "huge variable": (b"L 0 0 99999999999\n", r"leaves: map the variables"),
    "again": (b"T 0\nT 0\n", r"line 2: there is a node 0 already"),
    "letter": (b"X 0 0 1\n", r"line 1: cannot be read at column 1: 'X 0 0 1'"),
    "letter inside": (b"L 0 L 1\n", r"line 1: cannot be read at column 5"),
    "sign": (b"L 0 0 1-\n", r"line 1: cannot be read at column 8"),
    "no letter": (b"0 0 1\n", r"line 1: every line must start with L, T, F or D"),
    "binary": (b"\x00\xff\x01", r"line 1: cannot be read at column 1"),
    "empty": (b"", r"there are no nodes"),
    "comments alone": (b"c nothing\nc\n", r"there are no nodes"),
    "literal 0": (b"L 0 0 0\n", r"line 1: there is no literal 0"),
    "word in the header": (b"sdd many\nT 0\n", r"line 1: after 'sdd' there must be counts, got 'many'"),
}
BROKEN_NNF = {
    "header": (b"nnf 1 0\nL 1\n", r"the header must be 'nnf nodes edges variables', got 2 counts"),
    "missing nodes": (b"nnf 1000000000000 0 1\nL 1\n", r"says 1000000000000 nodes, but there are 1"),
    "forward": (b"nnf 1 1 1\nA 1 0\n", r"line 2: node 0 is not defined before it is used"),
    "negative": (b"nnf 2 1 1\nL 1\nA 1 -1\n", r"line 3: node -1 is not defined"),
    "arity": (b"nnf 2 1 1\nL 1\nO 0 2 0\n", r"line 3: a node must be 'O j k, then k children', got 3 numbers"),
    "kind": (b"nnf 1 0 1\no 1 0\n", r"line 2: every line must start with L, A or O"),
    "no header": (b"L 1\n", r"line 1: a line of a c2d file, but the header"),
    "no root": (b"o 2 0\n", r"the root, node 1, is missing"),
    "circle": (b"o 1 0\no 2 0\n1 2 0\n2 1 0\n", r"the circuit has a circle"),
    "unknown node": (b"o 1 0\n1 2 0\n", r"line 2: there is no node 2"),
    "edge of a constant": (b"t 1 0\n1 1 0\n", r"line 2: the constant 1 has an edge"),
    "no end": (b"o 1 0\n1 1 5\n", r"line 2: a line must be .*cut off"),
    "again": (b"o 1 0\na 1 0\n", r"line 2: there is a node 1 already"),
    "empty": (b"\n\n", r"there are no nodes"),
}


@pytest.mark.parametrize("name", BROKEN_SDD)
def test_broken_sdd_files_are_named(write: Write, name: str) -> None:
    raw, message = BROKEN_SDD[name]
    with pytest.raises(ValueError, match=message):
        read_sdd(write(raw), n_symbols=None if name == "huge variable" else 2)


@pytest.mark.parametrize(("raw", "message"), BROKEN_NNF.values(), ids=BROKEN_NNF)
def test_broken_nnf_files_are_named(write: Write, raw: bytes, message: str) -> None:
    with pytest.raises(CircuitFileError, match=message):
        read_nnf(write(raw), n_symbols=2)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=r"nowhere.sdd cannot be read: No such file"):
        read_sdd(tmp_path / "nowhere.sdd")


def test_variables_without_a_meaning_are_named(write: Write) -> None:
    with pytest.raises(CircuitFileError, match=r"line 5: variable 2 has no meaning: give it a \(symbol, value\)"):
        read_sdd(write(SDD), {1: (0, 1)})
    with pytest.raises(ValueError, match=r"the variables 1 and 2 the same symbol and value \(0, 1\)"):
        read_sdd(write(SDD), {1: (0, 1), 2: (0, 1)})
    with pytest.raises(ValueError, match=r"symbols\[2\] must be \(symbol, value\)"):
        read_sdd(write(SDD), {1: (0, 1), 2: (0, -1)})
    with pytest.raises(ValueError, match=r"n_symbols must be at least 2"):
        read_sdd(write(SDD), {1: (0, 1), 2: (1, 1)}, n_symbols=1)
    with pytest.raises(ValueError, match=r"no variable is named: say how many symbols there are by n_symbols"):
        read_sdd(write(b"T 0\n"))


def in_one_line(read: Callable[[], object], expected: type[Exception]) -> None:
    """What is read, or an error of this class in one line."""
    message = ""
    with contextlib.suppress(expected):
        try:
            read()
        except Exception as error:
            message = str(error)
            raise
    assert "\n" not in message


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_raise_a_value_error_or_nothing(write: Write, data: st.DataObject) -> None:
    read, raw = data.draw(st.sampled_from([(read_sdd, SDD), (read_nnf, C2D), (read_nnf, D4)]))
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(changed)))
        stop = data.draw(st.integers(start, min(start + 4, len(changed))))
        changed[start:stop] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"-", b"0", b" 7 ", b"\n", b"D", b"99"])
        )
    in_one_line(lambda: read(write(bytes(changed))), ValueError)


@given(st.binary(max_size=60) | st.text("pcnf 0123-\n%", max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_clauses_or_an_error(write: Write, raw: bytes) -> None:
    in_one_line(lambda: read_clauses(write(raw)), CircuitFileError)


def test_clauses_are_read_across_lines_with_comments() -> None:
    assert read_clauses("c ours\np  cnf 3 2\r\n1 -2\n 0 2\nc in between\n3 0\n%\n0\n").clauses == [[1, -2], [2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 0\n3 0", "the header 'p cnf variables clauses' is missing"),
        ("p cnf 2 1\n1 3 0\n", "line 2: there are 2 variables, got the literal 3"),
        ("p cnf 2 2\n1 2 0\n", "says 2 clauses, but there are 1"),
        ("p cnf 2 1\n1 2\n", "says 1 clauses, but there are 0"),
    ],
)
def test_broken_clauses_are_named(text: str, message: str) -> None:
    with pytest.raises(CircuitFileError, match=message):
        read_clauses(text)


def test_a_circuit_is_the_same_after_it_was_saved(write: Write, tmp_path: Path) -> None:
    graph = read_sdd(write(SDD))
    save(graph, tmp_path / "deep" / "circuit.npz")
    again, _ = load(tmp_path / "deep" / "circuit.npz")
    assert (again.shape, again.n_edges) == (graph.shape, graph.n_edges)
    assert_theory(again, assignments(2, 2).all(1))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["circuit.npz"]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_circuits_are_refused_or_whole(write: Write, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "circuit.npz"
    save(read_sdd(write(SDD)), path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    in_one_line(lambda: load(path), CircuitFileError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.array([0, 3]), "left": np.array([7, 2**30, 0])}, "rows outside"),
        ({"first": np.array([0, 5, 3])}, "do not divide"),
        ({"shape": np.array([2**40, 2**40])}, "symbols of"),
        ({"version": np.array(99)}, "its version must be 1, got 99"),
        ({"shape": np.array([2, 2, 2])}, "wrong shapes"),
        ({"first": np.array([0.0, 1.0])}, "must hold integers"),
    ],
)
def test_lying_circuits_are_refused(write: Write, tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "circuit.npz"
    save(read_sdd(write(SDD)), path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | change))
    with pytest.raises(CircuitFileError, match=message):
        load(path)


def test_a_cached_circuit_is_made_once(write: Write, tmp_path: Path) -> None:
    made = []

    def make() -> Graph:
        made.append(1)
        return read_sdd(write(SDD))

    for _ in range(2):
        cached(tmp_path / "cache", b"key", make)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(b"broken")
    assert cached(tmp_path / "cache", b"key", make).n_edges == make().n_edges
    assert len(made) == 3


PUBLISHED_COUNTS = {
    "permutation-4": (16, factorial(4)),
    "sudoku_4": (64, 288),
    "4-grid": (40, 14248),
    "road_r": (41, 4985868),
    "imclef07a_others": (97, None),
    "diatoms_others": (399, None),
    "eisen_FUN": (462, None),
    "seq_fun": (500, None),
}


@pytest.mark.skipif(not PUBLISHED.name, reason="needs the published circuits in $EMNESY_CIRCUITS")
@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_published_circuits_have_their_models(name: str) -> None:
    n_symbols, count = PUBLISHED_COUNTS[name]
    graph = read_sdd(PUBLISHED / f"{name}.sdd")
    checks.check(graph)
    holds, fails = checks.model_count(graph, 1), checks.model_count(graph, 0)
    assert (graph.n_symbols, holds + fails) == (n_symbols, 2**n_symbols)
    assert count in (holds, None)


@pytest.mark.skipif(not PUBLISHED.name, reason="needs the published circuits in $EMNESY_CIRCUITS")
def test_a_published_circuit_folds_its_one_hot_variables() -> None:
    symbols = {1 + 4 * i + v: (i, v) for i in range(4) for v in range(4)}
    graph = read_sdd(PUBLISHED / "permutation-4.sdd", symbols)
    z = assignments(4, 4)
    assert_theory(graph, np.array([len(set(row)) == 4 for row in z.tolist()]))
    assert graph.n_edges < 100
