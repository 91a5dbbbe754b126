"""One theory by many compilers and files: equal posteriors, and counts that other programs know."""

from __future__ import annotations

import itertools
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.circuits import checks
from emnesy_gpu.circuits.cnf import CompilerSettings, compile_clauses
from emnesy_gpu.circuits.compilers.with_pysdd import conjunction
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.program import compile_predicate
from emnesy_gpu.circuits.readers import read_nnf, read_sdd
from tests.circuit_oracles import Clauses, random_clauses, satisfied

needs_pysdd = pytest.mark.skipif(find_spec("pysdd") is None, reason="needs pysdd")
N = 12
CLAUSES = random_clauses(N, 2.0, seed=3)


def diagram() -> Graph:
    """By enumeration, without any compiler; its label is whether the clauses hold."""
    return compile_predicate(lambda z: torch.from_numpy(satisfied(CLAUSES, z.numpy())), (N,), 2, 1 << 12).graph


def by_vtree(folder: Path, kind: str) -> Graph:
    from pysdd.sdd import SddManager, Vtree

    order = list(range(1, N + 1))
    manager = SddManager.from_vtree(Vtree(var_count=N, var_order=order, vtree_type=kind))
    conjunction(manager, CLAUSES, manager.true(), order).save(str(folder / "theory.sdd").encode())
    return read_sdd(folder / "theory.sdd", n_symbols=N)


def by_c2d(folder: Path) -> Graph:
    """A file as c2d writes it: a decision on one variable after the other, equal rests once."""
    lines: list[str] = []
    known: dict[tuple[tuple[int, ...], ...], int] = {}

    def add(line: str) -> int:
        lines.append(line)
        return len(lines) - 1

    def node(clauses: tuple[tuple[int, ...], ...]) -> int:
        if clauses not in known:
            if () in clauses:
                known[clauses] = add("O 0 0")
            elif not clauses:
                known[clauses] = add("A 0")
            else:
                variable = min(abs(literal) for clause in clauses for literal in clause)
                parts = [(add(f"L {sign * variable}"), node(given(clauses, sign * variable))) for sign in (1, -1)]
                both = [add(f"A 2 {literal} {rest}") for literal, rest in parts]
                known[clauses] = add(f"O {variable} 2 {both[0]} {both[1]}")
        return known[clauses]

    node(tuple(sorted({tuple(sorted(clause)) for clause in CLAUSES})))
    n_edges = sum(len(line.split()) - 2 for line in lines if line[0] == "A") + 2 * len(known)
    path = folder / "theory.nnf"
    path.write_text("\n".join([f"nnf {len(lines)} {n_edges} {N}", *lines]) + "\n")
    return read_nnf(path, n_symbols=N)


def given(clauses: tuple[tuple[int, ...], ...], literal: int) -> tuple[tuple[int, ...], ...]:
    """What is left of clauses once a literal is true."""
    left = {tuple(other for other in clause if other != -literal) for clause in clauses if literal not in clause}
    return tuple(sorted(left))


def assert_same(graph: Graph, other: Graph, value: int, other_value: int) -> None:
    leaves = np.random.default_rng(0).dirichlet(np.ones(2), (16, N))
    q, evidence = checks.posterior(graph, leaves, np.full((16, 1), value))
    expected, expected_evidence = checks.posterior(other, leaves, np.full((16, 1), other_value))
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(evidence, expected_evidence, rtol=1e-12)
    assert checks.model_count(graph, value) == checks.model_count(other, other_value)


@needs_pysdd
@pytest.mark.parametrize("kind", ["balanced", "left", "right"])
def test_every_vtree_gives_the_same_posteriors(tmp_path: Path, kind: str) -> None:
    graph = by_vtree(tmp_path, kind)
    for label in (0, 1):
        assert_same(graph, diagram(), label, label)


def test_a_file_of_c2d_gives_the_same_posteriors(tmp_path: Path) -> None:
    assert_same(by_c2d(tmp_path), diagram(), 0, 1)


