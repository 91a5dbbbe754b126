"""The results that each kind of inference returns to its engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Marginals(NamedTuple):
    """Posterior marginals of all symbols.

    marginals: float [batch, *latent_shape, cardinality], probabilities; the prior where ``possible`` is False.
    log_evidence: float [batch], log p(y | x) or an estimate of it; -inf where ``possible`` is False.
    possible: bool [batch].
    """

    marginals: Tensor
    log_evidence: Tensor
    possible: Tensor

    @classmethod
    def from_operator(cls, results: Sequence[Tensor]) -> Marginals:
        """Make it from the marginals, log evidence and status [batch] of an operator."""
        marginals, log_evidence, status = results
        return cls(marginals, log_evidence, is_possible(status))


class MapAssignment(NamedTuple):
    """The jointly most probable assignment.

    assignment: int64 [batch, *latent_shape].
    log_joint: float [batch], log p(assignment | x), -inf where ``possible`` is False.
    possible: bool [batch].
    valid: bool [batch], whether the assignment has the label; None where the search is exact, and this is ``possible``.
    """

    assignment: Tensor
    log_joint: Tensor
    possible: Tensor
    valid: Tensor | None = None


class Beliefs(NamedTuple):
    """The result of loopy belief propagation.

    sweeps: int32 [batch], the number of sweeps done.
    change: float [batch], the largest change of a message entry (a probability) in the last sweep.
    """

    marginals: Marginals
    sweeps: Tensor
    change: Tensor


class Weighted(NamedTuple):
    """The result of weighted samples.

    ess: float [batch], the effective sample size.
    sharpness: float [batch], as given or as found for a target effective sample size.
    acceptance: float [batch], the share of the samples that have the label.
    """

    marginals: Marginals
    ess: Tensor
    sharpness: Tensor
    acceptance: Tensor

    @classmethod
    def from_operator(cls, results: tuple[Tensor, ...], n_samples: int) -> Weighted:
        """Make it from the results of an operator: see ``emnesy_gpu.ops.results.weighted_results``."""
        *row_results, ess, sharpness, matches = results
        # Division converts integers to the default type, so that a conversion of their own would be one more launch.
        found = matches if ess.dtype == torch.get_default_dtype() else matches.to(ess.dtype)
        return cls(Marginals.from_operator(row_results), ess, sharpness, found / n_samples)


class Chains(NamedTuple):
    """The result of Gibbs chains.

    satisfied: float [batch], the share of the chains that end in an assignment without conflicts.
    """

    marginals: Marginals
    satisfied: Tensor


def result_dtype(logits: Tensor) -> torch.dtype:
    """float64 for float64 logits, float32 for every other dtype."""
    return torch.promote_types(logits.dtype, torch.float32)


def is_possible(status: Tensor) -> Tensor:
    """Where the status of a row is POSSIBLE, bool [batch]. POSSIBLE is 0: a negation takes half the time of ``==``."""
    return status.logical_not()


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """View values [batch] as [batch, 1, ..., 1] with as many axes as ``like``, for broadcasting."""
    return values.view(-1, *[1] * (like.dim() - 1))


def em_gradient_of(exact: Marginals, logits: Tensor, scale: float) -> Tensor:
    """The EM gradient (softmax(logits) - marginals) * scale, which is the gradient of -scale * log p(y | x).

    It is exactly 0 where the label is impossible.
    """
    gradient = (torch.softmax(logits.to(exact.marginals.dtype), -1) - exact.marginals) * scale
    return torch.where(per_row(exact.possible, gradient), gradient, 0.0)
