"""A graph of factors: inference on it, and what its labels mean. ``em.FactorGraph`` says how one is built."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, load_kernels, small_kernels_for
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.factor_graphs.complement import complement
from emnesy_gpu.factor_graphs.cycles import rounds_of
from emnesy_gpu.factor_graphs.observed import Entry, digits_of
from emnesy_gpu.factor_graphs.potentials import Potential, of_one_path
from emnesy_gpu.factor_graphs.score import make_score
from emnesy_gpu.factor_graphs.tables import ContradictionError, Scoped, make_tables
from emnesy_gpu.inference import tree_samples, weighted_samples
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.factor_weights import Weights, count_held, log_weight
from emnesy_gpu.inference.given_label import given_one_of
from emnesy_gpu.inference.results import Beliefs, MapAssignment, Marginals, is_possible
from emnesy_gpu.inference.settings import LoopySettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.factor_graph_tables import SERIAL, Compiled, LabelDigits
from emnesy_gpu.kernels.score_tables import CompiledScore
from emnesy_gpu.ops.factor_graph import factor_graph_belief_propagation, factor_graph_map
from emnesy_gpu.ops.registry import is_unwatched
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.scored import ScoredProblem
from emnesy_gpu.problems.symbols import checked_symbols

NOT_GIVEN = -1
"""The label of a row of which nothing is said: its posterior is that given all factors, as for label 1."""

LABELS = "1 (all factors hold), 0 (some factor fails) or -1 (not given)"

HOST = torch.device("cpu")


class FactorGraphProblem(ScoredProblem):
    """Symbols that share factors; inference on them is exact on trees, and loopy elsewhere.

    sizes: how many values each symbol has. factors: each with the symbols that it reads.
    """

    label_shape: tuple[int, ...] = ()
    any_label = NOT_GIVEN

    def __init__(self, sizes: Sequence[int], latent_shape: tuple[int, ...], factors: Sequence[Scoped] = ()) -> None:
        self.n_variables, self.cardinality, self.latent_shape = len(sizes), max(sizes), latent_shape
        self._sizes, self._factors = list(sizes), list(factors)
        self._entries: list[Entry] = []
        self._hard = True
        self._forget()

    def _forget(self) -> None:
        """Drop all that has been made of the factors."""
        self._tables: dict[torch.device, Compiled] = {}
        self._searched: dict[torch.device, Compiled] = {}
        self._digits: dict[torch.device, LabelDigits] = {}
        self._scores: dict[torch.device, CompiledScore | None] = {}
        self.calls_of_few_rows.clear()
        self._failing: list[FactorGraphProblem] | None = None
        self._is_tree = True

    def __repr__(self) -> str:
        return f"FactorGraph({self.n_variables} variables, {self.n_factors} factors, cardinality={self.cardinality})"

    @property
    def n_factors(self) -> int:
        return len(self._factors)

    def tables(self, device: torch.device) -> Compiled:
        """The graph on a device, compiled and copied there once after the last factor was added."""
        if HOST not in self._tables:
            self._tables[HOST], self._is_tree = make_tables(self._sizes, self._factors)
        if device not in self._tables:
            self._tables[device] = self._tables[HOST].to(device)
        return self._tables[device]

    def _tables_of_search(self, device: torch.device) -> Compiled:
        """As ``tables``, with one path for an assignment: then maxima over paths are maxima over assignments."""
        if device not in self._searched:
            found: dict[int, Potential] = {}
            for potential, scope in self._factors:
                if id(potential) not in found:
                    found[id(potential)] = of_one_path(potential, [self._sizes[i] for i in scope])
            factors = [(found[id(potential)], scope) for potential, scope in self._factors]
            same = all(new is old for (new, _), (old, _) in zip(factors, self._factors, strict=True))
            self._searched[device] = self.tables(device) if same else make_tables(self._sizes, factors)[0].to(device)
        return self._searched[device]

    def _weights(self, device: torch.device) -> Weights:
        return Weights(self.tables(device), self.tables(HOST))

    @property
    def is_tree(self) -> bool:
        self.tables(HOST)
        return self._is_tree

    @property
    def tractable(self) -> bool:  # type: ignore[override]
        """Whether inference is exact: on a tree."""
        return self.is_tree

    @property
    def limit(self) -> str:  # type: ignore[override]
        """What keeps exact inference from the graph; "" where nothing does."""
        return "" if self.is_tree else "its factors form a cycle"

    def label(self, z: Tensor) -> Tensor:
        """Whether all factors hold, 1 or 0: int64 [..., *latent_shape] -> [...].

        Raises TypeError and ValueError for a wrong dtype or shape and for values outside 0..cardinality-1;
        UnsupportedInference for graphs with weights: there the label is no function of the symbols.
        """
        symbols = checked_symbols(z, self.latent_shape, self.cardinality)
        if self._entries:
            return self._labels_of(symbols)
        self._check_hard()
        return (log_weight(symbols, self._weights(z.device)) > float("-inf")).long()

    def _labels_of(self, symbols: Tensor) -> Tensor:
        """The label of each entry, int64 [..., P] of symbols [..., n]; -1 where its factor has none."""
        found = []
        for observed, scope, _ in self._entries:
            if observed.rule is None:
                raise UnsupportedInference(f"{self!r} has tables of labels: its label is no function of the symbols")
            found.append(observed.rule.label(symbols[..., scope].unflatten(-1, observed.rule.latent_shape)))
        return torch.stack(found, -1)

    def log_weight(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The log of the product of all factors, float64 [...], -inf where one does not hold; z as for ``label``.

        label: int64 [..., entries], all given, of a graph whose label has entries. Raises ValueError for others.

        >>> import torch, emnesy_gpu as em
        >>> graph = em.FactorGraph(n_variables=2, cardinality=2)
        >>> graph.add(em.factors.table([[4.0, 1.0], [1.0, 4.0]]), (0, 1))
        >>> graph.log_weight(torch.tensor([[1, 1], [0, 1]])).exp().tolist()
        [4.0, 1.0]
        """
        symbols = checked_symbols(z, self.latent_shape, self.cardinality)
        if label is not None:
            checks.is_tensor("label", label)
        if self._entries:
            if label is None:
                raise TypeError(f"label must be given: that of {self!r} has {len(self._entries)} entries")
            self._check_entries(self._digits_on(label.device), label)
            if (label == NOT_GIVEN).any():
                raise ValueError("label must have all entries given, got -1 (not given) among them")
            symbols = self._with_digits(symbols, label)
        return log_weight(symbols, self._weights(z.device))

    def _with_digits(self, symbols: Tensor, label: Tensor) -> Tensor:
        """Symbols [..., n] and the digits of labels [..., P] after them."""
        values = self._digits_on(symbols.device).values(label)
        return torch.cat([symbols, values.expand(*symbols.shape[:-1], -1)], -1)

    def _digits_on(self, device: torch.device) -> LabelDigits:
        if device not in self._digits:
            self._digits[device] = digits_of(self._entries, self.cardinality, device)
        return self._digits[device]

    def _inputs(self, logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits of all symbols that factors read, [batch, symbols, K], and the label of the operators, [batch].

        With entries also the log of the probability that digits of those which are not given take, [batch].
        """
        if not self._entries:
            return logits, self._held(label, check), None
        digits = self._digits_on(label.device)
        if check:
            self._check_entries(digits, label)
        kernels = small_kernels_for("label_digits", label.device)
        symbols, held, log_share = kernels.with_digits(logits.flatten(1, -2), self._with_sums(label), digits)
        return symbols, held, log_share

    def _with_sums(self, label: Tensor) -> Tensor:
        """Labels [..., P], where those that are not given have the code of all labels, if their factor has one.

        Of such factors larger codes become one that no label has.
        """
        if not any(entry.observed.has_sum for entry in self._entries):
            return label
        codes = [entry.observed.n if entry.observed.has_sum else NOT_GIVEN for entry in self._entries]
        all_labels = constant(tuple(codes), torch.int64, label.device)
        known = torch.where((all_labels >= 0) & (label >= all_labels), all_labels + 1, label)
        return torch.where(known == NOT_GIVEN, all_labels, known)

    def _check_entries(self, digits: LabelDigits, label: Tensor) -> None:
        rows = label.reshape(-1, len(self._entries))
        unknown = ~digits.is_known(self._with_sums(rows))
        if unknown.any():
            row, digit = unknown.nonzero()[0].tolist()
            entry = int(digits.entry[digit])
            n_labels, got = self._entries[entry].observed.n, int(rows[row, entry])
            raise ValueError(f"label[{row}, {entry}] must be in 0..{n_labels - 1}, or -1 (not given), got {got}")

    def _own(self, results: Sequence[Tensor], logits: Tensor, log_share: Tensor | None) -> Marginals:
        """The results of an operator for the symbols of the graph, without those of digits."""
        marginals, log_evidence, status = results
        if log_share is None:
            return Marginals.from_operator(results)
        kernels = small_kernels_for("label_digits", logits.device)
        log_evidence, possible = kernels.without_digits(log_evidence, status, log_share)
        return Marginals(marginals[:, : self.n_variables].reshape(logits.shape), log_evidence, possible)

    def _check_hard(self) -> None:
        if not self._hard:
            raise UnsupportedInference(f"{self!r} has weights: its label is no function of the symbols")

    @opaque
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        tables = self.tables(logits.device).to_list()
        settings = 1, 0.0, SERIAL, 0.0, False, check  # one sweep from the leaves to the roots and back
        *inputs, log_share = self._inputs(logits, label, check)
        results = factor_graph_belief_propagation(*inputs, tables, *settings)[:3]
        return self._with_failures(self._own(results, logits, log_share), logits, label, inputs[1], check)

    @opaque
    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        """The factors are those of the graph: ``settings.factors`` is not read."""
        numbers = settings.iterations, settings.damping, settings.schedule, settings.tolerance
        tables, (*inputs, log_share) = self.tables(logits.device).to_list(), self._inputs(logits, label, check)
        *results, sweeps, change = factor_graph_belief_propagation(*inputs, tables, *numbers, False, check)
        marginals = self._own(results, logits, log_share)
        return Beliefs(self._with_failures(marginals, logits, label, inputs[1], check), sweeps, change)

    def _few_beliefs(
        self, logits: Tensor, label: Tensor, settings: LoopySettings, limit: float
    ) -> tuple[Tensor, ...] | None:
        """``loopy_marginals`` of few rows by the shortest way; None where it does not lead to the end.

        Returns marginals, log evidence, possible, sweeps, change, and whether it is below a limit.
        """
        if not is_unwatched(logits) or self._entries or backend_for(HOST) != "cpu":
            return None
        kernels, kind = load_kernels("cpu", "factor_graph"), (settings.schedule, len(logits))
        calls = self.calls_of_few_rows
        if kind not in calls:
            calls[kind] = kernels.call_of_few_rows(self.tables(HOST).to_list(), *kind)
        few = calls[kind]
        if few is None:
            return None
        numbers = settings.iterations, settings.damping, settings.tolerance
        found: tuple[Tensor, ...] | None = kernels.few_beliefs(few, logits, label, limit, *numbers)
        return found

    loopy_marginals.few_rows = _few_beliefs  # type: ignore[attr-defined]

    @opaque
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """A search, by max-product belief propagation and decimation; on a tree it finds a best assignment.

        A noisy or, or an automaton, in which assignments take several paths is a table here; with more than 2^14
        assignments it is not, and the search maximises over paths. ``valid`` says whether all factors hold. Ties go to
        the first symbol and value that is fixed.
        """
        tables, (*inputs, log_share) = (
            self._tables_of_search(logits.device).to_list(),
            self._inputs(logits, label, check),
        )
        z, log_joint, status, valid = factor_graph_map(*inputs, tables, check)
        if log_share is not None:
            kernels = small_kernels_for("label_digits", label.device)
            log_joint, possible = kernels.without_digits(log_joint, status, log_share)
            return MapAssignment(z[:, : self.n_variables].reshape(logits.shape[:-1]), log_joint, possible, valid)
        best = MapAssignment(z, log_joint, is_possible(status), valid)
        rows = _rows_with_0(label, check)
        if len(rows):
            found = [graph.map_assignment(logits[rows], torch.ones_like(rows), check) for graph in self._failures()]
            best.possible[rows] = False
            for result in found:
                better = (result.log_joint > best.log_joint[rows]) | ~best.possible[rows]
                for column, values in zip(best, result, strict=True):
                    assert column is not None
                    column[rows[better]] = values[better]  # type: ignore[index]
            best.log_joint[rows[~best.possible[rows]]] = -torch.inf
        return best

    @opaque
    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        """Symbols are drawn in rounds, each from exact marginals given all that have been drawn.

        A tree takes a round for each symbol on its longest path, and for each of a factor; label 0 for every symbol.
        """
        if check:
            self.exact_marginals(logits, label, True)  # raises for values that are not allowed
        draws = n_samples, seed, first_row
        symbols, rounds = logits.flatten(1, -2), self._rounds()
        drawn = tree_samples.sample(self._marginals_of, symbols, label, rounds, draws)
        if not self._entries:
            for row in _rows_with_0(label, check).tolist():  # nothing is independent given that some factor fails
                one, each = slice(row, row + 1), [[i] for i in range(self.n_variables)]
                draws = n_samples, seed, first_row + row
                drawn[:, one] = tree_samples.sample(self._marginals_of, symbols[one], label[one], each, draws)
        return drawn.view(n_samples, *logits.shape[:-1])

    def _marginals_of(self, symbols: Tensor, label: Tensor) -> Tensor:
        """Exact marginals [rows, n, K] of symbols [rows, n, K]."""
        logits = symbols.view(-1, *self.latent_shape, self.cardinality)
        return self.exact_marginals(logits, label, False).marginals.flatten(1, -2)

    def _rounds(self) -> list[list[int]]:
        """The symbols of the graph in rounds of which each is independent given those before."""
        graph, scopes = self.tables(HOST).graph, self._scopes()
        towards_root = graph.order[: len(scopes)].tolist()
        found = rounds_of(scopes, towards_root[::-1], len(self._sizes))
        own = [[i for i in variables if i < self.n_variables] for variables in found]
        return [variables for variables in own if variables]

    def _scopes(self) -> list[list[int]]:
        """The symbols of each factor of two or more."""
        graph = self.tables(HOST).graph
        first = graph.first.tolist()
        variable = graph.variable.tolist()
        return [variable[begin:end] for begin, end in itertools.pairwise(first)]

    def _held(self, label: Tensor, check: bool) -> Tensor:
        """Label 0 as 1, where it can be computed; raises UnsupportedInference where it cannot."""
        if not _has_0(label, check):
            return label
        self._check_hard()
        if not self.is_tree:
            raise UnsupportedInference(
                f"{self!r} has a cycle: the posterior given label 0 needs the exact evidence, which only trees have"
            )
        return label.masked_fill(label == 0, 1)

    def _failures(self) -> list[FactorGraphProblem]:
        """For each factor that can fail, the graph in which all factors before it hold, and it does not."""
        if self._failing is None:
            self._failing = []
            for number, (potential, scope) in enumerate(self._factors):
                fails = complement(potential, [self._sizes[i] for i in scope])
                if fails is not None:
                    self._failing += self._if_possible([*self._factors[:number], (fails, scope)])
        return self._failing

    def _if_possible(self, factors: list[Scoped]) -> list[FactorGraphProblem]:
        """The graph of other factors over the same symbols; none if a symbol has no value left."""
        graph = FactorGraphProblem(self._sizes, self.latent_shape, factors)
        try:
            graph.tables(HOST)
        except ContradictionError:
            return []
        return [graph]

    def _with_failures(self, results: Marginals, logits: Tensor, label: Tensor, held: Tensor, check: bool) -> Marginals:
        """The results with those of rows with label 0: some factor is the first that fails.

        held: the label that the operator was given, which is another one where there are such rows.
        """
        if self._entries or held is label:
            return results
        rows = _rows_with_0(label, check)
        some, ones = logits[rows].double(), torch.ones_like(rows)
        parts = [graph.exact_marginals(some, ones, check) for graph in self._failures()]
        for column, values in zip(results, given_one_of(parts, some), strict=True):
            column[rows] = values.to(column.dtype)
        return results

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        self._check_hard()
        if check and self._entries:
            self._check_entries(self._digits_on(label.device), label)
            weighted_samples.check_values(logits, torch.ones_like(label[:, 0]), 2, LABELS)
        elif check:
            weighted_samples.check_values(logits, label.where(label != NOT_GIVEN, 1), 2, LABELS)

    @property
    def _score(self) -> Score:
        n_constraints = 1 + len(self.tables(HOST).graph.kind)
        return Score(self._satisfied, n_constraints, compiled=self._compiled_score)

    def _compiled_score(self, label: Tensor) -> CompiledScore | None:
        if any(entry.observed.rule is None for entry in self._entries):
            return None
        if label.device not in self._scores:
            unary = self.tables(HOST).graph.unary.numpy()
            made = make_score(self._factors, unary, self.n_variables, self._digit_places())
            self._scores[label.device] = None if made is None else made.to(label.device)
        return self._scores[label.device]

    def _digit_places(self) -> list[tuple[int, int]]:
        """The entry of the label and the power of the base of each further symbol."""
        if not self._entries:
            return []
        digits = self._digits_on(HOST)
        return list(zip(digits.entry.tolist(), digits.power.tolist(), strict=True))

    def _satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        """How many constraints z [samples, batch, *latent_shape] satisfies; given label 0 all of them or none."""
        weights, symbols = self._weights(z.device), z.flatten(2)
        if self._entries:
            given = torch.where(label == NOT_GIVEN, self._labels_of(symbols).clamp_min(0), label)
            return count_held(self._with_digits(symbols, given), weights)
        held, n = count_held(symbols, weights), 1 + len(weights.host.graph.kind)
        return torch.where(label == 0, (held < n) * n, held)


def _has_0(label: Tensor, check: bool) -> bool:
    """Whether there are such rows; that few have none is found in Python, where it costs least."""
    if label.device.type == "cpu" and label.numel() <= checks.FEW_ROWS:
        return 0 in label.tolist()
    return len(_rows_with_0(label, check)) > 0


def _rows_with_0(label: Tensor, check: bool) -> Tensor:
    """The rows with label 0, int64 [rows]; on a GPU without checks none: nobody waits for an answer."""
    if label.device.type != "cpu" and not check:
        return label.new_empty(0)
    return (label == 0).nonzero()[:, 0]
