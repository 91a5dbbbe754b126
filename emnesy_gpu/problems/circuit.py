"""Knowledge as a circuit: exact posteriors by one pass up and one pass down."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.automata.explore import MAX_STATES
from emnesy_gpu.automata.labels import declared_labels
from emnesy_gpu.circuits.cnf import Compiler, CompilerSettings, compile_clauses
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.dimacs import ClauseSource
from emnesy_gpu.circuits.files import Folder, load
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.notes import read_notes
from emnesy_gpu.circuits.program import Program, compile_predicate, compile_program
from emnesy_gpu.circuits.readers import read_nnf, read_sdd
from emnesy_gpu.circuits.readers.variables import Symbols
from emnesy_gpu.logic import Formula, to_graph
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.problems.circuit_problem import CircuitProblem
from emnesy_gpu.problems.symbols import checked_cardinalities, checked_latent_shape, checked_order


def _labels(labels: object, sizes: Sequence[int]) -> list[tuple[Hashable, ...]]:
    """The labels of the values of each entry; TypeError or ValueError for ones of another circuit."""
    entries = checks.items("labels", labels, "the labels of each entry, a sequence of sequences")
    found = [checks.items(f"labels[{index}]", entry, "a sequence of labels") for index, entry in enumerate(entries)]
    if [len(entry) for entry in found] != list(sizes):
        raise ValueError(f"labels must have entries of {list(sizes)} values, got {labels!r}")
    return found


class Circuit(CircuitProblem):
    """Knowledge about symbols as a sum-product circuit, compiled once.

    With p_i = softmax(logits[i]), Z(y) the value of the root and D(i, v) its derivative with respect to leaf (i, v),

        p(y | x) = Z(y)        p(z_i = v | x, y) = p_i(v) D(i, v) / Z(y) + p_i(v) (1 - sum_u p_i(u) D(i, u) / Z(y))

    Values and derivatives are probabilities of a decomposable, deterministic circuit, so nothing overflows. The last
    term is of parts that do not mention the symbol. Labels enter as leaves too: rows with different labels share the
    circuit, and label 0 of a theory has a part of its own, in place of 1 - p. (Darwiche, "A differential approach to
    inference in Bayesian networks", 2003; Choi, Vergari and Van den Broeck, "Probabilistic circuits", 2020.)

    The class takes formulas of ``em.logic``. ``from_program`` compiles a step function, ``from_automaton`` an
    ``em.Automaton``, ``from_predicate`` any function that can be asked for all assignments, ``from_cnf`` clauses;
    ``from_sdd`` and ``from_nnf`` read compiled files. A long chain of equal steps is better kept as an
    ``em.Automaton``, which needs no nodes for each position: ``em.compile_rule`` chooses between the two.

    Cost per row: O(edges), for evidence and all marginals together.

    Args:
        knowledge: a formula of ``em.logic``, whose label is whether it holds, or a ``circuits.Graph``.
        latent_shape: the shape of the symbols; by default a row of all symbols of the knowledge.
        labels: for a graph, the labels of the values of each entry; by default 0, 1, ...

    Attributes:
        latent_shape, cardinality, label_shape, labels: as for ``em.Automaton``, also how labels are given.
        graph: the circuit.
        n_edges, n_nodes, levels: its size: terms, nodes, and the longest way from the root to a leaf.
        notes: for formulas and clauses, the "method" with the order of symbols that was taken, and what others gave.

    Rows whose label is impossible keep their prior, with log evidence -inf. Marginals of float32 logits are within 1e-6
    of those in exact arithmetic: what probabilities in float32 cannot hold is repeated in float64, then in logarithms.
    The same bits in any batch and with any number of threads.

    >>> import torch, emnesy_gpu as em
    >>> def step(used, value, position):
    ...     return None if value in used else used | {value}
    >>> orders = em.Circuit.from_program(step, n_symbols=3, cardinality=3, start=frozenset())     # permutations
    >>> orders.model_count(True), orders.n_edges
    (6, 12)
    >>> logits = torch.zeros(1, 3, 3)
    >>> logits[0, 0, 2] = 50.0                                                                    # the first is 2
    >>> post = em.posterior(orders, logits, orders.encode([True]))
    >>> [round(q, 3) for q in post.marginals[0, 1].tolist()]
    [0.5, 0.5, 0.0]
    """

    def __init__(
        self,
        knowledge: Any,
        *,
        latent_shape: Sequence[int] | None = None,
        labels: Sequence[Sequence[Hashable]] | None = None,
    ) -> None:
        notes = {}
        if isinstance(knowledge, Formula):
            latent_shape = knowledge.latent_shape if latent_shape is None else latent_shape
            knowledge, method, _, tried = to_graph(knowledge)
            notes = tried | {"method": method}
        checks.is_instance("knowledge", knowledge, Graph, "a formula of em.logic or a circuits.Graph")
        names = [range(size) for size in knowledge.given] if labels is None else _labels(labels, knowledge.given)
        super().__init__(knowledge, latent_shape, names, has_entries=len(names) > 1)
        self.notes = notes

    @classmethod
    def from_program(
        cls,
        step: Callable[..., Any],
        n_symbols: int | None = None,
        cardinality: int | None = None,
        finish: Callable[[Any], Any] | None = None,
        *,
        start: Hashable = 0,
        given: Sequence[int] = (),
        labels: Iterable[Hashable] = (),
        latent_shape: Sequence[int] | None = None,
        order: Sequence[int] | None = None,
        cardinalities: Sequence[int] | None = None,
        max_states: int = MAX_STATES,
        arrays: bool = False,
    ) -> Circuit:
        """From a program that reads the symbols one after the other: a multi-valued decision diagram.

        Args:
            step: (state, value, position) -> the next state, any hashable, or None where the program forbids the value.
            n_symbols, cardinality, start, latent_shape, order, cardinalities, max_states, labels: as for
                ``em.Automaton``; latent_shape is that of all symbols that the program reads.
            finish: last state -> the label, None for a state that no label has. By default every last state has the
                label True.
            given: positions of symbols that the label gives, such as the digits of a sum that the program reads in
                between. The label is then the sequence of these values, finish says whether a last state is accepted,
                and latent_shape is (number of the other symbols,). The other symbols must determine these values. Known
                symbols, such as the clues of a puzzle, belong in the logits.
            arrays: step and finish take and return integer arrays, and a negative number stands for None: step gets
                states [S, 1] and values [1, K], finish states [S]. Larger programs compile in less time.

        Raises ValueError and TypeError as ``em.Automaton`` does, and ValueError for a program that accepts some symbols
        with several labels.

        The parity of bits, and sums of two digits with carries, whose label digits the program reads:

        >>> import torch, emnesy_gpu as em
        >>> parity = em.Circuit.from_program(lambda s, v, i: s ^ v, 20, 2, lambda s: s, arrays=True)
        >>> parity.label_shape, parity.model_count(1)
        ((), 524288)
        >>> def add(state, value, position):
        ...     return state + value if position < 2 else (state // 10 if state % 10 == value else None)
        >>> total = em.Circuit.from_program(add, 4, 10, lambda carry: carry == 0, given=(2, 3))
        >>> post = em.posterior(total, torch.zeros(1, 2, 10), torch.tensor([[8, 1]]))                  # 9 + 9 = 18
        >>> round(post.marginals[0, 0, 9].item(), 3)
        1.0
        """
        checks.is_integer("max_states", max_states, 1, None)
        checks.is_flag("arrays", arrays)
        checks.is_function("step", step)
        if finish is not None:
            checks.is_function("finish", finish)
        read = checked_latent_shape(n_symbols, latent_shape, cardinalities)
        sizes = checked_cardinalities(prod(read), cardinality, cardinalities)
        positions = checks.integers("given", given, 0, len(sizes) - 1)
        program = Program(step, start, finish, positions, declared_labels(labels), arrays)
        places = None if order is None else checked_order(order, prod(read) - len(positions)).tolist()
        compiled = compile_program(program, sizes, places, max_states)
        return cls._made(compiled.graph, None if positions else read, compiled.labels, has_entries=bool(positions))

    @classmethod
    def from_automaton(cls, rule: Automaton) -> Circuit:
        """The same rule as a circuit: same symbols, labels and codes.

        Raises ValueError for an automaton with weighted edges or noisy labels.

        >>> import emnesy_gpu as em
        >>> em.Circuit.from_automaton(em.rules.exactly(8, 2, values=[1], k=3)).model_count(1)
        56
        """
        checks.is_instance("rule", rule, Automaton, "an em.Automaton")
        order = rule._order_on(torch.device("cpu"))
        graph = machine_graph(rule.machine, order=None if order is None else order.symbols.tolist())
        entries = [seen.labels for seen in rule.machine.observed.values()]
        return cls._made(graph, rule.latent_shape, entries, has_entries=bool(rule.label_shape))

    @classmethod
    def from_predicate(
        cls,
        holds: Callable[[Tensor], Tensor],
        latent_shape: Sequence[int],
        cardinality: int,
        max_states: int = MAX_STATES,
    ) -> Circuit:
        """From a function that is asked for all assignments, at most 2^20; the label is what it returns.

        Args:
            holds: z int64 [assignments, *latent_shape] -> bools or integers >= 0 [assignments].
            latent_shape, cardinality: of the symbols.
            max_states: the most states of the diagram after any symbol.

        Raises ValueError for more assignments, and for results of a wrong dtype, shape or value.

        >>> import emnesy_gpu as em
        >>> same = em.Circuit.from_predicate(lambda z: z[:, 0] == z[:, 2], latent_shape=(3,), cardinality=4)
        >>> same.model_count(True), same.n_edges
        (16, 24)
        """
        checks.is_shape("latent_shape", latent_shape)
        checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
        checks.is_integer("max_states", max_states, 1, None)
        checks.is_function("holds", holds)
        compiled = compile_predicate(holds, tuple(latent_shape), cardinality, max_states)
        return cls._made(compiled.graph, latent_shape, compiled.labels, has_entries=False)

    @classmethod
    def from_cnf(
        cls,
        clauses: ClauseSource,
        symbols: Symbols = "bits",
        *,
        n_symbols: int | None = None,
        free: Iterable[int] = (),
        compiler: Compiler = "auto",
        time_limit: float | None = None,
        cache: Folder = None,
        latent_shape: Sequence[int] | None = None,
    ) -> Circuit:
        """From clauses that all must hold; the label says whether they do, 1 or 0.

        It needs PySDD (pip install "emnesy_gpu[circuits]") or d4 (pip install d4solver).

        Args:
            clauses: the path of a DIMACS file, its text, or sequences of literals (v for variable v, -v for not v).
            symbols: "bits", where variable v is the symbol v - 1 with values 0 and 1; or {variable: (symbol, value)}.
                A symbol with a variable for each value has exactly one of them: this is added to the clauses.
            n_symbols: how many symbols there are, where some are in no clause.
            free: auxiliary variables, which no symbol stands for.
            compiler: "sdd", "d4", or "auto": PySDD for values and d4 for bits, or the one that is installed.
            time_limit: seconds, after which TimeoutError is raised.
            cache: a folder where results are kept by their content, or True for that of the package.
            latent_shape: the shape of the symbols.

        Raises ModuleNotFoundError without a compiler, RuntimeError where it fails, ValueError for variables without a
        meaning. With free variables d4 makes a circuit for the label 1 alone.

        >>> import importlib.util, emnesy_gpu as em
        >>> if importlib.util.find_spec("pysdd"):
        ...     clauses = em.Circuit.from_cnf([[1, 2], [-1, 3]], compiler="sdd")
        ...     print(clauses.model_count(1), clauses.model_count(0))
        4 4
        """
        settings = CompilerSettings(compiler, time_limit, cache)
        graph, method, tried = compile_clauses(clauses, symbols, n_symbols=n_symbols, free=free, settings=settings)
        circuit = cls._theory(graph, latent_shape)
        circuit.notes = tried | {"method": method}
        return circuit

    @classmethod
    def from_sdd(
        cls,
        path: str | PathLike[str],
        symbols: Symbols = "bits",
        *,
        n_symbols: int | None = None,
        free: Iterable[int] = (),
        with_negation: bool = True,
        latent_shape: Sequence[int] | None = None,
    ) -> Circuit:
        """From an .sdd file; the label 1 says that the theory holds, and 0, for bits alone, that it does not.

        Arguments: as for ``from_cnf``; with_negation=False leaves out the label 0, for about half the circuit. Raises
        CircuitFileError, a ValueError, for what is no such file.
        """
        graph = read_sdd(path, symbols, n_symbols=n_symbols, free=free, with_negation=with_negation)
        return cls._theory(graph, latent_shape)

    @classmethod
    def from_nnf(
        cls,
        path: str | PathLike[str],
        symbols: Symbols = "bits",
        *,
        n_symbols: int | None = None,
        free: Iterable[int] = (),
        with_negation: bool = True,
        latent_shape: Sequence[int] | None = None,
    ) -> Circuit:
        """From an .nnf file of c2d, dsharp or d4, in their deterministic and decomposable form; the label is 1.

        For a file of d4 over bits the label may be 0 too.

        Arguments: as for ``from_cnf``; with_negation=False leaves out the label 0, for about half the circuit. Raises
        CircuitFileError, a ValueError, for what is no such file.
        """
        graph = read_nnf(path, symbols, n_symbols=n_symbols, free=free, with_negation=with_negation)
        return cls._theory(graph, latent_shape)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Circuit:
        """Read what ``save`` wrote. Raises CircuitFileError, a ValueError, for any other file."""
        graph, notes = load(path)
        shape, labels, has_entries = read_notes(notes, graph, path)
        return cls._made(graph, shape, labels, has_entries=has_entries)

    @classmethod
    def _theory(cls, graph: Graph, latent_shape: Sequence[int] | None) -> Circuit:
        """A theory whose label is 1 where it holds, and 0, if the circuit has a part for that, where it does not."""
        return cls._made(graph, latent_shape, [(1,) if graph.given == (1,) else (0, 1)], has_entries=False)

    @classmethod
    def _made(
        cls,
        graph: Graph,
        latent_shape: Sequence[int] | None,
        labels: Sequence[Sequence[Hashable]],
        *,
        has_entries: bool,
    ) -> Circuit:
        circuit = cls.__new__(cls)
        CircuitProblem.__init__(circuit, graph, latent_shape, labels, has_entries=has_entries)
        return circuit
