"""Annealed Gibbs chains on groups of symbols that must all differ, in plain torch.

Sweep s = 0, 1, ... draws every symbol in turn from its conditional p(z_i = v | rest) ~ prior_i(v) * factors[s,
conflicts], where conflicts counts the other members of the groups of symbol i that have value v. All factors of sweep
0 are 1: it draws from the prior. The marginals are the mean of these conditionals over the recorded sweeps and chains.
Everything is float32 and computed in the same order on every back end, so that the chains are the same to the bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, float32

from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.philox import MASK, philox_words
from emnesy_gpu.reference.symbols import result_dtype, row_status

LARGEST_LOG_RATIO = 40.0
"""Log ratio at which priors and factors of penalties are cut off, so that no product of the two underflows."""


def posterior(
    logits: Tensor,
    label: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
    step: float,
) -> tuple[Tensor | None, ...]:
    """Marginals, log evidence, share of chains without a conflict, and status: ``prior``, ``run`` and ``results``."""
    start, status = prior(logits, label)
    sums = run(start, factors, memberships, n_groups, chains, recorded, seed, first_row)
    return *results(logits, *sums, step, status), status


def prior(logits: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The prior of each symbol divided by its largest entry, float32; hard zeros and entries below exp(-40) are 0.

    Where there are labels, which are 0 or 1, also the status uint8 [batch] of the input. logits: [batch, n, K].
    """
    doubled = logits.double()
    relative = (doubled - doubled.amax(-1, keepdim=True)).nan_to_num(nan=0.0, neginf=-math.inf)
    relative = torch.where(relative < -LARGEST_LOG_RATIO, 0.0, relative.exp()).to(float32).contiguous()
    return relative, None if label is None else row_status(logits, label, 2)


def results(
    logits: Tensor, sums: Tensor, annealing: Tensor, final: Tensor, step: float, status: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, n, K]; log evidence and the share of chains that end without a conflict [batch].

    sums: conditionals [batch, n, K], summed over sweeps and chains; float32, divided in the dtype of the result, or
        integers, in float64.
    annealing, final: conflicts int64 [batch, chains], summed over the annealing and at the end.
    step: growth of the penalty. When it grows after a sweep, the log weight of a chain changes by -step times its
        conflicts at that moment; the evidence is the mean weight (annealed importance sampling).
    status: uint8 [batch], rows with a code above POSSIBLE get the prior and evidence 0; None where all are fine.
    """
    dtype = result_dtype(logits)
    sums = sums.to(dtype) if sums.is_floating_point() else sums.double()
    marginals = (sums / sums.sum(-1, keepdim=True)).to(dtype)
    log_evidence = torch.logsumexp(annealing.double() * -step, 1) - math.log(annealing.shape[1])
    if status is not None and bool((status > POSSIBLE).any()):
        broken = status > POSSIBLE
        marginals = torch.where(broken[:, None, None], torch.softmax(logits.to(dtype), -1), marginals)
        log_evidence = torch.where(broken, -math.inf, log_evidence)
    return marginals, log_evidence.to(dtype), (final == 0).to(dtype).mean(1)


def run(
    prior: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, N, K], and conflicts [batch, chains], summed over the annealing and at the end.

    prior: float32 [batch, N, K], relative to the largest entry of each symbol, which is 1.
    factors: float32 [sweeps + 1, largest number of conflicts + 1] of ``inference.annealing.annealed_factors``.
    memberships: int32 [N, D], the groups of each symbol, padded with -1.
    recorded: the number of sweeps at the end that the marginals are averaged over. Conflicts (int64) are summed over
        the states before the other sweeps, or taken of the first state if all sweeps are recorded.
    """
    batch, n, k = prior.shape
    sweeps = len(factors) - 1
    state = _State(prior, memberships, n_groups, chains, seed, first_row)
    total = torch.zeros(batch, chains, n, k, device=prior.device)
    annealing = torch.zeros(batch, chains, dtype=torch.int64, device=prior.device)
    for sweep in range(sweeps + 1):
        if 0 < sweep <= max(sweeps - recorded, 1):
            annealing += state.conflicts()
        conditionals = state.sweep(sweep, factors[sweep], total)
        if sweep > sweeps - recorded:
            total = total + conditionals
    marginals = total[:, 0]
    for chain in range(1, chains):
        marginals = marginals + total[:, chain]
    return marginals / (chains * recorded), annealing, state.conflicts()


class _State:
    """Values z int64 [batch, chains, N], and counts of each value in each group, int64 [batch, chains, G, K]."""

    def __init__(
        self, prior: Tensor, memberships: Tensor, n_groups: int, chains: int, seed: int, first_row: int
    ) -> None:
        batch, n, k = prior.shape
        self.prior, self.seed = prior, seed
        self.groups = [[int(g) for g in row if g >= 0] for row in memberships]
        self.z = torch.full((batch, chains, n), -1, device=prior.device)
        self.counts = torch.zeros(batch, chains, n_groups, k, dtype=torch.int64, device=prior.device)
        self.chains = torch.arange(chains, device=prior.device)
        self.rows = torch.arange(first_row, first_row + batch, device=prior.device)[:, None]

    def conflicts(self) -> Tensor:
        """The number of pairs of equal members of a group, int64 [batch, chains]."""
        return (self.counts * (self.counts - 1) // 2).sum((-2, -1))

    def sweep(self, sweep: int, factors: Tensor, like: Tensor) -> Tensor:
        """Draw every symbol once and return the conditionals."""
        conditionals = torch.zeros_like(like)
        values = torch.arange(self.prior.shape[-1], device=like.device)
        for i, groups in enumerate(self.groups):
            held = (self.z[..., i, None] == values).long()
            self.counts[:, :, groups] -= held[:, :, None]
            weight = self.prior[:, None, i] * factors[self.counts[:, :, groups].sum(2)]
            cumulative = torch.empty_like(weight)
            running = torch.zeros_like(weight[..., 0])
            for v in values.tolist():
                running = running + weight[..., v]
                cumulative[..., v] = running
            threshold = self._uniform(sweep, i) * running
            drawn = (cumulative[..., :-1] <= threshold[..., None]).sum(-1)
            conditionals[:, :, i] = weight * (1.0 / running)[..., None]
            self.z[..., i] = drawn
            self.counts[:, :, groups] += (drawn[..., None] == values).long()[:, :, None]
        return conditionals

    def _uniform(self, sweep: int, i: int) -> Tensor:
        """Uniform numbers float32 [batch, chains] in [0, 1): the upper 23 bits of the word of symbol i."""
        position = torch.full_like(self.chains, i // 4)
        counter = position, self.chains << 16 | sweep, self.rows & MASK, self.rows >> 32
        word = philox_words(counter, self.seed)[i % 4]
        return (word >> 9).float() * 2.0**-23
