"""The engines of training on Warcraft maps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.sampling_engines import Reseeded
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings

PATH_PENALTY, GIBBS_SWEEPS = 1.0, 4
"""The penalty and the sweeps of the single Gibbs chain of a map."""


def sampler(settings: WarcraftSettings, first: bool) -> em.Engine:
    """Return the engine of an epoch; ``first`` says whether it is one of those with Rao-Blackwellised samples."""
    if settings.engine == "gibbs":
        return em.Gibbs(chains=1, sweeps=GIBBS_SWEEPS, penalty=PATH_PENALTY)
    if settings.engine == "rejection":
        return em.Rejection(settings.samples)
    if settings.hard:
        return em.ABC(settings.samples, target_ess=1.0)
    if first:
        return em.ABC(settings.rao_blackwell_samples, target_ess=settings.rao_blackwell_ess, rao_blackwell=True)
    return em.ABC(settings.samples, target_ess=settings.target_ess)


class PathSampling(Reseeded):
    """A sampling engine with new samples at every step, and a ``floor`` that the training sets.

    A class that the net has given up gets hardly any gradient, however well it would explain the paths: p (q / p - 1)
    for a prior p and a posterior q. The floor puts (1 - floor) p + floor / K in place of p in the posterior, but not in
    the samples.

    The evidence of ``em.ABC`` depends on the sharpness that its target sets for each map. The evidence here does not:
    it is the log of the share of samples, or of ends of chains, whose path is the label, with one such sample added.
    """

    floor = 0.0

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Infer with new samples, with the floor in the prior of possible rows."""
        post = super().infer(problem, logits, label, check)
        floored = self._floored(logits, post.marginals)
        marginals = torch.where(post.possible.view(-1, 1, 1, 1), floored, post.marginals)
        return replace(post, marginals=marginals, log_evidence=self._evidence(post.info))

    def _evidence(self, info: dict[str, Tensor]) -> Tensor:
        if isinstance(self.engine, em.Gibbs):
            share, n_samples = info["satisfied"], self.engine.chains
        else:
            share, n_samples = info["acceptance"], self.engine.samples
        return ((share * n_samples + 1) / (n_samples + 1)).log()

    def _floored(self, logits: Tensor, marginals: Tensor) -> Tensor:
        if self.floor == 0:
            return marginals
        prior = logits.detach().float().softmax(-1)
        raised = (1 - self.floor) * prior + self.floor / prior.shape[-1]
        likelihood = marginals / prior.clamp(min=torch.finfo(prior.dtype).tiny)
        posterior = raised * likelihood
        return posterior / posterior.sum(-1, keepdim=True)
