"""Gibbs sampling: chains that draw one symbol at a time, given all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.engine import Engine, Posterior
from emnesy_gpu.inference.results import Chains
from emnesy_gpu.inference.settings import ChainSettings

MAX_SWEEPS = (1 << 16) - 1
MAX_CHAINS = 1 << 16


@runtime_checkable
class GibbsProblem(Protocol):
    """What ``em.Gibbs`` asks of a problem."""

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        """Marginals from annealed chains.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            settings: chains, sweeps, penalty, seed and first_row: the engine.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Chains``: marginals with an estimate of the evidence, and the share of chains without a conflict.
        """
        ...


@dataclass(frozen=True)
class Gibbs(Engine[GibbsProblem]):
    """Annealed, Rao-Blackwellised Gibbs sampling from p(z) ~ prior(z) exp(-penalty * conflicts(z)).

    Conflicts are pairs of equal symbols in a group, counted in every group, for ``em.Sudoku`` and ``em.AllDifferent``;
    wrong digits of the sum for ``em.Addition``, cells on one only of two paths for ``em.ShortestPath``, and violated
    constraints for ``em.BlackBox``, as ``em.ABC`` counts them. A chain starts with a draw from the prior; a sweep draws
    each symbol in turn from p(z_i = v | rest) ~ prior_i(v) exp(-c * conflicts of z with z_i = v), where c grows
    linearly to ``penalty`` over the first half of the sweeps. The marginals are the mean of these conditionals over the
    second half and the chains. Where the net is uncertain this is worth more than weighted samples from the prior by
    far.

    Chains move one symbol at a time, so that large penalties freeze them once no conflict is left. On addition every
    way from one pair of numbers to another leads through wrong sums: a penalty of 3 comes closest to the exact
    posterior. The mean total variation to it is about 0.13 for 1 to 6 digits where the net reads two of three symbols
    (the prior's is 0.4), and 0.01 where it reads nearly all. Where it reads nothing, 8 chains are as far away as the
    prior, about 0.2, for noise that averages out in training. On maps one chain of 4 sweeps with a penalty of 1 in
    every step is enough to train a net.

    Args:
        chains: independent chains per row, 1..2**16.
        sweeps: 1..65535, half of them (rounded down) for annealing.
        penalty: log odds against one conflict, at least 0 and finite. Larger ones come closer to the posterior, in
            which no conflict is left, and mix more slowly.
        seed: 0..2**63-1. Equal seeds give equal chains: pass another one for every training step.
        first_row: the global index of row 0, for batches that are parts of a larger one.

    ``log_evidence`` comes from annealed importance sampling (Neal, 2001) along the way: the log of an unbiased
    estimate of E[exp(-penalty * conflicts)] under the prior, which is at least p(y | x). For label 0 of groups the
    marginals are p(z_i | y = 0) = (p(z_i) - Z q_i) / (1 - Z) with that estimate as Z. ``possible`` is True for every
    other valid input: chains cannot prove the opposite, and an impossible label has the marginals of the assignments
    with few conflicts. ``info``: ``satisfied`` [batch], the share of chains that end without a conflict.

    Random words: Philox-4x32-10, counter (symbol // 4, chain * 2**16 + sweep, row), key ``seed``; float32 or integers
    in a fixed order, so that the chains are the same on every back end, whatever the batch split. Prior odds and
    penalties of groups below exp(-40) are cut off there, and conditionals given scores are rounded to 2**-24 of the
    largest. Cost per row: O(chains * sweeps * N * K * groups per symbol) with groups, else the score of chains * sweeps
    * N * K assignments, in one kernel for paths on the CPU, and by torch on the device of the logits for all else.
    Memory constant in chains and sweeps but for a few integers a chain; the kernel for paths takes 4 bytes * sweeps * N
    of factors.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Sudoku(4)
    >>> board = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    >>> logits = 4.0 * torch.nn.functional.one_hot(board, 4)[None]
    >>> logits[0, 0] = 0.0                                           # the first row is unread
    >>> post = em.posterior(problem, logits, torch.tensor([1]), em.Gibbs(chains=8, sweeps=20))
    >>> post.marginals[0, 0].argmax(-1).tolist()
    [0, 1, 2, 3]
    """

    chains: int = 8
    sweeps: int = 20
    penalty: float = 2.0
    seed: int = 0
    first_row: int = 0

    asks = GibbsProblem

    def __post_init__(self) -> None:
        checks.is_integer("chains", self.chains, 1, MAX_CHAINS)
        checks.is_integer("sweeps", self.sweeps, 1, MAX_SWEEPS)
        checks.is_integer("seed", self.seed, 0, 2**63 - 1)
        checks.is_integer("first_row", self.first_row, 0, None)
        if not 0.0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty must be a finite number >= 0, got {self.penalty!r}")

    def infer(self, problem: GibbsProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        found = problem.gibbs_marginals(logits, label, self, check)
        return Posterior(*found.marginals, {"satisfied": found.satisfied})
