"""Top-k proofs: the probability of the disjunction of the k most probable explanations."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import LOG_ZERO, check_row_loss, log_beliefs, log_joint_of
from emnesy_gpu.problems import Addition, AllDifferent, Problem
from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference import carry_chain

MOST_INDEPENDENT = 8
"""Largest k with independent facts, where inclusion and exclusion takes 2^k - 1 terms."""


def top_k_proofs_loss(
    problem: Problem, logits: Tensor, label: Tensor, reduction: str = "mean", k: int = 3, exclusive: bool = False
) -> Tensor:
    """The loss -log P(one of the k most probable proofs), where a proof is an assignment that has the label.

    This is the provenance "diff-top-k-proofs" of Scallop (Li et al., arXiv 2304.04812) with one difference: proofs are
    the k best of all, found by a k-best chain over the carries or by enumeration, where a program in Scallop keeps the
    k best after each join. As by default there, "symbol i has value v" are independent facts, and P is counted by
    inclusion and exclusion: values that exclude each other count as if both could hold. With ``exclusive`` they do
    exclude each other, P is the sum over the proofs, and with all proofs it is p(y | x).

    Args:
        problem: ``em.Addition`` of two numbers, or ``em.AllDifferent`` or ``em.Sudoku`` whose valid assignments can be
            listed, with label 1 alone.
        logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        k: proofs that are kept, at least 1, and at most 8 if facts are independent.
        exclusive: whether the values of a symbol exclude each other.

    Raises TypeError for other problems, ValueError for another k, label 0 of a board, or an unknown reduction. A label
    without a proof gives +inf and a gradient of 0. Deterministic on a CPU. Cost per row: O(n_digits * base * k) and a
    sort for sums, one product an assignment for boards; O(2^k) terms a symbol and value.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])              # 0 + 1 and 1 + 0
    >>> loss = em.baselines.top_k_proofs_loss(problem, torch.zeros(1, 2, 1, 10), label)
    >>> round(loss.exp().item(), 2)                                                   # 1 / (0.02 - 0.0001)
    50.25
    """
    checks.is_flag("exclusive", exclusive)
    checks.is_integer("k", k, 1, None if exclusive else MOST_INDEPENDENT)
    check_row_loss(problem, logits, label)
    log_p = log_beliefs(logits)
    proofs, real = _best_proofs(problem, log_p.detach(), label, k)
    scores = log_joint_of(log_p, proofs).masked_fill(~real, LOG_ZERO)
    log_any = scores.logsumexp(0) if exclusive else _log_disjunction(log_p, proofs, real, scores)
    return reduce(-torch.where(real.any(0), log_any, float("-inf")), reduction)


def _best_proofs(problem: Problem, log_p: Tensor, label: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The proofs int64 [k, batch, *latent_shape] and which are real bool [k, batch]; there may be fewer than k."""
    if isinstance(problem, Addition) and problem.n_addends == 2:
        return _best_digits(problem, log_p, problem.digits_of(label), k)
    if isinstance(problem, AllDifferent) and problem.tractable:
        if not bool((label == 1).all()):
            raise ValueError("label must be 1 on every row: the proofs of an invalid board are not listed")
        return _best_boards(problem, log_p, k)
    raise TypeError(f"problem must be an Addition of two numbers or a tractable AllDifferent, got {problem!r}")


def _best_boards(problem: AllDifferent, log_p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    assignments = problem.tables(log_p.device).assignments
    assert assignments is not None
    boards = assignments.long().view(-1, 1, *problem.latent_shape)
    scores = log_joint_of(log_p, boards.expand(-1, len(log_p), *problem.latent_shape))
    found = scores.topk(min(k, len(boards)), 0)
    return boards.squeeze(1)[found.indices], found.values > 0.5 * LOG_ZERO


def _best_digits(problem: Addition, log_p: Tensor, label: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best digits by a chain over the carries, from the least significant position on.

    A carry keeps k partial proofs; at a position each of them is continued by every digit of the first number, which
    fixes that of the second and the next carry.
    """
    base, batch = problem.base, len(label)
    digits, top_carry = carry_chain.split_label(label, problem.n_digits, base)
    scores = torch.full((batch, 2, k), float("-inf"), device=log_p.device)  # of partial proofs by carry
    scores[:, 0, 0] = 0.0
    carry = torch.arange(2, device=log_p.device).view(1, 2, 1, 1)
    value = torch.arange(base, device=log_p.device)
    steps: list[tuple[Tensor, Tensor]] = []
    for place in reversed(range(problem.n_digits)):
        first_score, second_score = log_p[:, :, place, None, None].unbind(1)  # [batch, 1, 1, digit]
        rest = digits[:, place, None, None, None] - carry - value
        second = (rest % base).expand(batch, 2, k, base)
        total = scores[..., None] + first_score + second_score.expand_as(second).gather(3, second)
        by_carry = [total.masked_fill((rest < 0) != bool(out), float("-inf")).flatten(1) for out in range(2)]
        scores, chosen = torch.stack(by_carry, 1).topk(k, 2)
        steps.append((chosen, second))
    final = top_carry.clamp(max=1)
    best = scores[torch.arange(batch), final].masked_fill((top_carry > 1)[:, None], float("-inf"))
    return _followed_back(steps, final[:, None].expand(-1, k), base), (best > 0.5 * LOG_ZERO).T


def _followed_back(steps: list[tuple[Tensor, Tensor]], carry: Tensor, base: int) -> Tensor:
    """The digits [k, batch, 2, n_digits] of the proofs that end in a carry [batch, k], one of each rank."""
    k = carry.shape[1]
    rank, found = torch.arange(k, device=carry.device).expand_as(carry), []
    rows = torch.arange(len(carry), device=carry.device)[:, None]
    for chosen, second in reversed(steps):
        place = chosen[rows, carry, rank]
        carry, rank, first = place // (k * base), place // base % k, place % base
        found.append(torch.stack([first, second[rows, carry, rank, first]], -1))
    return torch.stack(found, -1).transpose(0, 1)


def _log_disjunction(log_p: Tensor, proofs: Tensor, real: Tensor, scores: Tensor) -> Tensor:
    """log P(any proof) [batch] over independent facts, by inclusion and exclusion relative to the best proof."""
    facts = torch.nn.functional.one_hot(proofs, log_p.shape[-1]).bool()
    best = scores.max(0).values.detach()
    total = torch.zeros_like(best)
    for size in range(1, len(proofs) + 1):
        for subset in map(list, combinations(range(len(proofs)), size)):
            log_all = torch.where(facts[subset].any(0), log_p, 0.0).flatten(1).sum(1)
            together = torch.where(real[subset].all(0), log_all, LOG_ZERO)
            total = total - (-1) ** size * torch.exp(together - best)
    return best + total.log()
