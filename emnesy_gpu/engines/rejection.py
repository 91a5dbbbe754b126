"""The engine of rejection sampling: it keeps the samples from the prior that have the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.abc import WeightedProblem
from emnesy_gpu.engines.doubts import warn_about_samples
from emnesy_gpu.engines.engine import SeededEngine
from emnesy_gpu.engines.posterior import Posterior


@dataclass(frozen=True)
class Rejection(SeededEngine[WeightedProblem]):
    """Marginals of the samples from the prior that have the label: q_i(v) = sum_t [label(z_t) = y, z_ti = v] / hits.

    Unbiased given the number of hits, and exact in the limit; useful where p(y | x) * samples is well above 1. The EM
    gradient softmax - q equals the score-function (REINFORCE) estimate of the gradient of -p(y | x) from the same
    samples, divided by the estimate of p(y | x).

    Args:
        samples: samples per row, at least 1.
        seed: 0..2**63-1. Equal seeds give equal samples: ``em.EM`` has another one in every step.
        first_row: the global index of row 0, for batches that are parts of a larger one.

    ``log_evidence`` is log(hits / samples). Without a hit it is -inf, ``possible`` is False and the marginals are the
    prior; if that is so in half of the rows, ``em.InferenceWarning`` is given once for a problem. ``info``:
    ``acceptance`` [batch], hits / samples. Random words, cost, memory and errors: as for ``em.ABC``. Source: REINFORCE
    is Williams, "Simple statistical gradient-following algorithms" (1992).

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> post = em.posterior(problem, torch.zeros(1, 2, 1, 10), torch.tensor([[1, 8]]), em.Rejection(samples=1000))
    >>> post.marginals[0, 0, 0].tolist() == [0.0] * 9 + [1.0]            # 18 = 9 + 9 only
    True
    >>> abs(post.info["acceptance"].item() - 0.01) < 0.015
    True
    """

    samples: int = 4096
    seed: int = 0
    first_row: int = 0

    asks = WeightedProblem

    # The other settings that problems read: samples that have the label have weight 1, all others 0.
    weighting: ClassVar[str] = "exact"
    sharpness: ClassVar[float] = 1.0
    scope: ClassVar[str] = "global"
    target_ess: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        checks.is_integer("samples", self.samples, 1, checks.LARGEST_SEED)
        self._check_stream()

    def infer(self, problem: WeightedProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        weighted = problem.weighted_marginals(logits, label, self, check)
        warn_about_samples(problem, self, weighted, self.samples, check)
        return Posterior(*weighted.marginals, {"acceptance": weighted.acceptance})
