"""Groups of hidden symbols that must all differ, as in Latin squares, permutations, colourings and Sudoku."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, load_kernels
from emnesy_gpu.circuits.listed import listed_graph
from emnesy_gpu.circuits.tables import Compiled
from emnesy_gpu.circuits.tables import make_tables as make_tables_of_circuit
from emnesy_gpu.inference.results import (
    Beliefs,
    Chains,
    MapAssignment,
    Marginals,
    Weighted,
    is_possible,
)
from emnesy_gpu.inference.settings import ChainSettings, LoopySettings, SamplingSettings
from emnesy_gpu.ops.all_different import all_different_belief_propagation, all_different_map
from emnesy_gpu.ops.enumeration import (
    enumeration_em_gradient,
    enumeration_map,
    enumeration_posterior,
    enumeration_sample,
)
from emnesy_gpu.ops.not_equal import not_equal_belief_propagation
from emnesy_gpu.ops.registry import is_unwatched
from emnesy_gpu.problems import all_different_scores
from emnesy_gpu.problems.all_different_tables import GroupTables, checked_groups, make_tables
from emnesy_gpu.problems.few_rows import CPU, FewRows, with_few_rows
from emnesy_gpu.problems.opaque import TRACED
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.symbols import checked_symbols

GROUP_SCHEDULES = ("serial", "flooding")
"""Of belief propagation: the kernels of boards renew whole runs of groups at once."""

MAX_CARDINALITY = 64
"""Largest number of values of a symbol."""

MAX_FACTOR_CARDINALITY = 16
"""Largest number of values for all-different factors, whose messages cost O(2^cardinality) per group."""

MOST_VARIABLES = 1 << 20
"""More would be a mistake: their tables alone take gigabytes."""


class AllDifferent(Problem):
    """Symbols in groups whose members must all differ; the label says whether they do in every group.

    p(y = 1 | x) = sum_z prod_i p(z_i | x) prod_groups [all different]. Where at most 4096 assignments are valid,
    inference is exact, over a list of them, in O(assignments * n_variables) per row; otherwise it is loopy belief
    propagation, with the exact messages of every group (permanents by dynamic programming over subsets of values) or of
    every pair. Given label 0 exact inference takes a circuit of the invalid assignments; loopy belief propagation takes
    p(z_i | y = 0) = (p(z_i) - Z p(z_i | y = 1)) / (1 - Z) with Z = p(y = 1 | x), and where a valid assignment is nearly
    certain the mistakes of one symbol and of two.
    Everything is deterministic given the seeds. Source: Visual Sudoku of EM-NeSy (arXiv 2606.14463), generalised.

    Args:
        groups: for each group the variables in it, as indices 0..n_variables-1; a variable may be in several groups.
        n_variables: the number of hidden symbols, at most 2^20.
        cardinality: the number of values, 2..64; no group may have more members than that. All-different factors
            take at most 16 values (12 on a GPU), at a cost of O(2^cardinality) per group; pairwise factors any number.
        constraints: what ``em.ABC`` counts: "groups", or "pairs" of variables that must differ.

    Attributes:
        latent_shape: ``(n_variables,)``.
        label_shape: ``()``: one integer per row, 1 for valid and 0 for not.
        tractable: whether the valid assignments are few enough to be listed, so that inference is exact.

    Raises TypeError and ValueError for groups, sizes or constraints that are not allowed, and ValueError for groups
    that no assignment satisfies, such as a triangle of pairs with two values, where few enough partial assignments
    show it. Of larger groups without a valid assignment loopy belief propagation may take label 1 for possible.

    >>> import torch, emnesy_gpu as em
    >>> problem = AllDifferent([(0, 1, 2)], n_variables=3, cardinality=3)      # a permutation
    >>> logits = torch.tensor([[[2.0, 0, 0], [0, 2, 0], [0, 0, 0]]])
    >>> em.posterior(problem, logits, torch.tensor([1])).marginals.argmax(-1).tolist()
    [[0, 1, 2]]
    """

    label_shape: tuple[int, ...] = ()

    def __init__(
        self, groups: Iterable[Sequence[int]], n_variables: int, cardinality: int, constraints: str = "groups"
    ) -> None:
        checks.is_integer("n_variables", n_variables, 1, MOST_VARIABLES)
        checks.is_integer("cardinality", cardinality, 2, MAX_CARDINALITY)
        self.groups = checked_groups(groups, n_variables, cardinality)
        self.n_variables, self.cardinality = n_variables, cardinality
        self.latent_shape: tuple[int, ...] = (n_variables,)
        tables, self._phases = make_tables(self.groups, n_variables, cardinality)
        self._tables = {torch.device("cpu"): tables}
        self.tractable = tables.assignments is not None
        checks.is_one_of("constraints", constraints, all_different_scores.CONSTRAINTS)
        self.constraints = constraints
        members = tables.pairs.T if constraints == "pairs" else tables.groups
        self._circuit: dict[torch.device, Compiled] = {}
        if tables.assignments is not None:
            graph = listed_graph(tables.assignments.numpy(), cardinality)
            self._circuit[torch.device("cpu")] = make_tables_of_circuit(graph)
        self._score_tables = {torch.device("cpu"): all_different_scores.ScoreTables(members, self.groups, n_variables)}

    @property
    def settings(self) -> dict[str, Any]:
        sizes = {"n_variables": self.n_variables, "cardinality": self.cardinality}
        return {"groups": tuple(self.groups), **sizes, "constraints": self.constraints}

    def __repr__(self) -> str:
        n, k = self.n_variables, self.cardinality
        return f"AllDifferent({len(self.groups)} groups, n_variables={n}, cardinality={k})"

    def tables(self, device: torch.device) -> GroupTables:
        """The groups as integer tables on a device, copied there once."""
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def label(self, z: Tensor) -> Tensor:
        """Whether every group is all different, 1 or 0: int64 [..., *latent_shape] -> [...].

        Raises TypeError and ValueError for a wrong dtype or shape and for values outside 0..cardinality-1.
        """
        symbols = checked_symbols(z, self.latent_shape, self.cardinality)
        first, second = self.tables(z.device).pairs
        return (symbols[..., first] != symbols[..., second]).all(-1).long()

    @property
    def enumerable(self) -> bool:
        """Whether the valid assignments are listed; equals ``tractable``."""
        return self.tractable

    def _few_rows(self) -> FewRows:
        kernels, listed = load_kernels("cpu", "enumeration"), self.tables(CPU).assignments
        return FewRows(kernels.call_of(listed, self.cardinality))

    @with_few_rows(_few_rows)
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        return Marginals(*enumeration_posterior(logits, label, *self._lists(logits.device), check))

    @with_few_rows(_few_rows)
    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        lists = self._lists(logits.device)
        return enumeration_em_gradient(logits, label, *lists, scale, check)

    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        if settings.schedule not in GROUP_SCHEDULES:
            raise ValueError(
                f"schedule must be one of {GROUP_SCHEDULES} for {self!r}, got {settings.schedule!r}; "
                "em.FactorGraph has it"
            )
        tables, serial = self.tables(logits.device), settings.schedule == "serial"
        numbers = settings.iterations, settings.damping, settings.tolerance, False, check  # False: sum-product
        if settings.factors == "pairwise":
            phases = self._phases.variables if serial else [self.n_variables]
            graph = tables.neighbours, tables.reverse, tables.order, phases
            results = not_equal_belief_propagation(logits, label, *graph, *numbers)
        else:
            self._check_factors()
            phases = self._phases.groups if serial else [len(self.groups)]
            results = all_different_belief_propagation(
                logits, label, tables.neighbours, tables.groups, phases, *numbers
            )
        *row_results, sweeps, change = results
        return Beliefs(Marginals.from_operator(row_results), sweeps, change)

    def _few_beliefs(
        self, logits: Tensor, label: Tensor, settings: LoopySettings, limit: float
    ) -> tuple[Tensor, ...] | None:
        """``loopy_marginals`` of few rows by the shortest way; None where it does not lead to the end.

        Returns marginals, log evidence, possible, sweeps, change, and whether it is below a limit.
        """
        is_plain = is_unwatched(logits) and backend_for(CPU) == "cpu" and self.cardinality <= MAX_FACTOR_CARDINALITY
        if not is_plain or settings.factors != "all_different" or settings.schedule not in GROUP_SCHEDULES:
            return None
        phases = self._phases.groups if settings.schedule == "serial" else [len(self.groups)]
        graph, numbers = (self.tables(CPU).groups, phases), (settings.iterations, settings.damping, settings.tolerance)
        kernels = load_kernels("cpu", "all_different")
        found: tuple[Tensor, ...] | None = kernels.few_beliefs(logits, label, graph, limit, *numbers)
        return found

    loopy_marginals.few_rows = _few_beliefs  # type: ignore[attr-defined]

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        tables = self._score_tables_on(logits.device)
        if torch.compiler.is_compiling() and not all_different_scores.is_fused(logits, tables):
            return TRACED["weighted_marginals"](logits, label, self.handle, settings, check)
        return all_different_scores.weighted_marginals(logits, label, tables, settings, check)

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        tables, neighbours = self._score_tables_on(logits.device), self.tables(logits.device).neighbours
        return all_different_scores.gibbs_marginals(logits, label, tables, neighbours, settings, check)

    def _score_tables_on(self, device: torch.device) -> all_different_scores.ScoreTables:
        if device not in self._score_tables:
            self._score_tables[device] = self._score_tables[torch.device("cpu")].to(device)
        return self._score_tables[device]

    @property
    def serial_phases(self) -> list[int]:
        """Sizes of the runs of disjoint groups in ``tables(device).groups``, in their order."""
        return self._phases.groups

    def _check_factors(self) -> None:
        if self.cardinality > MAX_FACTOR_CARDINALITY:
            raise ValueError(
                f"all-different factors take at most {MAX_FACTOR_CARDINALITY} values, got {self.cardinality}:"
                ' use em.BeliefPropagation(factors="pairwise")'
            )

    def _few_rows_of_map(self) -> FewRows | None:
        listed = self.tables(CPU).assignments
        if listed is None:
            return None
        return FewRows(load_kernels("cpu", "enumeration").map_call_of(listed, self.cardinality))

    @with_few_rows(_few_rows_of_map)
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """See ``MapProblem``: exact where the assignments are listed or the label is 0, otherwise a search.

        The search runs max-product belief propagation and fixes the most certain symbols, round by round (decimation).
        ``valid`` says whether its result has the label. Ties go to the first assignment of the list, or to the first
        symbol, value or pair.
        """
        tables = self.tables(logits.device)
        if self.tractable:
            results = enumeration_map(logits, label, tables.assignments, tables.pairs, check)
        else:
            self._check_factors()
            phases = self._phases.groups
            results = all_different_map(logits, label, tables.groups, phases, tables.pairs, check)
        z, log_joint, status, valid = results
        return MapAssignment(z, log_joint, is_possible(status), valid)

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        assignments, circuit = self.tables(logits.device).assignments, self._circuit_on(logits.device)
        where = logits, label, assignments, list(circuit.tables), n_samples, seed, first_row, check
        z, _ = enumeration_sample(*where)
        return z

    def _lists(self, device: torch.device) -> tuple[Tensor | None, list[Tensor], int]:
        """The valid assignments, and the circuit that takes label 0, as operators take them."""
        circuit = self._circuit_on(device)
        return self.tables(device).assignments, list(circuit.tables), circuit.tape_rows

    def _circuit_on(self, device: torch.device) -> Compiled:
        """Whether an assignment is valid, with a part for each answer."""
        if device not in self._circuit:
            host = self._circuit[torch.device("cpu")]
            self._circuit[device] = host._replace(tables=host.tables.to(device))
        return self._circuit[device]
