"""Any set of factors over hidden symbols: how a graph of them is built, by hand, from networks and from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.factor_graphs.chains import Floats
from emnesy_gpu.factor_graphs.networks import checked_network
from emnesy_gpu.factor_graphs.observed import Entry
from emnesy_gpu.factor_graphs.potentials import Factor, checked_scopes, is_hard, of_table
from emnesy_gpu.factor_graphs.tables import Scoped
from emnesy_gpu.factor_graphs.uai import read_uai
from emnesy_gpu.problems.factor_graph_problem import FactorGraphProblem
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.rule_factor import as_factor
from emnesy_gpu.problems.symbols import checked_cardinalities, checked_shape


class FactorGraph(FactorGraphProblem):
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

    def __init__(
        self, n_variables: int, cardinality: int | Sequence[int], *, latent_shape: Sequence[int] | None = None
    ) -> None:
        checks.is_integer("n_variables", n_variables, 1, checks.MOST_SYMBOLS)
        if isinstance(cardinality, int):
            sizes = checked_cardinalities(n_variables, cardinality, None)
        else:
            given = checks.integers("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
            sizes = checked_cardinalities(n_variables, None, given)
        super().__init__(sizes, checked_shape(n_variables, latent_shape))

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
