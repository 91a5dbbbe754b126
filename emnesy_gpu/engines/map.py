"""Hard EM: the posterior collapsed onto the jointly most probable assignment."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.engines.engine import Engine, Posterior
from emnesy_gpu.problems import Problem


class MAP(Engine):
    """One-hot marginals at z* = argmax_z p(z | y, x), the jointly most probable assignment.

    ``log_evidence`` is log p(z* | x), a lower bound of log p(y | x). ``info["assignment"]`` holds z*, int64
    [batch, *latent_shape], and ``info["valid"]`` [batch] whether z* has the label: always, where the search is exact
    and the label possible. Deterministic, ties included: see the problem. Impossible labels give the prior.
    """

    inference = "map_assignment"

    def infer(self, problem: Problem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        assignment, log_joint, possible, valid = problem.map_assignment(logits, label, check)
        one_hot = torch.nn.functional.one_hot(assignment, problem.cardinality).to(log_joint.dtype)
        prior = torch.softmax(logits.to(log_joint.dtype), -1)
        where = possible.view(-1, *[1] * (logits.dim() - 1))
        marginals = torch.where(where, one_hot, prior)
        return Posterior(
            marginals, log_joint, possible, {"assignment": assignment, "valid": possible if valid is None else valid}
        )