FAKE_D4 = """
class Solver:
    def __init__(self, clauses, n_variables):
        self.clauses, self.lines, self.known = [frozenset(clause) for clause in clauses], [], {}

    def compile(self):
        return self

    def getNNFString(self):
        print("what d4 reports")
        self.node(frozenset(self.clauses))
        return "\\n".join(self.lines) + "\\n"

    def node(self, clauses):
        if clauses not in self.known:
            name = self.known[clauses] = len(self.known) + 1
            kind = "f" if frozenset() in clauses else "o" if clauses else "t"
            self.lines.append(f"{kind} {name} 0")
            if kind == "o":
                variable = min(abs(literal) for clause in clauses for literal in clause)
                for literal in (variable, -variable):
                    rest = frozenset(clause - {-literal} for clause in clauses if literal not in clause)
                    self.lines.append(f"{name} {self.node(rest)} {literal} 0")
        return self.known[clauses]
"""


@pytest.fixture
def fake_d4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that answers as d4 does, with a decision on one variable after the other."""
    (tmp_path / "py_d4.py").write_text(FAKE_D4)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.usefixtures("fake_d4")
def test_d4_gives_the_same_posteriors() -> None:
    found = compile_clauses(CLAUSES, n_symbols=N, settings=CompilerSettings("d4"))
    for label in (0, 1):
        assert_same(found.graph, diagram(), label, label)


@pytest.mark.usefixtures("fake_d4")
def test_d4_compiles_symbols_with_values_and_free_variables() -> None:
    """Three symbols of two values in one-hot variables: the first two differ. Variable 7 is the third one's value 1."""
    differ = [[-1, -3], [-2, -4]]
    symbols = {2 * i + v + 1: (i, v) for i in range(3) for v in range(2)}
    both = em.Circuit.from_cnf(differ, symbols, compiler="d4")
    assert [both.model_count(label) for label in (0, 1)] == [4, 4]
    defined = em.Circuit.from_cnf([*differ, [-7, 6], [7, -6], [7]], symbols, free=[7], compiler="d4")
    assert defined.labels == [None, 1]
    assert defined.model_count(1) == 2


@pytest.mark.usefixtures("fake_d4")
def test_a_d4_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "py_d4.py").write_text(
        "class Solver:\n    def __init__(self, *job):\n        raise MemoryError('all gone')\n"
    )
    with pytest.raises(RuntimeError, match="the compiler failed, it may have run out of memory: MemoryError: all gone"):
        compile_clauses(CLAUSES, settings=CompilerSettings("d4"))


def band_clauses(n: int, width: int, n_clauses: int, seed: int) -> Clauses:
    """Three literals each, on variables that are less than width apart."""
    rng = np.random.default_rng(seed)
    first = rng.integers(1, n - width + 2, n_clauses)
    chosen = [start + rng.choice(width, 3, replace=False) for start in first]
    return [(variables * rng.choice([-1, 1], 3)).tolist() for variables in chosen]


def count_along_the_band(clauses: Clauses, n: int, width: int) -> int:
    """Models, by the values of the last variables: exact integers, without any circuit."""
    by_last: dict[int, Clauses] = {}
    for clause in clauses:
        by_last.setdefault(max(map(abs, clause)), []).append(clause)
    counts = {(): 1}
    for variable in range(1, n + 1):
        new: dict[tuple[bool, ...], int] = {}
        for (bits, count), bit in itertools.product(counts.items(), (False, True)):
            window = (*bits, bit)
            first = variable - len(window) + 1
            if all(any(window[abs(a) - first] == (a > 0) for a in clause) for clause in by_last.get(variable, ())):
                new[window[-width + 1 :]] = new.get(window[-width + 1 :], 0) + count
        counts = new
    return sum(counts.values())


@needs_pysdd
@pytest.mark.parametrize("seed", range(3))
def test_theories_of_60_variables_have_the_models_that_are_counted_without_a_circuit(seed: int) -> None:
    n, width = 60, 6
    clauses = band_clauses(n, width, 100, seed)
    expected = count_along_the_band(clauses, n, width)
    circuit = em.Circuit.from_cnf(clauses, n_symbols=n, compiler="sdd", time_limit=60)
    assert circuit.model_count(1) == expected > 0
    assert circuit.model_count(0) == 2**n - expected
