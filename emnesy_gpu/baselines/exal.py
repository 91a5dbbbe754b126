"""EXAL, explain, agree, learn: the total probability of sampled explanations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import check_row_loss, has_label, log_beliefs, log_joint_of
from emnesy_gpu.problems import Addition, Problem
from emnesy_gpu.reduction import reduce

LOG_FLOOR = math.log(1e-8)
"""In place of the evidence of a row without explanations."""


def exal_loss(problem: Problem, logits: Tensor, label: Tensor, explanations: Tensor, reduction: str = "mean") -> Tensor:
    """The loss -log sum_s prod_i p_i(z_s,i) over the distinct explanations z_s that have the label.

    EXAL (Verreet et al., arXiv 2408.08133) bounds -log p(y | x) from above by the probability of sampled explanations;
    with all explanations it is equal. Copies of an assignment count once, assignments with another label not at all.

    Args:
        problem, logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        explanations: int64 [samples, batch, *latent_shape], such as from ``em.baselines.AdditionExplanations``, which
            draws them as published, or from ``em.sample_posterior``.
        reduction: "mean" or "sum" over the batch, "none" for [batch].

    Raises TypeError and ValueError for explanations of another dtype or shape, ValueError for an unknown reduction. A
    row without an explanation adds -log(1e-8) and a gradient of 0. Deterministic on a CPU. Cost: one sort a symbol, of
    samples * batch numbers.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])
    >>> logits, both = torch.zeros(1, 2, 1, 10), torch.tensor([[[[0], [1]]], [[[1], [0]]], [[[1], [0]]]])
    >>> round(em.baselines.exal_loss(problem, logits, label, both).item(), 4)          # -log(2 / 100)
    3.912
    """
    check_row_loss(problem, logits, label)
    checks.is_tensor("explanations", explanations)
    if explanations.dim() == 0:
        raise ValueError("explanations must have shape [samples, batch, ...], got []")
    expected = [explanations.shape[0], len(logits), *problem.latent_shape]
    if list(explanations.shape) != expected:
        raise ValueError(f"explanations must have shape {expected}, got {list(explanations.shape)}")
    checks.has_dtype("explanations", explanations, (torch.int64,))
    log_joint = log_joint_of(log_beliefs(logits), explanations)
    explains = has_label(problem, explanations, label)
    log_copies = _copies(explanations.flatten(2)).log().to(log_joint.dtype)
    log_mass = (log_joint - log_copies).masked_fill(~explains, float("-inf"))
    none = ~explains.any(0)
    return reduce(-torch.where(none, LOG_FLOOR, log_mass.masked_fill(none, 0.0).logsumexp(0)), reduction)


class AdditionExplanations:
    """Explanations of a sum of two numbers, drawn digit by digit as in the published code of EXAL.

    The first number is drawn from the most significant digit on, with probabilities p(v) / count(v)^alpha, where count
    is how often the place had the value in all draws so far, among the digits that keep it from exceeding the sum; the
    second number is the difference. The draw looks at the beliefs of the first number alone. A difference that has too
    many digits, or is negative, is no explanation; ``em.baselines.exal_loss`` drops it.

    Args:
        problem: ``em.Addition`` of two numbers.
        alpha: how much the draws so far count against a value; 1 at first, and 0.95 times as much after each epoch in
            the published recipe: assign to the attribute.
        generator: of the draws, on the device of the logits; None takes torch's default.

    Raises ValueError for another number of addends.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=2), torch.tensor([[0, 0, 7]])
    >>> draw = em.baselines.AdditionExplanations(problem, generator=torch.Generator().manual_seed(0))
    >>> z = draw(torch.zeros(1, 2, 2, 10), label, samples=50)
    >>> bool((problem.label(z) == label).all())
    True
    """

    def __init__(self, problem: Addition, alpha: float = 1.0, generator: torch.Generator | None = None) -> None:
        checks.is_instance("problem", problem, Addition, "an em.Addition of two numbers")
        checks.is_number("alpha", alpha, 0.0)
        if generator is not None:
            checks.is_instance("generator", generator, torch.Generator, "a torch.Generator or None")
        if problem.n_addends != 2:
            raise ValueError(f"problem must add two numbers, got {problem!r}")
        self.problem, self.alpha, self.generator = problem, alpha, generator
        self.counts = torch.ones(problem.n_digits, problem.base)

    def __call__(self, logits: Tensor, label: Tensor, samples: int = 600) -> Tensor:
        """Draw for logits [batch, 2, n_digits, base]: int64 [samples, batch, 2, n_digits].

        Raises TypeError and ValueError as ``em.posterior`` does, and for ``samples`` that is no positive integer.
        """
        check_row_loss(self.problem, logits, label)
        checks.is_integer("samples", samples, 1, checks.MOST_SYMBOLS)
        self.counts, label = self.counts.to(logits.device), self.problem.digits_of(label)
        first = self._first_number(log_beliefs(logits.detach()[:, 0]), label, samples)
        return torch.stack([first, self._difference(label, first)], 2)

    def _first_number(self, log_p: Tensor, label: Tensor, samples: int) -> Tensor:
        """Digits [samples, batch, n_digits]; ``tight``: all digits so far are those of the sum."""
        base, digits = self.problem.base, []
        value = torch.arange(base, device=label.device)
        tight = torch.ones(samples, len(label), dtype=torch.bool, device=label.device)
        for place in range(self.problem.n_digits):
            top = label[:, 0] * base + label[:, 1] if place == 0 else label[:, place + 1]
            lowest = (top - (base - 1)).clamp(0, base - 1) if place == 0 else torch.zeros_like(top)
            outside = (value < lowest[:, None]) | (value > top[:, None])
            scores = log_p[:, place] - self.alpha * self.counts[place].log()
            weights = scores.masked_fill(tight[..., None] & outside, float("-inf")).softmax(-1)
            digit = weights.flatten(0, 1).multinomial(1, generator=self.generator).view(tight.shape)
            self.counts[place] += digit.flatten().bincount(minlength=base)
            tight &= digit == top
            digits.append(digit)
        return torch.stack(digits, -1)

    def _difference(self, label: Tensor, first: Tensor) -> Tensor:
        """The sum less the first number [samples, batch, n_digits], digit by digit: no integer grows with them."""
        base, digits = self.problem.base, []
        borrow = torch.zeros_like(first[..., 0])
        for place in reversed(range(self.problem.n_digits)):
            rest = label[:, place + 1] - first[..., place] - borrow
            borrow = (rest < 0).long()
            digits.append(rest + base * borrow)
        return torch.stack(digits[::-1], -1)


def _copies(z: Tensor) -> Tensor:
    """How often each assignment z [samples, batch, n] occurs among those of its row: int64 [samples, batch]."""
    code = torch.arange(z.shape[1], device=z.device).expand(z.shape[:2])
    for symbol in z.unbind(-1):
        # Renumbered after each symbol, codes stay below samples * batch.
        code = torch.unique(code * (int(z.max()) + 1) + symbol, return_inverse=True)[1]
    return torch.unique(code, return_counts=True)[1][code]
