"""Loopy belief propagation with all-different factors in plain torch, differentiable through every message.

It runs the subset recursions of ``reference.all_different`` on rescaled probabilities in the dtype of the logits. Every
operation is vectorised over the groups of a phase and over the batch, whose axis is last so that gathers copy whole
rows. Very confident contradictory logits underflow here. With gradients this is BP-std for Sudoku; under
``torch.no_grad`` it is unfused EM.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.problems import AllDifferent
from emnesy_gpu.reference.all_different import levels


class SerialFactors(NamedTuple):
    """The groups in phases of equally large disjoint groups, and the messages that each variable receives.

    members: for each phase int64 [groups, w].
    incident: int64 [N, D], indices of rows of the stacked messages (by phase, group and member); the row after the last
        stands for a message of ones.
    """

    members: list[Tensor]
    incident: Tensor


def serial_factors(groups: Tensor, phases: list[int], n_variables: int) -> SerialFactors:
    """Make the factors from the padded table of groups; a phase with groups of several sizes becomes several phases."""
    members: list[Tensor] = []
    for run in groups.split(phases):
        sizes = (run >= 0).sum(1)
        members += [run[sizes == size, : int(size)].long() for size in sizes.unique()]
    receivers = torch.cat([group.flatten() for group in members])
    slots = [(receivers == i).nonzero()[:, 0].tolist() for i in range(n_variables)]
    degree = max(1, max(map(len, slots)))
    padded = [own + [len(receivers)] * (degree - len(own)) for own in slots]
    return SerialFactors(members, torch.tensor(padded, device=groups.device))


@lru_cache(maxsize=16)
def serial_factors_of(problem: AllDifferent, device: torch.device) -> SerialFactors:
    """The factors of a problem on a device; the cache keeps those of the last 16."""
    return serial_factors(problem.tables(device).groups, problem.serial_phases, problem.n_variables)


def belief_propagation(logits: Tensor, factors: SerialFactors, iterations: int) -> tuple[Tensor, Tensor]:
    """Bethe log evidence [batch] and beliefs [batch, N, K] after ``iterations`` serial sweeps; logits [batch, N, K]."""
    prior = torch.softmax(logits, -1).permute(1, 2, 0).contiguous()
    cardinality, batch = prior.shape[1:]
    uniform = prior.new_full((1, cardinality, batch), 1.0 / cardinality)
    messages = [uniform.expand(group.numel(), -1, -1) for group in factors.members]
    for _ in range(iterations):
        for phase, group in enumerate(factors.members):
            to_factor = _cavity(prior, messages, factors, phase)
            _, minors = _permanents(to_factor)
            renewed = minors / minors.sum(1, keepdim=True)
            messages[phase] = renewed.transpose(1, 2).transpose(0, 1).reshape(group.numel(), cardinality, batch)
    return _bethe(prior, messages, factors)


def _product(prior: Tensor, messages: list[Tensor], factors: SerialFactors) -> Tensor:
    """The prior times all messages to each variable, [N, K, batch]."""
    rows = torch.cat([*messages, torch.ones_like(messages[0][:1])])
    belief = prior
    for slot in factors.incident.T:
        belief = belief * rows.index_select(0, slot)
    return belief


def _cavity(prior: Tensor, messages: list[Tensor], factors: SerialFactors, phase: int) -> Tensor:
    """Messages from the members to the groups of a phase, normalised to sum 1, [w, K, groups, batch]."""
    group = factors.members[phase]
    silent = [torch.ones_like(part) if p == phase else part for p, part in enumerate(messages)]
    belief = _product(prior, silent, factors).index_select(0, group.flatten())
    belief = belief / belief.sum(1, keepdim=True)
    return belief.view(*group.shape, *belief.shape[1:]).permute(1, 2, 0, 3)


def _permanents(n: Tensor) -> tuple[Tensor, Tensor]:
    """Log permanents [groups, batch], and permanents of all minors up to a factor per member [w, K, groups, batch]."""
    size, cardinality = n.shape[:2]
    level = levels(cardinality)
    forward = [torch.ones_like(n[0, :1])]
    log_scale = torch.zeros_like(n[0, 0])
    for rank in range(1, size + 1):
        grown, log_factor = _rescaled(_sum_products(forward[-1], level[rank].smaller, n[rank - 1], level[rank].removed))
        forward.append(grown)
        log_scale = log_scale + log_factor
    minors = []
    backward = torch.ones_like(forward[size])
    for rank in range(size - 1, -1, -1):
        minors.append(_sum_products(forward[rank], level[rank].without, backward, level[rank].including))
        backward, _ = _rescaled(_sum_products(backward, level[rank].larger, n[rank], level[rank].added))
    return forward[size].sum(0).log() + log_scale, torch.stack(minors[::-1])


def _sum_products(left: Tensor, left_index: Tensor, right: Tensor, right_index: Tensor) -> Tensor:
    """The sums sum_j left[left_index[i, j]] * right[right_index[i, j]] for every i."""
    shape = left_index.shape
    gathered = left.index_select(0, left_index.flatten()) * right.index_select(0, right_index.flatten())
    return gathered.view(*shape, *left.shape[1:]).sum(1)


def _rescaled(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights divided by the largest along the first axis, and its log."""
    largest = weights.detach().amax(0)
    return weights / largest, largest.log()


def _bethe(prior: Tensor, messages: list[Tensor], factors: SerialFactors) -> tuple[Tensor, Tensor]:
    """Bethe log evidence [batch] and normalised beliefs [batch, N, K]."""
    log_evidence = torch.zeros_like(prior[0, 0])
    for phase, group in enumerate(factors.members):
        to_factor = _cavity(prior, messages, factors, phase)
        log_permanent, _ = _permanents(to_factor)
        received = messages[phase].view(*group.shape, *prior.shape[1:]).permute(1, 2, 0, 3)
        log_pairs = (to_factor * received).sum(1).log()
        log_evidence = log_evidence + log_permanent.sum(0) - log_pairs.sum((0, 1))
    belief = _product(prior, messages, factors)
    total = belief.sum(1, keepdim=True)
    return log_evidence + total[:, 0].log().sum(0), (belief / total).permute(2, 0, 1)
