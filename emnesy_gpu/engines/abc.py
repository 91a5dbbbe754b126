"""The engine of approximate Bayesian computation: it weights samples from the prior by satisfied constraints."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.doubts import warn_about_samples
from emnesy_gpu.engines.engine import SeededEngine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.errors import UnsupportedEngineError
from emnesy_gpu.inference.results import Weighted
from emnesy_gpu.inference.settings import SamplingSettings

WEIGHTINGS = ("fraction", "exponential")
"""How a weight depends on the number of satisfied constraints."""

SCOPES = ("global", "local")
"""Which constraints weight a symbol of a sample: all of them, or those that touch it."""


@runtime_checkable
class WeightedProblem(Protocol):
    """What ``em.ABC`` and ``em.Rejection`` ask of a problem."""

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        """Estimate marginals from samples of the prior, weighted by the constraints that they satisfy.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            settings: the engine, with samples, weighting (None for the one that suits the problem), sharpness, scope,
                target_ess, seed and first_row.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Weighted``: marginals with the log of the mean weight as evidence, effective sample size, sharpness and
            the share of the samples that have the label.

        Raises ValueError for settings that the problem does not know.
        """
        ...


@runtime_checkable
class RaoBlackwellProblem(Protocol):
    """What ``em.ABC(rao_blackwell=True)`` asks of a problem."""

    def rao_blackwell_marginals(
        self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool
    ) -> Weighted:
        """Estimate marginals from samples of the prior, each of which counts for all values of every symbol.

        Arguments, result and errors: as for ``WeightedProblem.weighted_marginals``.
        """
        ...


@dataclass(frozen=True)
class ABC(SeededEngine[WeightedProblem]):
    """Self-normalised importance sampling from the prior: q_i(v) = sum_t w(z_t) [z_ti = v] / sum_t w(z_t).

    A sample that satisfies s of the problem's C constraints has the weight

        fraction       w = (s / C) ** sharpness        (EM-NeSy, arXiv 2606.14463, has sharpness 1)
        exponential    w = exp(-sharpness * (C - s))

    Constraints are the groups or the pairs of ``em.Sudoku``, the digits of the sum of ``em.Addition``, the cells of two
    paths for ``em.ShortestPath``, and whatever ``em.BlackBox`` counts. Given label 0 ("not all constraints hold") the
    weight is 1 where that is true, otherwise 0. The bias of q is O(1 / S) and its variance about q (1 - q) / ESS, with
    the effective sample size ESS = (sum w)^2 / sum w^2. Weights are relative to the best sample, so that the largest
    never underflows.

    Args:
        samples: the number of samples S per row, at least 1.
        weighting: "fraction" or "exponential"; None takes the one that suits the problem: "exponential" for
            ``em.ShortestPath``, "fraction" for all others.
        sharpness: how much a violated constraint counts, at least 0.
        scope: "global" weights a sample by all constraints. "local" weights each of its symbols by the constraints that
            touch it, which has a much larger ESS and another limit: a symbol is not conditioned on the constraints of
            other symbols. For ``em.Sudoku`` and ``em.AllDifferent``.
        target_ess: an ESS in (0, samples] that replaces ``sharpness``: every row takes the largest sharpness (2**-10 to
            2**20) with at least this ESS, or 0 where there is none.
        seed: 0..2**63-1. Equal seeds give equal samples: ``em.EM`` has another one in every step.
        first_row: the global index of row 0, for batches that are parts of a larger one.
        rao_blackwell: let every sample count for all values of every symbol, each with the weight that the sample would
            have after that single change: q_i(v) ~ p_i(v) sum_t w(z_t with z_i = v). The variance is lower, and values
            that no sample has are not lost. For ``em.ShortestPath`` with score "cells" and weighting "exponential", at
            about the cost of one further sample per cell of its path. ``ess`` is that of the samples as drawn.
        kernel: the earlier name of ``weighting``.

    ``log_evidence`` is the log of the mean weight, an estimate of log E[w(z)]; that is at least log p(y | x) and tends
    to it as the sharpness grows. With scope "local" it is the mean over the symbols of the log of their mean weight.
    ``possible`` is False where every weight is 0; this does not prove that the label is impossible. ``info``, all
    [batch]: ``ess`` (with scope "local" the least over the symbols), ``sharpness``, ``acceptance`` (the share of
    samples that have the label). Where in half of the rows every weight is 0, or all weights are nearly equal though
    few samples have the label, ``em.InferenceWarning`` is given once for a problem.

    Random words: Philox-4x32-10 keyed by the seed, one 31-bit word for each (row, sample, symbol), compared with
    integer thresholds. So probabilities are rounded to multiples of 2**-31, and the samples are the same on every back
    end, whatever the batch split. Cost: O(S * N * (K + groups per symbol)) per row in one pass over the samples, two
    where ``target_ess`` is set or the best sample is far from satisfying all constraints; memory constant in S.

    Raises TypeError and ValueError for settings out of range; ``em.posterior`` raises ValueError or
    UnsupportedEngineError for a scope or ``rao_blackwell`` that the problem does not support.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.AllDifferent([(0, 1, 2)], n_variables=3, cardinality=3)
    >>> logits = torch.tensor([[[2.0, 0, 0], [2.0, 2.0, 0], [0, 0, 0]]])
    >>> post = em.posterior(problem, logits, torch.tensor([1]), em.ABC(samples=4096, sharpness=3.0))
    >>> exact = em.posterior(problem, logits, torch.tensor([1])).marginals
    >>> bool((post.marginals - exact).abs().max() < 0.1)
    True
    """

    samples: int = 1024
    weighting: str | None = None
    sharpness: float = 1.0
    scope: str = "global"
    target_ess: float | None = None
    seed: int = 0
    first_row: int = 0
    rao_blackwell: bool = False
    kernel: InitVar[str | None] = field(default=None, kw_only=True)

    asks = WeightedProblem

    def __post_init__(self, kernel: str | None) -> None:
        if kernel is not None and self.weighting not in (None, kernel):
            raise TypeError(f"kernel is the earlier name of weighting: give one, got {kernel!r} and {self.weighting!r}")
        object.__setattr__(self, "weighting", kernel if self.weighting is None else self.weighting)
        checks.is_integer("samples", self.samples, 1, checks.LARGEST_SEED)
        self._check_stream()
        if self.weighting is not None and not checks.is_among(self.weighting, WEIGHTINGS):
            raise ValueError(f"weighting must be one of {WEIGHTINGS} or None, got {self.weighting!r}")
        checks.is_flag("rao_blackwell", self.rao_blackwell)
        if not checks.is_among(self.scope, SCOPES):
            raise ValueError(f"scope must be one of {SCOPES}, got {self.scope!r}")
        checks.is_number("sharpness", self.sharpness, 0.0)
        if self.target_ess is not None:
            checks.is_number("target_ess", self.target_ess, 0.0)
            if not 0.0 < self.target_ess <= self.samples:
                raise ValueError(f"target_ess must lie in (0, samples] = (0, {self.samples}], got {self.target_ess!r}")

    def infer(self, problem: WeightedProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        weighted = self._weighted(problem, logits, label, check)
        warn_about_samples(problem, self, weighted, self.samples, check)
        info = {"ess": weighted.ess, "sharpness": weighted.sharpness, "acceptance": weighted.acceptance}
        return Posterior(*weighted.marginals, info)

    def _weighted(self, problem: WeightedProblem, logits: Tensor, label: Tensor, check: bool) -> Weighted:
        if not self.rao_blackwell:
            return problem.weighted_marginals(logits, label, self, check)
        if not isinstance(problem, RaoBlackwellProblem):
            raise UnsupportedEngineError(f"rao_blackwell works for em.ShortestPath, got {problem!r}")
        return problem.rao_blackwell_marginals(logits, label, self, check)


ABC.kernel = property(lambda self: self.weighting, doc="The earlier name of ``weighting``.")  # type: ignore[assignment, attr-defined]
