"""Operators that call a method of a problem, for methods that torch.compile cannot trace: see ``problems.opaque``.

A graph holds no Python object, so that a problem is an integer in it, its handle. What a method checks, and functions
of the user, then run inside the operator. These operators have no kernels of their own.
"""

from __future__ import annotations

import itertools
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from emnesy_gpu.inference.results import Weighted
from emnesy_gpu.inference.settings import Chaining, Passing, Sampling
from emnesy_gpu.ops.registry import METHODS, operator
from emnesy_gpu.ops.results import drawn_results, row_results

Three = tuple[Tensor, Tensor, Tensor]
Four = tuple[Tensor, Tensor, Tensor, Tensor]
Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of a fixed length: ``DTensor`` knows no operator that returns a list."""

_problems: WeakValueDictionary[int, Any] = WeakValueDictionary()
_handles = itertools.count(1)


def new_handle(problem: object) -> int:
    """An integer by which the operators find a problem for as long as it lives."""
    handle = next(_handles)
    _problems[handle] = problem
    return handle


def _with_rows(logits: Tensor, more: int) -> tuple[Tensor, ...]:
    """Marginals, log evidence, possible [batch], and more results [batch]."""
    marginals, log_evidence, status = row_results(logits)
    others = [torch.empty_like(log_evidence) for _ in range(more)]
    return marginals, log_evidence, status.to(torch.bool), *others


def _exact_results(logits: Tensor) -> tuple[Tensor, ...]:
    return _with_rows(logits, 0)


def _gradient_results(logits: Tensor) -> tuple[Tensor, ...]:
    return _with_rows(logits, 0)[:2]


def _weighted_results(logits: Tensor) -> tuple[Tensor, ...]:
    return _with_rows(logits, len(Weighted._fields) - 1)


def _chain_results(logits: Tensor) -> tuple[Tensor, ...]:
    return _with_rows(logits, 1)


def _map_results(logits: Tensor) -> tuple[Tensor, ...]:
    _, log_joint, possible = _exact_results(logits)
    return logits.new_empty(logits.shape[:-1], dtype=torch.int64), log_joint, possible, torch.empty_like(possible)


def _belief_results(logits: Tensor) -> tuple[Tensor, ...]:
    *marginals, change = _with_rows(logits, 1)
    return *marginals, torch.empty_like(change, dtype=torch.int32), change


@operator(_exact_results, METHODS)
def methods_exact_marginals(logits: Tensor, label: Tensor, problem: int, check: bool) -> Three:
    """Marginals, log evidence, possible."""
    marginals, log_evidence, possible = _problems[problem].exact_marginals(logits, label, check)
    return marginals, log_evidence, possible


@operator(_gradient_results, METHODS)
def methods_em_gradient(
    logits: Tensor, label: Tensor, problem: int, scale: float, check: bool
) -> tuple[Tensor, Tensor]:
    """The EM gradient and log evidence."""
    gradient, log_evidence = _problems[problem].em_gradient(logits, label, scale, check)
    return gradient, log_evidence


@operator(_map_results, METHODS)
def methods_map_assignment(logits: Tensor, label: Tensor, problem: int, check: bool) -> Four:
    """Assignment, log joint, possible, and whether the assignment has the label."""
    z, log_joint, possible, valid = _problems[problem].map_assignment(logits, label, check)
    return z, log_joint, possible, possible.clone() if valid is None else valid


@operator(_belief_results, METHODS)
def methods_loopy_marginals(
    logits: Tensor,
    label: Tensor,
    problem: int,
    iterations: int,
    damping: float,
    schedule: str,
    factors: str,
    tolerance: float,
    check: bool,
) -> Five:
    """Marginals, log evidence, possible, sweeps, change."""
    settings = Passing(iterations, damping, schedule, factors, tolerance)
    marginals, sweeps, change = _problems[problem].loopy_marginals(logits, label, settings, check)
    return *marginals, sweeps, change


@operator(drawn_results, METHODS)
def methods_sample(
    logits: Tensor, label: Tensor, problem: int, n_samples: int, seed: int, first_row: int, check: bool
) -> Tensor:
    """Samples int64 [n_samples, batch, *symbols]."""
    z: Tensor = _problems[problem].sample(logits, label, n_samples, seed, first_row, check)
    return z


@operator(_weighted_results, METHODS)
def methods_weighted_marginals(
    logits: Tensor,
    label: Tensor,
    problem: int,
    samples: int,
    weighting: str,
    sharpness: float,
    scope: str,
    target_ess: float,
    seed: int,
    first_row: int,
    check: bool,
) -> Six:
    """Marginals, log evidence, possible, and the other fields of ``Weighted``; "" and 0 stand for settings of None."""
    settings = Sampling(samples, weighting or None, sharpness, scope, target_ess or None, seed, first_row)
    marginals, ess, sharpness, acceptance = _problems[problem].weighted_marginals(logits, label, settings, check)
    return *marginals, ess, sharpness, acceptance


@operator(_chain_results, METHODS)
def methods_gibbs_marginals(
    logits: Tensor,
    label: Tensor,
    problem: int,
    chains: int,
    sweeps: int,
    penalty: float,
    seed: int,
    first_row: int,
    check: bool,
) -> Four:
    """Marginals, log evidence, possible, and the share of chains without a conflict."""
    settings = Chaining(chains, sweeps, penalty, seed, first_row)
    marginals, satisfied = _problems[problem].gibbs_marginals(logits, label, settings, check)
    return *marginals, satisfied
