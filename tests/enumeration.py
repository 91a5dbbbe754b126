"""Brute force over every assignment of the hidden symbols, for problems of a few thousand assignments."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from emnesy_gpu.problems import Problem


def assignments(problem: Problem) -> Tensor:
    """int64 [n, *latent_shape], in lexicographic order."""
    n_symbols = torch.Size(problem.latent_shape).numel()
    every = list(itertools.product(range(problem.cardinality), repeat=n_symbols))
    return torch.tensor(every).view(-1, *problem.latent_shape)


def log_joint(problem: Problem, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """All assignments z, and log p(z, label) [batch, n] in float64 (-inf where the label of z differs)."""
    z = assignments(problem)
    log_prior = torch.log_softmax(logits.double(), -1)
    expanded = log_prior[:, None].expand(-1, len(z), *log_prior.shape[1:])
    log_p = expanded.gather(-1, z.expand(len(logits), *z.shape)[..., None]).flatten(2).sum(2)
    consistent = (problem.label(z) == label[:, None]).flatten(2).all(-1)
    return z, log_p.masked_fill(~consistent, float("-inf"))


def marginals(problem: Problem, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior marginals (float64, the shape of the logits) and log evidence [batch], for possible labels."""
    z, log_p = log_joint(problem, logits, label)
    log_evidence = log_p.logsumexp(1)
    weights = (log_p - log_evidence[:, None]).exp()
    one_hot = torch.nn.functional.one_hot(z, problem.cardinality).double()
    return torch.einsum("bs,s...->b...", weights, one_hot), log_evidence
