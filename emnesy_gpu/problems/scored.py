"""Problems whose samplers count what a sample gets right."""

from __future__ import annotations

from torch import Tensor

from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, Weighted
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem


class ScoredProblem(Problem):
    """A problem with a score of samples, how many constraints they satisfy: ABC, rejection and Gibbs take it."""

    @property
    def _score(self) -> Score:
        raise NotImplementedError

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        """Raise for values that no exact inference takes, where check asks for it."""
        raise NotImplementedError

    @opaque
    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        """Samples score how many constraints they satisfy: entries of the label, or factors."""
        if settings.scope == "local":
            raise ValueError(f'{self!r} takes samples with scope "global" only: its score is of all symbols together')
        self._check_values(logits, label, check)
        return weighted_samples.weighted_marginals(logits, label, settings, self._score)

    @opaque
    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        """Conflicts are the constraints that a chain does not satisfy."""
        self._check_values(logits, label, check)
        return gibbs_chains.gibbs_marginals(logits, label, settings, self._score)
