"""The engine of Gibbs sampling, with chains that draw one symbol at a time given all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.doubts import warn_about_chains
from emnesy_gpu.engines.engine import SeededEngine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.inference.results import Chains
from emnesy_gpu.inference.settings import ChainSettings

MAX_SWEEPS = (1 << 16) - 1
MAX_CHAINS = 1 << 16
"""The number of a chain and that of a sweep share one 32-bit word of the Philox counter."""


@runtime_checkable
class GibbsProblem(Protocol):
    """What ``em.Gibbs`` asks of a problem."""

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        """Estimate marginals from annealed chains.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            settings: the engine, with chains, sweeps, penalty, seed and first_row.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Chains``: marginals with an estimate of the evidence, and the share of chains that end without a conflict.
        """
        ...


@dataclass(frozen=True)
class Gibbs(SeededEngine[GibbsProblem]):
    """Annealed, Rao-Blackwellised Gibbs sampling from p(z) ~ prior(z) exp(-penalty * conflicts(z)).

    Conflicts are pairs of equal symbols in a group, counted in every group, for ``em.Sudoku`` and ``em.AllDifferent``;
    wrong digits of the sum for ``em.Addition``; cells on exactly one of two paths for ``em.ShortestPath``; and violated
    constraints for ``em.BlackBox``. A chain starts with a draw from the prior. A sweep draws each symbol in turn from
    p(z_i = v | rest) ~ prior_i(v) exp(-c * conflicts of z with z_i = v), where c grows linearly to ``penalty`` over the
    first half of the sweeps. The marginals are the mean of these conditionals over the second half and the chains.
    Where the net is uncertain, this is far more accurate than weighted samples from the prior.

    Chains move one symbol at a time, so that they hardly move under a large penalty once no conflict is left. On
    addition, two pairs of numbers with the same sum are connected through wrong sums only: a penalty of 3 comes closest
    to the exact posterior. The mean total variation distance to it is about 0.13 for 1 to 6 digits where the net reads
    two of three symbols (0.4 for the prior), and 0.01 where it reads nearly all. Where it reads nothing, the distance
    is about 0.2, as for the prior; with 8 chains it is noise, which averages out in training. On maps, one chain of 4
    sweeps with a penalty of 1 in every training step is enough to train a net.

    Args:
        chains: independent chains per row, 1..2**16.
        sweeps: sweeps per chain, 1..2**16-1; the first half, rounded down, is for annealing.
        penalty: log odds against one conflict, at least 0 and finite. With a larger one the target is closer to the
            posterior, which has no conflicts, and the chains mix more slowly.
        seed: 0..2**63-1. Equal seeds give equal chains: ``em.EM`` has another one in every step.
        first_row: the global index of row 0, for batches that are parts of a larger one.

    ``log_evidence`` comes from annealed importance sampling (Neal, 2001) by the same chains: the log of an unbiased
    estimate of E[exp(-penalty * conflicts)] under the prior, which is at least p(y | x). For label 0 of groups the
    marginals are p(z_i | y = 0) = (p(z_i) - Z q_i) / (1 - Z) with that estimate as Z. ``possible`` is True for every
    other row: chains cannot prove that a label is impossible, and such a row has the marginals of the assignments with
    few conflicts. ``info``: ``satisfied`` [batch], the share of chains that end without a conflict. Where no change of
    one symbol settles a conflict, the marginals are the prior; if that is so in half of the rows,
    ``em.InferenceWarning`` is given once for a problem.

    Random words: Philox-4x32-10, counter (symbol // 4, chain * 2**16 + sweep, row), key ``seed``. Sums are of float32
    in a fixed order, or of integers, so that the chains are the same on every back end, whatever the batch split. For
    groups, prior odds below exp(-40) count as 0, and the factor of the conflicts is at least exp(-40); for scores,
    conditionals are rounded to 2**-24 of the largest. Cost per row: O(chains * sweeps * N * K * groups per symbol) for
    groups, otherwise the score of chains * sweeps * N * K assignments. Groups, paths on the CPU, and on a GPU sums,
    paths, automata, circuits, factor graphs and black boxes with a ``triton_score`` have one kernel for all sweeps; all
    others run in torch. Memory: a few integers per chain; the kernel for paths takes 4 bytes * sweeps * N of
    factors.

    Raises TypeError and ValueError for settings out of range. Sources: Geman, Geman, "Stochastic relaxation, Gibbs
    distributions, and the Bayesian restoration of images" (1984); Neal, "Annealed importance sampling" (2001).

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
        self._check_stream()
        checks.is_number("penalty", self.penalty, 0.0)

    def infer(self, problem: GibbsProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        found = problem.gibbs_marginals(logits, label, self, check)
        warn_about_chains(problem, self, found, logits, check)
        return Posterior(*found.marginals, {"satisfied": found.satisfied})
