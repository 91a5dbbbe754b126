"""Any set of factors over hidden symbols: exact on trees, loopy belief propagation elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.factor_graphs.chains import Floats
from emnesy_gpu.factor_graphs.complement import complement
from emnesy_gpu.factor_graphs.cycles import rounds_of
from emnesy_gpu.factor_graphs.networks import checked_network
from emnesy_gpu.factor_graphs.observed import Digits, Entry
from emnesy_gpu.factor_graphs.potentials import Factor, checked_scopes, is_hard, of_table
from emnesy_gpu.factor_graphs.score import make_score
from emnesy_gpu.factor_graphs.tables import ContradictionError, Scoped, make_tables
from emnesy_gpu.factor_graphs.uai import read_uai
from emnesy_gpu.inference import tree_samples, weighted_samples
from emnesy_gpu.inference.factor_weights import Weights, count_held, log_weight
from emnesy_gpu.inference.given_label import given_one_of
from emnesy_gpu.inference.results import Beliefs, MapAssignment, Marginals, is_possible
from emnesy_gpu.inference.settings import LoopySettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.factor_graph_tables import SERIAL, Compiled
from emnesy_gpu.kernels.score_tables import CompiledScore
from emnesy_gpu.ops.factor_graph import factor_graph_belief_propagation, factor_graph_map
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.rule_factor import as_factor
from emnesy_gpu.problems.scored import ScoredProblem
from emnesy_gpu.problems.symbols import checked_cardinalities, checked_shape, checked_symbols

NOT_GIVEN = -1
"""The label of a row of which nothing is said: its posterior is that given all factors, as for label 1."""

LABELS = "1 (all factors hold), 0 (some factor fails) or -1 (not given)"


class FactorGraph(ScoredProblem):
    """Symbols that share factors: constraints and weighted tables, as many as you like, in any graph.

        p(z | y = 1, x) ~ prod_i p(z_i | x) prod_f w_f(z_f)        evidence: sum_z prod_i p(z_i | x) prod_f w_f(z_f)

    A graph without cycles is a tree (or several), and every inference on it is exact: ``em.Exact`` sends messages from
    the leaves to the roots and back. On any other graph ``em.BeliefPropagation`` is approximate: marginals can be far
    off where short cycles of hard constraints meet weak evidence, and ``info["converged"]`` says where it has found no
    fixed point. ``em.MAP`` runs max-product and fixes the most certain symbols, round by round; ``info["valid"]`` says
    whether all factors hold. ``em.ABC``, ``em.Gibbs`` and ``em.Rejection`` work on graphs of hard constraints.

    Cost of a sweep per row: O(K^2) for a factor of two symbols, O(states * values * symbols) for others. A symbol in d
    factors costs O(d K log d) in probabilities on a CPU, and O(d^2 K) elsewhere. Memory: the messages of 32 rows a
    thread, K numbers for each symbol of each factor; on a GPU those of the rows that are under way. Deterministic, and
    independent of the batch. Sources: Kschischang, Frey, Loeliger, "Factor graphs and the sum-product algorithm"
    (2001); Yedidia, Freeman, Weiss, "Constructing free-energy approximations and generalized belief propagation
    algorithms" (2005).

    Args:
        n_variables: how many symbols there are, at least 1.
        cardinality: the number of values of all symbols, or a sequence with that of each. Logits are padded to the
            largest; values that do not exist have posterior 0, give them a logit of -inf.
        latent_shape: the shape of the symbols, such as that of an image; ``(n_variables,)`` if it is left out. Scopes
            count symbols in row-major order.

    Attributes:
        n_factors: how many have been added.
        is_tree: whether there is no cycle.

    A label is 1 (all factors hold), or -1 (not given), which is the same: the factors are the model. Label 0, "some
    factor fails", is exact on a tree of hard constraints (weights 0 and 1), as a sum over the first factor that fails,
    at the cost of a run for each factor; elsewhere it raises UnsupportedInference. On a GPU it needs check=True:
    without checks no label is read on the host, and rows with label 0 get the prior, like those with unknown labels.

    With ``em.factors.observed`` the label has entries, int64 [batch, entries], one for each factor whose label is data:
    the sums of a Kakuro, or which of several tables couples two symbols. All factors hold, and -1 is an entry that is
    not given. A coupling of any strength for each row is a switch: a symbol b of its own and a table over (i, j, b)
    [[[1, 1], [1, 0]], [[1, 0], [1, 1]]], with logits 0 and log(w - 1) of b for the weight w of equal values.

    Raises TypeError and ValueError for numbers out of range, for scopes with unknown or equal symbols, and for factors
    that do not fit their scope.

    A row of a nonogram, and a table that makes neighbours alike:

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=6, cardinality=2)
    >>> graph.add(em.factors.regular("0*1{2}0+1{1}0*"), range(5))
    >>> graph.add(em.factors.pairwise([[2.0, 1.0], [1.0, 2.0]]), [(4, 5)])
    >>> post = em.posterior(graph, torch.zeros(1, 6, 2), torch.tensor([1]))     # a tree: em.Exact() is chosen
    >>> [round(q, 3) for q in post.marginals[0, :, 1].tolist()]                    # 11010, 11001, 01101
    [0.667, 1.0, 0.333, 0.333, 0.667, 0.556]
    """

    latent_shape: tuple[int, ...]
    label_shape: tuple[int, ...] = ()
    any_label = NOT_GIVEN

    def __init__(
        self, n_variables: int, cardinality: int | Sequence[int], *, latent_shape: Sequence[int] | None = None
    ) -> None:
        checks.is_integer("n_variables", n_variables, 1, checks.MOST_SYMBOLS)
        if isinstance(cardinality, int):
            self._sizes = checked_cardinalities(n_variables, cardinality, None)
        else:
            sizes = checks.integers("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
            self._sizes = checked_cardinalities(n_variables, None, sizes)
        self.n_variables, self.cardinality = n_variables, max(self._sizes)
        self.latent_shape = checked_shape(n_variables, latent_shape)
        self._factors: list[Scoped] = []
        self._entries: list[Entry] = []
        self._hard = True
        self._forget()

    @classmethod
    def from_conditional_tables(
        cls, cardinality: int | Sequence[int], tables: Mapping[int, tuple[Sequence[int], Any]]
    ) -> FactorGraph:
        """A Bayesian network: p(z) = prod_i p(z_i | parents of z_i).

        Args:
            cardinality: of each variable, a sequence; or one number, and then every variable has a table.
            tables: for a variable i its parents and p(z_i | parents), [k of each parent, k_i]. A variable without a
                table has its logits alone.

        What is known goes into the logits: zeros for what is not known, hard zeros for other values than the seen one,
        or what a net says. With evidence on some variables the log evidence is that of p(known values) less log k_i for
        every variable, because zero logits are uniform.

        Raises TypeError and ValueError for tables of wrong shapes and rows whose sum is not 1, and for parents in a
        cycle.

        Tables that share two variables form a cycle. Rain (0), a sprinkler (1) and wet grass (2), which is a tree:

        >>> import torch, emnesy_gpu as em
        >>> network = em.FactorGraph.from_conditional_tables(2, {
        ...     0: ([], [0.8, 0.2]),
        ...     1: ([], [0.7, 0.3]),
        ...     2: ([1, 0], [[[1.0, 0.0], [0.2, 0.8]], [[0.1, 0.9], [0.01, 0.99]]]),
        ... })
        >>> logits = torch.zeros(1, 3, 2)
        >>> logits[0, 2, 0] = -torch.inf                                               # the grass is wet
        >>> post = em.posterior(network, logits, torch.tensor([1]))
        >>> [round(q, 4) for q in post.marginals[0, :, 1].tolist()]
        [0.4424, 0.7109, 1.0]
        """
        if not isinstance(tables, Mapping):
            raise TypeError(f"tables must be a dict {{variable: (parents, rows)}}, got {tables!r}")
        sizes = [] if isinstance(cardinality, int) else checks.integers("cardinality", cardinality, 1, None)
        n = len(tables) if isinstance(cardinality, int) else len(sizes)
        if n == 0:
            raise ValueError("cardinality and tables must have at least one variable, got none")
        graph = cls(n, cardinality)
        for weights, scope in checked_network(n, tables):
            graph._add_table(weights, scope)
        return graph

    @classmethod
    def from_uai(cls, source: str | PathLike[str]) -> FactorGraph:
        """From a file in the UAI format, MARKOV or BAYES: its path, or its text (a string with a line break).

        With zero logits the log evidence is the log partition function less the sum of log k_i, because they are
        uniform. Tables without variables scale it. Raises GraphFileError, a ValueError, for what is no such file.

        >>> import torch, emnesy_gpu as em
        >>> graph = em.FactorGraph.from_uai("MARKOV\\n2\\n2 2\\n1\\n2 0 1\\n4\\n1 2 3 4\\n")
        >>> post = em.posterior(graph, torch.zeros(1, 2, 2), torch.tensor([1]))
        >>> [round(q, 3) for q in post.marginals[0, 0].tolist()], round(post.log_evidence.exp().item() * 4, 3)
        ([0.3, 0.7], 10.0)
        """
        file = read_uai(source)
        graph = cls(len(file.sizes), file.sizes)
        for scope, weights in zip(file.scopes, file.tables, strict=True):
            if scope:
                graph._add_table(weights, scope)
            else:  # a number, as a weight of every value of a variable
                graph._add_table(np.full(file.sizes[0], float(weights)), [0])
        return graph

    def _add_table(self, weights: Floats, scope: list[int]) -> None:
        factor = Factor("table(...)", lambda sizes: of_table(weights, sizes, "the table"), hard=is_hard(weights))
        self.add(factor, scope)

    def _forget(self) -> None:
        """Drop all that has been made of the factors."""
        self._tables: dict[torch.device, Compiled] = {}
        self._digits: dict[torch.device, Digits] = {}
        self._scores: dict[torch.device, CompiledScore | None] = {}
        self._failing: list[FactorGraph] | None = None
        self._is_tree = True

    def __repr__(self) -> str:
        return f"FactorGraph({self.n_variables} variables, {self.n_factors} factors, cardinality={self.cardinality})"

    def add(self, factor: Factor | Problem | Sequence[Factor], scopes: Any) -> None:
        """Add a factor to one scope or to many.

        Args:
            factor: one of ``em.factors``, an ``em.Automaton`` (its label 1), or a list of factors, one for each scope.
            scopes: symbols in the order in which the factor reads them, or a list of such scopes of equal length, also
                as an integer array [scopes, symbols].

        Raises TypeError and ValueError for scopes with unknown or equal symbols, and for factors that do not fit.
        """
        each = isinstance(factor, (list, tuple))
        named = [as_factor(one) for one in (factor if each else [factor])]  # type: ignore[union-attr]
        found = checked_scopes(repr(named[0]) if named else "no factor", scopes, self.n_variables)
        if each and len(named) != len(found):
            raise ValueError(f"there must be a factor for each of {len(found)} scopes, got {len(named)}")
        owners = named if each else named * len(found)
        entries: list[Entry] = []
        self._factors += [self._bind(one, scope, entries) for one, scope in zip(owners, found.tolist(), strict=True)]
        self._entries += entries
        self._sizes += [self.cardinality] * sum(entry.n_digits for entry in entries)
        self.label_shape = (len(self._entries),) if self._entries else ()
        self._hard = self._hard and all(one.hard for one in named)
        self._forget()

    def _bind(self, factor: Factor, scope: list[int], entries: list[Entry]) -> Scoped:
        """The factor and what it reads: its scope, and the digits of its label if that is data, a further entry."""
        read = scope if factor.reads is None or len(factor.reads) != len(scope) else [scope[i] for i in factor.reads]
        digits = []
        if factor.observed is not None:
            if self.cardinality < 2:
                raise ValueError(f"{factor!r} needs a graph of two values or more, to write its label with")
            first = len(self._sizes) + sum(entry.n_digits for entry in entries)
            entries.append(Entry(factor.observed, scope, factor.observed.n_digits(self.cardinality)))
            digits = list(range(first, first + entries[-1].n_digits))
        sizes = *(self._sizes[i] for i in read), *[self.cardinality] * len(digits)
        return factor.bind(sizes), (*read, *digits)

    @property
    def n_factors(self) -> int:
        return len(self._factors)

    def tables(self, device: torch.device) -> Compiled:
        """The graph on a device, compiled and copied there once after the last factor was added."""
        host = torch.device("cpu")
        if host not in self._tables:
            self._tables[host], self._is_tree = make_tables(self._sizes, self._factors)
        if device not in self._tables:
            self._tables[device] = self._tables[host].to(device)
        return self._tables[device]

    def _weights(self, device: torch.device) -> Weights:
        return Weights(self.tables(device), self.tables(torch.device("cpu")))

    @property
    def is_tree(self) -> bool:
        self.tables(torch.device("cpu"))
        return self._is_tree

    @property
    def tractable(self) -> bool:  # type: ignore[override]
        return self.is_tree

    @property
    def limit(self) -> str:  # type: ignore[override]
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

        label: int64 [..., entries], all given, of a graph whose label has entries.

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
            symbols = self._with_digits(symbols, label)
        return log_weight(symbols, self._weights(z.device))

    def _with_digits(self, symbols: Tensor, label: Tensor) -> Tensor:
        """Symbols [..., n] and the digits of labels [..., P] after them."""
        values = self._digits_on(symbols.device).values(label)
        return torch.cat([symbols, values.expand(*symbols.shape[:-1], -1)], -1)

    def _digits_on(self, device: torch.device) -> Digits:
        if device not in self._digits:
            self._digits[device] = Digits.of(self._entries, self.cardinality, device)
        return self._digits[device]

    def _inputs(self, logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor]:
        """Logits of all symbols that factors read, [batch, symbols, K], and the label of the operators, [batch]."""
        if not self._entries:
            return logits, self._held(label, check)
        digits = self._digits_on(label.device)
        if check:
            self._check_entries(digits, label)
        symbols = torch.cat([logits.flatten(1, -2), digits.logits(label, logits.dtype)], 1)
        return symbols, torch.ones_like(label[:, 0])

    def _check_entries(self, digits: Digits, label: Tensor) -> None:
        unknown = ~digits.is_known(label)
        if unknown.any():
            row, digit = unknown.nonzero()[0].tolist()
            entry, n_labels = int(digits.entry[digit]), int(digits.n_labels[digit])
            got = int(label[row, entry])
            raise ValueError(f"label[{row}, {entry}] must be in 0..{n_labels - 1}, or -1 (not given), got {got}")

    def _own(self, results: Marginals, logits: Tensor, label: Tensor) -> Marginals:
        """The results of the symbols of the graph, without those of digits."""
        if not self._entries:
            return results
        log_evidence = results.log_evidence - self._digits_on(label.device).log_share(label).to(results.log_evidence)
        return Marginals(results.marginals[:, : self.n_variables].reshape(logits.shape), log_evidence, results.possible)

    def _check_hard(self) -> None:
        if not self._hard:
            raise UnsupportedInference(f"{self!r} has weights: its label is no function of the symbols")

    @opaque
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        tables = self.tables(logits.device).to_list()
        settings = 1, 0.0, SERIAL, 0.0, False, check  # one sweep from the leaves to the roots and back
        inputs = self._inputs(logits, label, check)
        results = Marginals.from_operator(factor_graph_belief_propagation(*inputs, tables, *settings)[:3])
        return self._with_failures(self._own(results, logits, label), logits, label, check)

    @opaque
    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        """The factors are those of the graph: ``settings.factors`` is not read."""
        numbers = settings.iterations, settings.damping, settings.schedule, settings.tolerance
        tables, inputs = self.tables(logits.device).to_list(), self._inputs(logits, label, check)
        *results, sweeps, change = factor_graph_belief_propagation(*inputs, tables, *numbers, False, check)
        marginals = self._own(Marginals.from_operator(results), logits, label)
        return Beliefs(self._with_failures(marginals, logits, label, check), sweeps, change)

    @opaque
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """A search, by max-product belief propagation and decimation; on a tree it finds a best assignment.

        ``valid`` says whether all factors hold. Ties go to the first symbol and value that is fixed.
        """
        tables, inputs = self.tables(logits.device).to_list(), self._inputs(logits, label, check)
        z, log_joint, status, valid = factor_graph_map(*inputs, tables, check)
        best = MapAssignment(z, log_joint, is_possible(status), valid)
        if self._entries:
            log_joint = log_joint - self._digits_on(label.device).log_share(label).to(log_joint)
            own = z[:, : self.n_variables].reshape(logits.shape[:-1])
            return best._replace(assignment=own, log_joint=log_joint)
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
        graph, scopes = self.tables(torch.device("cpu")).graph, self._scopes()
        towards_root = graph.order[: len(scopes)].tolist()
        found = rounds_of(scopes, towards_root[::-1], len(self._sizes))
        own = [[i for i in variables if i < self.n_variables] for variables in found]
        return [variables for variables in own if variables]

    def _scopes(self) -> list[list[int]]:
        """The symbols of each factor of two or more."""
        graph = self.tables(torch.device("cpu")).graph
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

    def _failures(self) -> list[FactorGraph]:
        """For each factor that can fail, the graph in which all factors before it hold, and it does not."""
        if self._failing is None:
            self._failing = []
            for number, (potential, scope) in enumerate(self._factors):
                fails = complement(potential, [self._sizes[i] for i in scope])
                if fails is not None:
                    self._failing += self._if_possible([*self._factors[:number], (fails, scope)])
        return self._failing

    def _if_possible(self, factors: list[Scoped]) -> list[FactorGraph]:
        """The graph of other factors over the same symbols; none if a symbol has no value left."""
        graph = FactorGraph(self.n_variables, self._sizes, latent_shape=self.latent_shape)
        graph._factors = factors
        try:
            graph.tables(torch.device("cpu"))
        except ContradictionError:
            return []
        return [graph]

    def _with_failures(self, results: Marginals, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        """The results with those of rows with label 0: some factor is the first that fails."""
        if not self._entries and _has_0(label, check):
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
        n_constraints = 1 + len(self.tables(torch.device("cpu")).graph.kind)
        return Score(self._satisfied, n_constraints, compiled=self._compiled_score)

    def _compiled_score(self, label: Tensor) -> CompiledScore | None:
        if any(entry.observed.rule is None for entry in self._entries):
            return None
        if label.device not in self._scores:
            unary = self.tables(torch.device("cpu")).graph.unary.numpy()
            made = make_score(self._factors, unary, self.n_variables, self._digit_places())
            self._scores[label.device] = None if made is None else made.to(label.device)
        return self._scores[label.device]

    def _digit_places(self) -> list[tuple[int, int]]:
        """The entry of the label and the power of the base of each further symbol."""
        if not self._entries:
            return []
        digits = self._digits_on(torch.device("cpu"))
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
