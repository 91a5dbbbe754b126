"""Posteriors from samples that are scored by the sets of symbols that must all differ."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.inference import importance, weighted_samples
from emnesy_gpu.inference.results import Chains, Marginals, Weighted
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.ops import gibbs
from emnesy_gpu.ops.abc_sampling import abc_sampling_posterior

CONSTRAINTS = ("groups", "pairs")
"""What can be counted as a constraint."""

FUSED_CARDINALITY, FUSED_CONSTRAINTS = 16, (1 << 16) - 1
"""Limits of the fused kernels: a value is a bit, and a count of constraints a number, in 16-bit words."""


class Exponents(NamedTuple):
    """Log weights at sharpness 1, float64 [R, width], -inf for weight 0; and the range of the finite ones."""

    values: Tensor
    span: float


class ScoreTables:
    """The constraints on one device, and the groups in which Gibbs chains count conflicts.

    members: int32 [C, W], the symbols of each constraint, padded with -1.
    incident: int32 [N, D], the constraints that each symbol is in, padded with -1.
    memberships: int32 [N, D], the groups that each symbol is in, of ``n_groups``, padded with -1.
    most_conflicts: the most fellow members that a symbol has in its groups.
    exponents: by weighting, and by whether every symbol has a score of its own.
    """

    def __init__(self, members: Tensor, groups: list[tuple[int, ...]], n_variables: int) -> None:
        self.members = members.to(torch.int32).contiguous()
        constraints = [[i for i in row if i >= 0] for row in members.tolist()]
        self.incident, self.memberships = (_containing(sets, n_variables) for sets in (constraints, groups))
        self.n_groups = len(groups)
        self.most_conflicts = max(sum(len(groups[g]) - 1 for g in row if g >= 0) for row in self.memberships.tolist())
        self.exponents = {
            (weighting, local): self._make_exponents(weighting, local)
            for weighting in importance.WEIGHTINGS
            for local in (False, True)
        }

    def to(self, device: torch.device) -> ScoreTables:
        """The same tables on another device."""
        moved = copy.copy(self)
        moved.exponents = {key: Exponents(values.to(device), span) for key, (values, span) in self.exponents.items()}
        for name in ("members", "incident", "memberships"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def _make_exponents(self, weighting: str, local: bool) -> Exponents:
        touching = (self.incident >= 0).sum(1)
        totals = touching if local else touching.new_full((1,), len(self.members))
        width = self.incident.shape[1] + 2 if local else len(self.members) + 1
        values = importance.exponents(weighting, totals, width)
        finite = values[values.isfinite()]
        return Exponents(values, float(finite.max() - finite.min()))


def _containing(sets: Sequence[Sequence[int]], n_variables: int) -> Tensor:
    """The numbers of the sets that each variable is in, int32 [N, D], padded with -1."""
    inside: list[list[int]] = [[] for _ in range(n_variables)]
    for index, members in enumerate(sets):
        for i in members:
            inside[i].append(index)
    width = max(map(len, inside))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in inside], dtype=torch.int32, device="cpu")


def gibbs_marginals(
    logits: Tensor, label: Tensor, tables: ScoreTables, neighbours: Tensor, settings: ChainSettings, check: bool
) -> Chains:
    """Marginals from annealed chains that count conflicts within the groups: see ``GibbsProblem``.

    neighbours: int32 [N, E], the variables that must differ from each variable, padded with -1.
    """
    groups = tables.memberships, neighbours, tables.n_groups, tables.most_conflicts
    numbers = settings.chains, settings.sweeps, float(settings.penalty), settings.seed, settings.first_row
    *row_results, satisfied = gibbs.gibbs_marginals(logits, label, *groups, *numbers, check)
    return Chains(Marginals.from_operator(row_results), satisfied)


def weighted_marginals(
    logits: Tensor, label: Tensor, tables: ScoreTables, settings: SamplingSettings, check: bool
) -> Weighted:
    """Marginals from samples weighted by the constraints that they satisfy: see ``WeightedProblem``."""
    if not is_fused(logits, tables):
        return _unfused(logits, label, tables, settings, check)
    local = settings.scope == "local"
    results = abc_sampling_posterior(
        logits,
        label,
        tables.members,
        tables.incident if local else tables.incident[:1, :0],
        *tables.exponents[settings.weighting or "fraction", local],
        float(settings.sharpness),
        settings.target_ess or 0.0,
        settings.samples,
        settings.seed,
        settings.first_row,
        check,
    )
    return Weighted.from_operator(results, settings.samples)


def is_fused(logits: Tensor, tables: ScoreTables) -> bool:
    """Whether one kernel weighs the samples; larger problems are left to torch, which torch.compile does not trace."""
    return logits.shape[-1] <= FUSED_CARDINALITY and len(tables.members) <= FUSED_CONSTRAINTS


def _unfused(logits: Tensor, label: Tensor, tables: ScoreTables, settings: SamplingSettings, check: bool) -> Weighted:
    """Weighted marginals in torch, for more values or constraints than the fused kernels take."""
    if settings.scope == "local":
        limits = f"{FUSED_CARDINALITY} values and {FUSED_CONSTRAINTS} constraints"
        got = f"{logits.shape[-1]} and {len(tables.members)}"
        raise ValueError(f'scope "local" takes at most {limits}, got {got}: use scope="global"')
    if check:
        weighted_samples.check_values(logits, label, 2, "1 (valid) or 0 (invalid)")
    n_constraints = len(tables.members)

    def satisfied(z: Tensor, label: Tensor) -> Tensor:
        """Satisfied constraints; given label 0 all of them or none, for whether some constraint is violated."""
        count = count_satisfied(z.flatten(2), tables.members)
        other = torch.where(count == n_constraints, 0, n_constraints)
        return torch.where(label == 0, other, count)

    return weighted_samples.weighted_marginals(logits, label, settings, Score(satisfied, n_constraints), label == 0)


def count_satisfied(z: Tensor, members: Tensor) -> Tensor:
    """The number of constraints that hold: int64 [..., N] -> [...]."""
    padding = -1 - torch.arange(members.shape[1], device=z.device)
    total = torch.zeros(z.shape[:-1], dtype=torch.int64, device=z.device)
    for row in members.long():
        values = torch.where(row >= 0, z[..., row.clamp_min(0)], padding).sort(-1).values
        total += (values[..., 1:] != values[..., :-1]).all(-1)
    return total
