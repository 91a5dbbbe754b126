"""From formulas to circuits: the product of the automata of the constraints, or clauses and a knowledge compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from emnesy_gpu import checks
from emnesy_gpu.automata.compile import compile_step_at
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.circuits.cnf import (
    CompiledClauses,
    CompilerSettings,
    Theory,
    compile_theory,
    exactly_one,
    variable_order,
)
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.orders import Order
from emnesy_gpu.circuits.readers.variables import make_variables
from emnesy_gpu.errors import TooManyStatesError
from emnesy_gpu.logic.automata import OrderError, whole
from emnesy_gpu.logic.clauses import Encoder
from emnesy_gpu.logic.orders import orders

if TYPE_CHECKING:
    from emnesy_gpu.logic.formulas import Formula

MAX_STATES = 1 << 14
"""States after each symbol. A step of a large formula takes some microseconds, so this bounds a compilation to about a
minute; larger products are rarely smaller than what a knowledge compiler finds."""


class Told(NamedTuple):
    """A circuit, and how it was made: its order and the name of the way, and the edges that other ways gave.

    order: the symbol at each position, None for clauses.
    """

    graph: Graph
    method: str
    order: Order | None
    tried: dict[str, str]


def to_graph(
    formula: Formula,
    *,
    order: Sequence[int] | None = None,
    max_states: int = MAX_STATES,
    clauses: CompilerSettings | bool = True,
) -> Told:
    """The circuit of a formula; its label says whether the formula holds: 0 or 1.

    A formula is the product of the automata of its constraints, read along the symbols: a decision diagram. Some orders
    of the symbols are tried, and the circuit with the fewest edges is kept. Where the product has too many states in
    each of them, the formula becomes clauses for a knowledge compiler.

    Args:
        formula: of ``em.logic``.
        order: the indices of ``formula.symbols`` in the order in which they are read, the only one that is tried.
        max_states: the most states after each symbol; 0 takes clauses at once.
        clauses: settings of the compiler; False: only automata.

    Raises TooManyStatesError where the product is too large and clauses is False, and what ``cnf.compile_clauses``
    raises where no compiler is installed, or it takes too long.

    >>> from emnesy_gpu import logic
    >>> z = logic.symbols(4, cardinality=4)
    >>> found = logic.to_graph(logic.all_different(z))
    >>> found.method, found.order
    ('automaton as given', [0, 1, 2, 3])
    """
    if isinstance(formula, type) or not hasattr(formula, "reader"):
        raise TypeError(f"formula must be a formula of em.logic, got {formula!r}")
    checks.is_integer("max_states", max_states, 0, None)
    if not isinstance(clauses, (bool, CompilerSettings)):
        raise TypeError(f"clauses must be True, False or a CompilerSettings, got {clauses!r}")
    if not formula.symbols:
        raise ValueError(f"the formula {formula!r} mentions no symbol: there is nothing to infer")
    named = [("in this order", _checked(order, len(formula.symbols)))] if order is not None else orders(formula)
    best: Told | None = None
    tried: dict[str, str] = {}
    limit, problem = max_states, None
    for name, places in named:
        try:
            graph, width = _diagram(formula, places, limit)
        except (TooManyStatesError, OrderError) as error:
            problem = problem or error
            tried[name] = str(error)
            continue
        tried[name] = f"{graph.n_edges} edges"
        limit = min(limit, 2 * width)  # wider ones are not smaller
        if best is None or graph.n_edges < best.graph.n_edges:
            best = Told(graph, f"automaton {name}", places, tried)
    if best is not None:
        return best
    assert problem is not None
    if clauses is False:
        raise problem
    settings = CompilerSettings() if clauses is True else clauses
    graph, method, others = _by_clauses(formula, settings)
    return Told(graph, method, None, tried | others)


def _checked(order: Sequence[int], n: int) -> Order:
    places = checks.integers("order", order, 0, None)
    if sorted(places) != list(range(n)):
        raise ValueError(f"order must name every symbol 0..{n - 1} once, got {list(places)!r}")
    return list(places)


def _diagram(formula: Formula, order: Order, max_states: int) -> tuple[Graph, int]:
    """The circuit, and the most states of the minimal automaton at a position."""
    symbols = [formula.symbols[index] for index in order]
    reader = whole(formula.reader({symbol.number: place for place, symbol in enumerate(symbols)}))
    observer = Observer(lambda state: state, None, (False, True))
    sizes = [symbol.cardinality for symbol in symbols]
    machine = compile_step_at(reader.step, reader.start, sizes, observer, max_states)
    return machine_graph(machine, order=order), machine.n_states


def _by_clauses(formula: Formula, settings: CompilerSettings) -> CompiledClauses:
    sizes = [symbol.cardinality for symbol in formula.symbols]
    encoder = Encoder({symbol.number: place for place, symbol in enumerate(formula.symbols)}, sizes)
    theory = formula.demand(encoder)
    free = range(len(encoder.meaning) + 1, encoder.n_variables + 1)
    variables = make_variables(encoder.meaning, n_symbols=len(sizes), free=free)
    one_value = [
        clause
        for position, literals in enumerate(encoder.values)
        if variables.one_hot[position] or len(literals) == 1
        for clause in exactly_one(literals)
    ]
    always = one_value + encoder.clauses
    order = variable_order([*always, *theory], variables)
    return order.told(compile_theory(Theory(always, theory, [], order.variables), variables, settings))
