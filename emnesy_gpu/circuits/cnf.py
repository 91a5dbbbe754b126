"""From clauses to circuits, by the knowledge compilers PySDD and d4."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.circuits.dimacs import ClauseSource, read_clauses
from emnesy_gpu.circuits.draft import BOTH_LABELS, TRUE_ALONE, Draft
from emnesy_gpu.circuits.files import Folder, cached
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.orders import by_breadth, by_elimination, by_force, cost
from emnesy_gpu.circuits.readers import finish
from emnesy_gpu.circuits.readers.lines import read_bytes
from emnesy_gpu.circuits.readers.nnf import NnfFile, add_nnf, parse_nnf
from emnesy_gpu.circuits.readers.sdd import add_sdd, parse_sdd
from emnesy_gpu.circuits.readers.variables import LARGEST_VARIABLE, ONE, UNKNOWN, Symbols, Variables, make_variables

Compiler = Literal["auto", "sdd", "d4"]

PACKAGES = {"sdd": "pysdd", "d4": "py_d4"}
INSTALL = {"sdd": 'pip install "emnesy_gpu[circuits]"', "d4": "pip install d4solver"}

Clause = Sequence[int]


class Theory(NamedTuple):
    """Clauses whose label is whether some of them hold.

    always: hold whatever the label is, such as that every symbol has one value, and definitions of auxiliary variables.
    theory: hold where the label is 1; where it is 0, one of them does not. forgotten: variables for which values must
    exist, and that nothing else defines. order: all variables, those of related clauses close to each other.
    """

    always: list[list[int]]
    theory: list[list[int]]
    forgotten: list[int]
    order: list[int]


class CompiledClauses(NamedTuple):
    """A circuit, how it was made, and what the orders of variables were expected to cost."""

    graph: Graph
    method: str
    tried: dict[str, str]


class VariableOrder(NamedTuple):
    """Variables in an order, its name, and the costs of all orders that were looked at, see ``orders.cost``."""

    variables: list[int]
    name: str
    costs: dict[str, float]

    def told(self, graph: Graph) -> CompiledClauses:
        tried = {f"clauses {name}": f"cost {cost:.1f}" for name, cost in self.costs.items()}
        return CompiledClauses(graph, f"clauses {self.name}", tried)


LONGEST_TIME = 1e9
"""Seconds; the clock of a process takes no more than some centuries."""


class CompilerSettings(NamedTuple):
    """Which compiler, for how many seconds at most, and the folder where its results are kept."""

    compiler: Compiler = "auto"
    time_limit: float | None = None
    cache: Folder = None


def compile_clauses(
    source: ClauseSource,
    symbols: Symbols = "bits",
    *,
    n_symbols: int | None = None,
    free: Iterable[int] = (),
    settings: CompilerSettings = CompilerSettings(),  # noqa: B008 - immutable
) -> CompiledClauses:
    """The circuit of a conjunction of clauses; its label says whether all of them hold: 0 or 1.

    Args:
        source: a path, text in the format of DIMACS, or clauses as sequences of literals.
        symbols, n_symbols, free: the meaning of the variables, see ``make_variables``. That a one-hot symbol has
            exactly one value is added, and holds for both labels.
        settings: ``"sdd"`` is PySDD, ``"d4"`` is d4; ``"auto"`` takes PySDD for one-hot symbols and d4 for bits, or the
            other one where that is not installed. With free variables d4 makes the label 1 alone, and they must be
            functions of the others; PySDD asks whether values exist for them, and makes both labels.

    Raises ModuleNotFoundError without a compiler; TimeoutError after ``time_limit`` seconds; RuntimeError for a
    compiler that fails; ValueError for variables without a meaning.

    Source: Choi and Darwiche, "Dynamic minimization of sentential decision diagrams" (2013); Lagniez and Marquis,
    "An improved decision-DNNF compiler" (2017).
    """
    formula, free = read_clauses(source), set(checks.integers("free", free, 1, LARGEST_VARIABLE))
    if not isinstance(settings.cache, bool) and settings.cache is not None:
        checks.is_path("cache", settings.cache)
    if settings.time_limit is not None:
        checks.is_number("time_limit", settings.time_limit, 0.0, LONGEST_TIME)
    variables = make_variables(symbols, n_symbols=n_symbols, free=free, largest=formula.n_variables)
    _check_meanings(formula.clauses, variables)
    always = [clause for group in _one_hot_groups(variables) for clause in exactly_one(group)]
    order = variable_order(formula.clauses, variables)
    theory = Theory(always, list(formula.clauses), sorted(free), order.variables)
    return order.told(compile_theory(theory, variables, settings))


def exactly_one(variables: Sequence[int]) -> list[list[int]]:
    """Clauses that say that one of some variables is true.

    >>> exactly_one([1, 2])
    [[1, 2], [-1, -2]]
    """
    return [list(variables), *([-a, -b] for a, b in combinations(variables, 2))]


def compile_theory(theory: Theory, variables: Variables, settings: CompilerSettings) -> Graph:
    """The circuit of a theory."""
    compiler = _chosen(settings.compiler, bool(variables.one_hot.any()))
    compile_with = _with_sdd if compiler == "sdd" else _with_d4
    key = json.dumps([compiler, *theory, *(np.asarray(part).tolist() for part in variables)]).encode()
    return cached(settings.cache, key, lambda: compile_with(theory, variables, settings.time_limit))


def _chosen(compiler: str, one_hot: bool) -> str:
    checks.is_one_of("compiler", compiler, ("auto", *PACKAGES))
    if compiler == "auto":
        order = ("sdd", "d4") if one_hot else ("d4", "sdd")
        compiler = next((name for name in order if find_spec(PACKAGES[name])), "sdd")
    if not find_spec(PACKAGES[compiler]):
        raise ModuleNotFoundError(
            f"clauses need a compiler, and {PACKAGES[compiler]} is not installed: {INSTALL[compiler]}",
            name=PACKAGES[compiler],
        )
    return compiler


def _check_meanings(clauses: Sequence[Clause], variables: Variables) -> None:
    known = variables.positive != UNKNOWN
    for clause in clauses:
        for literal in clause:
            if abs(literal) >= len(known) or not known[abs(literal)]:
                raise ValueError(
                    f"variable {abs(literal)} of the clause {list(clause)} has no meaning: give it a (symbol, value) "
                    "in symbols, or name it in free"
                )


def _one_hot_groups(variables: Variables) -> list[list[int]]:
    """The variables of each one-hot symbol."""
    groups: dict[int, list[int]] = {}
    for variable in np.flatnonzero(variables.positive >= 0).tolist():
        symbol = int(variables.positive[variable]) // variables.n_values
        if variables.one_hot[symbol]:
            groups.setdefault(symbol, []).append(variable)
    return list(groups.values())


def variable_order(clauses: Sequence[Clause], variables: Variables) -> VariableOrder:
    """An order in which few variables stand between others that they share clauses with.

    Of the order as given, of leaves, and three that ``orders`` finds, it is the one of the least ``orders.cost``. The
    variables of a one-hot symbol stay together.
    """
    units, unit_of = _units(clauses, variables)
    scopes = [sorted({unit_of[abs(literal)] for literal in clause}) for clause in clauses]
    scopes = [scope for scope in scopes if len(scope) > 1]
    found = {"as given": list(range(len(units)))}
    for name, find in (("by force", by_force), ("by breadth", by_breadth), ("by elimination", by_elimination)):
        found[name] = find(scopes, len(units))
    costs = {name: cost(scopes, order) for name, order in found.items()}
    best = min(costs, key=costs.__getitem__)
    return VariableOrder([variable for index in found[best] for variable in units[index]], best, costs)


def _units(clauses: Sequence[Clause], variables: Variables) -> tuple[list[list[int]], dict[int, int]]:
    """Variables that stay together, in the order of their leaves, and the place of each variable among them."""
    units: list[list[int]] = []
    unit_of: dict[int, int] = {}
    unit_of_symbol: dict[int, int] = {}
    for variable in _order_of_leaves(clauses, variables):
        symbol = int(variables.positive[variable]) // variables.n_values
        if symbol < 0 or not variables.one_hot[symbol]:
            place = len(units)
        else:
            place = unit_of_symbol.setdefault(symbol, len(units))
        if place == len(units):
            units.append([])
        units[place].append(variable)
        unit_of[variable] = place
    return units, unit_of


def _order_of_leaves(clauses: Sequence[Clause], variables: Variables) -> list[int]:
    """Variables in the order of their leaves, free ones near those that they share clauses with."""
    place = variables.positive.astype(float)
    place[variables.positive < 0] = np.nan
    near: dict[int, list[int]] = {}
    for clause in clauses:
        for literal in clause:
            if np.isnan(place[abs(literal)]):
                near.setdefault(abs(literal), []).extend(map(abs, clause))
    for variable, others in near.items():
        known = [place[other] for other in others if not np.isnan(place[other])]
        place[variable] = np.mean(known) if known else 0.0
    place[np.isnan(place)] = np.inf
    return [variable for variable in np.argsort(place, kind="stable").tolist() if variable > 0]


def _with_sdd(theory: Theory, variables: Variables, time_limit: float | None) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        _run("with_pysdd", theory._asdict() | {"folder": folder}, time_limit)
        files = [parse_sdd(*read_bytes(Path(folder) / f"{name}.sdd")) for name in ("holds", "fails")]
    draft = Draft(variables.n_symbols, variables.n_values, BOTH_LABELS)
    holds, fails = (add_sdd(draft, file, variables)[0] for file in files)
    return finish(draft, holds, fails, variables, "the compiled theory")


def _with_d4(theory: Theory, variables: Variables, time_limit: float | None) -> Graph:
    everything = [*theory.always, *theory.theory]
    if theory.forgotten:
        draft = Draft(variables.n_symbols, variables.n_values, TRUE_ALONE)
        holds, _ = add_nnf(draft, _run_d4(everything, len(theory.order), time_limit), variables)
        return finish(draft, holds, None, variables, "the compiled theory")
    draft = Draft(variables.n_symbols, variables.n_values, BOTH_LABELS)
    file = _run_d4(everything, len(theory.order), time_limit)
    holds, fails = add_nnf(draft, file, variables)
    if theory.always or not file.negatable:  # the negation is not that of the theory alone
        clauses = [*theory.always, *violated(theory.theory, len(theory.order))]
        extra = np.full(len(theory.theory), ONE)
        positive, negative = (np.concatenate([rows, extra]) for rows in (variables.positive, variables.negative))
        wider = variables._replace(positive=positive, negative=negative)
        fails, _ = add_nnf(draft, _run_d4(clauses, len(positive) - 1, time_limit), wider)
    return finish(draft, holds, fails, variables, "the compiled theory")


def _run_d4(clauses: Sequence[Clause], n_variables: int, time_limit: float | None) -> NnfFile:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "theory.nnf"
        _run("with_d4", {"clauses": plain(clauses), "n_variables": n_variables, "path": str(path)}, time_limit)
        return parse_nnf(*read_bytes(path))


def plain(clauses: Sequence[Clause]) -> list[list[int]]:
    """The same clauses without empty ones, literals that are there twice, and clauses that always hold: d4 crashes.

    >>> plain([[1, 1], [2, -2]]), plain([[1], []])
    ([[1]], [[1], [-1]])
    """
    sets = [sorted(set(clause)) for clause in clauses]
    if not all(sets):
        return [[1], [-1]]
    return [clause for clause in sets if not any(-literal in clause for literal in clause)] or [[1, -1]]


def violated(clauses: Sequence[Clause], n_variables: int) -> list[list[int]]:
    """Clauses that say that one of some clauses does not hold, with a new variable for each: it is violated."""
    result = [list(range(n_variables + 1, n_variables + 1 + len(clauses)))]
    for variable, clause in enumerate(clauses, n_variables + 1):
        result += [[-variable, -literal] for literal in clause]
        result.append([variable, *clause])
    return result


def _run(script: str, job: dict[str, Any], time_limit: float | None) -> None:
    """Run a compiler. In a process of its own it can be stopped, and what it prints goes nowhere."""
    path = Path(__file__).parent / "compilers" / f"{script}.py"
    try:
        done = subprocess.run(
            [sys.executable, str(path)],
            input=json.dumps(job),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"the compiler did not end within time_limit={time_limit} seconds: give it more time, or try another "
            "compiler"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"the compiler failed, it may have run out of memory: {reason}")
