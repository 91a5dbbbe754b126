"""The engines that the fused ones are compared with in training: the same posteriors, computed in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import all_different_autograd
from emnesy_gpu.baselines.carry_chain_torch import bp_em_posterior
from emnesy_gpu.engines import WrappedEngine
from emnesy_gpu.tasks.core.loss_engines import posterior_by_gradient


class Unfused(WrappedEngine):
    """The messages of another engine in plain torch, without autograd: what EM costs where nothing is fused.

    Args:
        engine: ``em.Exact()`` for ``em.Addition``, ``em.BeliefPropagation`` for ``em.AllDifferent`` and ``em.Sudoku``.
            Its sweeps are serial over all-different factors, for boards that are known to be valid.
    """

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Return the posterior by plain messages; raises ValueError for a board with label 0."""
        with torch.no_grad():
            if isinstance(problem, em.Addition):
                marginals, log_evidence = bp_em_posterior(problem, logits, label)
            else:
                assert isinstance(problem, em.AllDifferent)
                if not bool((label == 1).all()):
                    raise ValueError(
                        "plain torch messages take valid boards only, got a label 0: train on valid boards, "
                        "or choose a fused engine"
                    )
                log_evidence, beliefs = all_different_autograd.belief_propagation(
                    logits.flatten(1, -2),
                    all_different_autograd.serial_factors_of(problem, logits.device),
                    sweeps(self.engine),
                )
                marginals = beliefs.view_as(logits)
        return em.Posterior(marginals, log_evidence, log_evidence > float("-inf"))


class BPStd(WrappedEngine):
    """The gradient of ``em.bp_std_loss`` in the form of a posterior, which it is where the messages are exact.

    Args:
        engine: as for ``Unfused``.
    """

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Return the gradient through all messages in the form of a posterior."""
        n_sweeps = sweeps(self.engine)
        return posterior_by_gradient(lambda leaf: em.bp_std_loss(problem, leaf, label, "none", n_sweeps), logits)


PLAIN_TORCH: dict[str, type[WrappedEngine]] = {"torch": Unfused, "bp-std": BPStd}
"""Name on the command line -> engine."""


def sweeps(engine: em.Engine) -> int:
    """Return the sweeps of belief propagation, or 1 for exact engines, which ignore the number."""
    return engine.iterations if isinstance(engine, em.BeliefPropagation) else 1
