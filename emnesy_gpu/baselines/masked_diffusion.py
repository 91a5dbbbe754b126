"""The loss of a masked diffusion over symbols (NeSyDM), with a net that reads each symbol by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import check_row_loss, draw_beliefs, log_beliefs, log_p_of, right_entries
from emnesy_gpu.baselines.score_function import leave_one_out, minus_log
from emnesy_gpu.problems import Problem
from emnesy_gpu.reduction import reduce

STEPS = 8
"""Steps in which the symbols of an explanation become known."""

DENOISING_WEIGHT, ENTROPY_WEIGHT = 2e-5, 0.01


def nesydm_loss(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    samples: int = 1024,
    sharpness: float = 20.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The loss of NeSyDM for one random time: outputs of the label, predicted from partly masked explanations.

    An explanation z comes from eight steps. Each draws ``samples`` candidates, in which known symbols stay and the
    others come from p, picks one with probability ~ exp(-sharpness * number of wrong outputs), and makes a random part
    of its symbols known. With a time t ~ U(0, 1), each symbol of z is masked with probability t. Of ``samples`` draws
    of the masked symbols, mu_d is the share with output d of the label right. The loss is

        -mean_d log(mu_d) / t - 2e-5 / (n t) * sum_{masked i} log p_i(z_i) - 0.01 * mean_i H(p_i)

    with the leave-one-out gradient of ``em.baselines.rloo_loss`` for each mu_d. Outputs are the entries of a label, as
    the digits of a sum. An output that no draw has right adds 18.4 / t, and no gradient.

    From van Krieken et al., "Neurosymbolic diffusion models", arXiv 2505.13138. Here p does not see which symbols are
    known, as published for sums, and H is the entropy of beliefs.

    Args:
        problem, logits, label: as for ``em.posterior``; values are not checked. Differentiable in the logits.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        samples: candidates of a step, and draws of the masked symbols; at least 2.
        sharpness: at least 0.
        generator: of the draws, on the device of the logits; None takes torch's default. Equal states give equal
            losses.

    Raises ValueError for numbers out of range and for an unknown reduction. Cost: 9 labels a sample.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 0]])               # 0 + 0 alone
    >>> sure = torch.zeros(1, 2, 1, 10).index_fill(3, torch.tensor([0]), 50.0)
    >>> round(em.baselines.nesydm_loss(problem, sure, label).item(), 6)
    -0.0
    """
    checks.is_integer("samples", samples, 2, checks.MOST_SYMBOLS)
    checks.is_number("sharpness", sharpness, 0.0)
    check_row_loss(problem, logits, label)
    log_p = log_beliefs(logits)
    z = _explanation(problem, log_p, label, samples, sharpness, generator)
    time = 1 - torch.rand(len(z), generator=generator, device=z.device)
    masked = _happens(z, time.view(-1, *[1] * (z.dim() - 1)), generator)
    drawn = torch.where(masked, draw_beliefs(log_p, samples, generator), z)
    right = right_entries(problem, drawn, label).to(log_p.dtype)
    gradient = leave_one_out(_log_joint(log_p, drawn, masked)[..., None], right)
    reached = minus_log(right.mean(0), gradient).mean(1)
    denoised = -_log_joint(log_p, z[None], masked)[0] / z[0].numel()
    entropy = -(log_p.exp() * log_p).sum(-1).flatten(1).mean(1)
    return reduce((reached + DENOISING_WEIGHT * denoised) / time - ENTROPY_WEIGHT * entropy, reduction)


def _explanation(
    problem: Problem, log_p: Tensor, label: Tensor, samples: int, sharpness: float, generator: torch.Generator | None
) -> Tensor:
    """Symbols int64 [batch, *latent_shape] that tend to have the label."""
    z = torch.zeros(log_p.shape[:-1], dtype=torch.int64, device=log_p.device)
    known = torch.zeros_like(z, dtype=torch.bool)
    for left in range(STEPS, 0, -1):
        candidates = torch.where(known, z, draw_beliefs(log_p, samples, generator))
        wrong = (~right_entries(problem, candidates, label)).sum(2)
        weights = (sharpness * (wrong.amin(0) - wrong)).to(log_p.dtype).exp()
        pick = weights.T.multinomial(1, generator=generator)[:, 0]
        z = candidates[pick, torch.arange(len(pick), device=z.device)]
        known = known | _happens(z, 1 / left, generator)
    return z


def _log_joint(log_p: Tensor, z: Tensor, masked: Tensor) -> Tensor:
    """Sum of log p_i(z_i) [samples, batch] over the masked symbols of z [samples, batch, *latent_shape]."""
    return log_p_of(log_p, z).where(masked, 0).flatten(2).sum(2)


def _happens(z: Tensor, p: Tensor | float, generator: torch.Generator | None) -> Tensor:
    """Independent events of probability p for each symbol."""
    return torch.rand(z.shape, generator=generator, device=z.device) < p
