"""Knowledge as a circuit: exact posteriors by one pass up and one pass down."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks, ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.automata.explore import MAX_STATES
from emnesy_gpu.automata.labels import codes_of
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.evaluate import uniform_evidence
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.program import Program, compile_program
from emnesy_gpu.circuits.tables import Compiled, make_tables
from emnesy_gpu.inference.results import MapAssignment, Marginals
from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.label_rows import check_values
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.problems.coded_rule import NOT_GIVEN, CodedRule
from emnesy_gpu.problems.symbols import checked_cardinalities, checked_latent_shape, checked_order

NARROW_EVIDENCE = 2.0**-60
"""Circuits with less evidence where symbols know nothing are computed in float64: float32 fails for most rows."""


class Circuit(CodedRule):
    """Knowledge about symbols as a sum-product circuit, compiled once.

    With p_i = softmax(logits[i]), Z(y) the value of the root and D(i, v) its derivative with respect to leaf (i, v),

        p(y | x) = Z(y)        p(z_i = v | x, y) = p_i(v) D(i, v) / Z(y) + p_i(v) (1 - sum_u p_i(u) D(i, u) / Z(y))

    Values and derivatives are probabilities of a decomposable, deterministic circuit, so nothing overflows. The last
    term is of parts that do not mention the symbol. Labels enter as leaves too: rows with different labels share the
    circuit, and label 0 of a theory has a part of its own, in place of 1 - p. (Darwiche, "A differential approach to
    inference in Bayesian networks", 2003; Choi, Vergari and Van den Broeck, "Probabilistic circuits", 2020.)

    ``from_program`` compiles a step function, ``from_automaton`` an ``em.Automaton``, ``from_cnf`` clauses,
    ``from_sdd`` and ``from_nnf`` read compiled files. A chain of many equal steps is better kept as an
    ``em.Automaton``, which needs no nodes for each position; ``em.Rule`` chooses between the two.

    Cost per row: O(edges), for evidence and all marginals together.

    Args:
        knowledge: a formula of ``em.logic``, whose label is whether it holds, or a ``circuits.Graph``.
        latent_shape: the shape of the symbols; by default a row of all symbols of the knowledge.
        labels: for a graph, the labels of the values of each entry; by default 0, 1, ...

    Attributes:
        latent_shape, cardinality, label_shape, labels: as for ``em.Automaton``, also how labels are given.
        graph: the circuit.
        n_edges, n_nodes, levels: its size: terms, nodes, and the longest way from the root to a leaf.

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
    >>> em.posterior(orders, logits, orders.encode([True])).marginals[0, 1].tolist()
    [0.5, 0.5, 0.0]
    """

    def __init__(
        self,
        knowledge: Any,
        *,
        latent_shape: Sequence[int] | None = None,
        labels: Sequence[Sequence[Hashable]] | None = None,
    ) -> None:
        graph = knowledge if isinstance(knowledge, Graph) else knowledge.graph()
        names = [range(size) for size in graph.given] if labels is None else labels
        self._set_up(graph, latent_shape, names, has_entries=len(names) > 1)

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
                and latent_shape is (number of the other symbols,).
            arrays: step and finish take and return integer arrays, and a negative number stands for None: step gets
                states [S, 1] and values [1, K], finish states [S]. Larger programs compile in less time.

        Raises ValueError and TypeError as ``em.Automaton`` does.

        The parity of bits, and sums of two digits with carries, whose label digits the program reads:

        >>> import torch, emnesy_gpu as em
        >>> parity = em.Circuit.from_program(lambda s, v, i: s ^ v, 20, 2, lambda s: s, arrays=True)
        >>> parity.label_shape, parity.model_count(1)
        ((), 524288)
        >>> def add(state, value, position):
        ...     return state + value if position < 2 else (state // 10 if state % 10 == value else None)
        >>> total = em.Circuit.from_program(add, 4, 10, lambda carry: carry == 0, given=(2, 3))
        >>> em.posterior(total, torch.zeros(1, 2, 10), torch.tensor([[8, 1]])).marginals[0, 0, 9].item()   # 9 + 9
        1.0
        """
        checks.is_integer("max_states", max_states, 1, None)
        read = checked_latent_shape(n_symbols, latent_shape, cardinalities)
        sizes = checked_cardinalities(prod(read), cardinality, cardinalities)
        program = Program(step, start, finish, tuple(given), tuple(labels), arrays)
        places = None if order is None else checked_order(order, prod(read) - len(given)).tolist()
        compiled = compile_program(program, sizes, places, max_states)
        return cls._made(compiled.graph, None if given else read, compiled.labels, has_entries=bool(given))

    @classmethod
    def from_automaton(cls, rule: Automaton) -> Circuit:
        """The same rule as a circuit: same symbols, labels and codes.

        Raises ValueError for an automaton with weighted edges or noisy labels.

        >>> import emnesy_gpu as em
        >>> em.Circuit.from_automaton(em.rules.exactly(8, 2, values=[1], k=3)).model_count(1)
        56
        """
        graph = machine_graph(rule.machine, order=None if rule._order is None else rule._order.tolist())
        entries = [seen.labels for seen in rule.machine.observed.values()]
        circuit = cls._made(graph, rule.latent_shape, entries, has_entries=bool(rule.label_shape))
        circuit.pad = rule.pad
        return circuit

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
        circuit._set_up(graph, latent_shape, labels, has_entries=has_entries)
        return circuit

    def _set_up(
        self,
        graph: Graph,
        latent_shape: Sequence[int] | None,
        labels: Sequence[Sequence[Hashable]],
        *,
        has_entries: bool,
    ) -> None:
        self.graph, self.cardinality = graph, graph.n_values
        self.latent_shape = (graph.n_symbols,) if latent_shape is None else tuple(latent_shape)
        self._set_codes([codes_of(entry) for entry in labels], has_entries=has_entries)
        self._values = [
            {code[label]: value for value, label in enumerate(entry)}
            for code, entry in zip(self._codes, labels, strict=True)
        ]
        self._wide = uniform_evidence(graph) < NARROW_EVIDENCE
        self._compiled: dict[tuple[torch.device, bool], Compiled] = {}

    @property
    def n_edges(self) -> int:
        return self.graph.n_edges

    @property
    def n_nodes(self) -> int:
        return self.graph.n_nodes

    @property
    def levels(self) -> int:
        return len(self.graph.node_levels) - 1

    def __repr__(self) -> str:
        shape = f"latent_shape={self.latent_shape}, cardinality={self.cardinality}"
        return f"Circuit({shape}, {self.n_edges} edges on {self.levels} levels)"

    def compiled(self, device: torch.device, *, prediction: bool = False) -> Compiled:
        """The circuit as tensors on a device, made and copied once."""
        key = device, prediction
        if key not in self._compiled:
            if device.type == "cpu":
                self._compiled[key] = make_tables(self.graph, self._values, prediction=prediction)
            else:
                host = self.compiled(torch.device("cpu"), prediction=prediction)
                self._compiled[key] = host._replace(tables=host.tables.to(device))
        return self._compiled[key]

    def predict(self, logits: Tensor) -> Tensor:
        """log p(label | x) for all labels by their codes, from one pass over the circuit.

        Args:
            logits: [batch, *latent_shape, cardinality], detached before use.

        Returns:
            [batch, codes], or [batch, entries, codes] for each entry by itself; -inf for codes without a label. float64
            for float64 logits, float32 for all others. Where the rule forbids some assignments, the probabilities of
            all labels sum to less than 1.

        >>> import torch, emnesy_gpu as em
        >>> sums = em.Circuit.from_program(lambda s, v, i: s + v, 2, 3, lambda s: s)
        >>> [round(p, 3) for p in sums.predict(torch.zeros(1, 2, 3)).exp()[0].tolist()]
        [0.111, 0.222, 0.333, 0.222, 0.111]
        """
        checks.is_tensor("logits", logits)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.cardinality))
        by_value, _ = self._predict(logits.detach().flatten(1, -2), True)
        places = self._places_of_codes(by_value.device)
        by_code = by_value.new_full((len(by_value), len(self._codes), places.shape[1]), -torch.inf)
        found = places >= 0
        by_code[:, found] = by_value[:, places[found]]
        return by_code if self.label_shape else by_code[:, 0]

    def _predict(self, symbols: Tensor, check: bool) -> tuple[Tensor, Tensor]:
        tables, tape_rows = self.compiled(symbols.device, prediction=True)
        result: tuple[Tensor, Tensor] = torch.ops.emnesy_gpu.circuit_predict(
            symbols, list(tables), tape_rows, self._wide, check
        )
        return result

    def _places_of_codes(self, device: torch.device) -> Tensor:
        """Where the label leaf of each code lies [M, codes], -1 for codes without a label."""
        codes = self.compiled(device).tables.codes.long()
        first = self.compiled(device).tables.given[:-1, None] - self.graph.n_symbols * self.graph.n_values
        return torch.where(codes > 0, first + codes - 1, -1)

    def _entries(self, symbols: Tensor) -> Tensor:
        lead = symbols.shape[:-1]
        certain = torch.full((*symbols.shape, self.cardinality), -torch.inf, device=symbols.device)
        certain.scatter_(-1, symbols[..., None].long(), 0.0)
        by_value, _ = self._predict(certain.reshape(-1, *certain.shape[-2:]), False)
        codes = []
        for entry, part in zip(self._values, by_value.split(list(self.graph.given), -1), strict=True):
            log_p, value = part.max(-1)
            code_of_value = torch.tensor(list(entry), device=part.device)
            codes.append(torch.where(log_p > -torch.inf, code_of_value[value], NOT_GIVEN))
        return torch.stack(codes, -1).view(*lead, len(codes))

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        arguments = *self._inputs(logits, label), *self._tape(logits)
        marginals, log_evidence, status = torch.ops.emnesy_gpu.circuit_posterior(*arguments, check)
        return Marginals(marginals.view(logits.shape), log_evidence, status == POSSIBLE)

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        arguments = *self._inputs(logits, label), *self._tape(logits)
        gradient, log_evidence, _ = torch.ops.emnesy_gpu.circuit_em_gradient(*arguments, scale, check)
        return gradient.view(logits.shape), log_evidence

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Ties: the first of the terms of a node, and the smallest value of a symbol that no chosen part mentions."""
        z, log_joint, status = torch.ops.emnesy_gpu.circuit_map(*self._inputs(logits, label), check)
        return MapAssignment(z.view(logits.shape[:-1]), log_joint, status == POSSIBLE)

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        arguments = self._inputs(logits, label)
        z, _ = torch.ops.emnesy_gpu.circuit_sample(*arguments, n_samples, seed, first_row, check)
        return z.view(n_samples, len(logits), *self.latent_shape)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        if check:
            symbols, entries, tables = self._inputs(logits, label)
            check_values(symbols, entries, CircuitTables(*tables).codes)

    def _inputs(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [batch, n, K], entries [batch, M], tables."""
        tables = list(self.compiled(logits.device).tables)
        return logits.flatten(1, -2), label.reshape(len(label), len(self._codes)), tables

    def _tape(self, logits: Tensor) -> tuple[int, bool]:
        return self.compiled(logits.device).tape_rows, self._wide
