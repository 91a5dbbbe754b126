"""The engine of loopy belief propagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.engines.engine import Engine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.inference.results import Beliefs
from emnesy_gpu.inference.settings import LoopySettings

SCHEDULES = ("serial", "flooding", "residual")
"""Orders in which the messages of a sweep are renewed."""

FACTORS = ("all_different", "pairwise")
"""What a factor constrains: a whole group, or a pair of its members."""

CONVERGED = 1e-4
"""The change of a message entry (a probability) below which a row counts as converged, where no tolerance is given."""


@runtime_checkable
class LoopyProblem(Protocol):
    """What ``em.BeliefPropagation`` asks of a problem."""

    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        """Approximate marginals by sweeps of messages.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            settings: the engine, with iterations, damping, schedule, factors and tolerance.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``Beliefs``: marginals with the Bethe estimate of the evidence, the number of sweeps and the last change.

        Raises ValueError for settings that the problem does not know.
        """
        ...


@dataclass(frozen=True)
class BeliefPropagation(Engine[LoopyProblem]):
    """Sum-product messages on a graph with cycles: approximate marginals, and the Bethe estimate of the evidence.

    Every sweep updates the messages of all factors, m_{f->i}(v) ~ sum over values of the other members of f, with v at
    i allowed by f, of prod_j n_{j->f}(z_j), from the messages n_{i->f}(v) ~ p_i(v) prod_{g != f} m_{g->i}(v). The
    marginals are q_i(v) ~ p_i(v) prod_f m_{f->i}(v), exact where the factors form a tree. On Sudoku 9x9 with a net that
    is right in 7 of 10 cells, 3 to 5 serial sweeps give the best beliefs; with a net that knows little, beliefs become
    overconfident with more sweeps. Source: Yedidia, Freeman, Weiss, "Constructing free-energy approximations and
    generalized belief propagation algorithms" (2005).

    Args:
        iterations: sweeps, at least 0.
        damping: the share of the old message in the new one, in [0, 1).
        schedule: "serial" updates runs of disjoint groups (rows, columns, boxes), or the factors of ``em.FactorGraph``,
            one after the other, and converges where "flooding", which updates all messages at once, may oscillate.
            "residual", for ``em.FactorGraph`` alone, renews after a first serial sweep the factor whose incoming
            messages have changed most since it was last renewed, in each row its own; of equal ones the first. A sweep
            is as many renewals as a serial one has. It converges on more graphs, and costs several times as much a
            sweep on a CPU, where a row has no neighbours in its lanes. Residuals are rounded: back ends agree where
            these differ by more than rounding. Source: Sutton, McCallum, "Improved dynamic schedules for belief
            propagation" (2007).
        factors: "all_different" has one factor per group, exact within it; "pairwise" has one per pair, a weaker
            approximation. An ``em.FactorGraph`` has factors of its own.
        tolerance: a row stops once every message entry (a probability) changes by less; 0 never stops early.

    ``info``, all [batch]: ``iterations`` (sweeps done), ``change`` (the largest change of a message entry in the last
    sweep, or the largest residual that is left), ``converged`` (change below the tolerance, or below 1e-4 where that is
    0). Where the messages meet a contradiction, ``possible`` is False; not every impossible label is found.
    Deterministic. Cost per sweep: O(K 2^K) for a group of symbols with K values, O(K) for a pair; see
    ``em.FactorGraph`` for its factors.

    Raises TypeError and ValueError for settings out of range; ``em.posterior`` raises ValueError if a problem has too
    many values for all-different factors, or no residual schedule.

    >>> import torch, emnesy_gpu as em
    >>> board = torch.arange(9).view(3, 3)
    >>> cells = [((row // 3 + 3 * row + column) % 9) for row in range(9) for column in range(9)]
    >>> problem, z = em.Sudoku(9), torch.tensor(cells).view(1, 9, 9)
    >>> logits = 4.0 * torch.nn.functional.one_hot(z, 9)
    >>> logits[0, :3, :3] = 0.0                                     # one box unread
    >>> post = em.posterior(problem, logits, problem.label(z), em.BeliefPropagation(iterations=5))
    >>> bool((post.marginals.argmax(-1) == z).all()), int(post.info["iterations"][0])
    (True, 5)
    """

    iterations: int = 5
    damping: float = 0.0
    schedule: str = "serial"
    factors: str = "all_different"
    tolerance: float = 0.0

    asks = LoopyProblem

    def __post_init__(self) -> None:
        checks.is_integer("iterations", self.iterations, 0, checks.LARGEST_SEED)
        checks.is_number("damping", self.damping, 0.0, 1.0)
        if not checks.is_among(self.schedule, SCHEDULES):
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if not checks.is_among(self.factors, FACTORS):
            raise ValueError(f"factors must be one of {FACTORS}, got {self.factors!r}")
        checks.is_number("tolerance", self.tolerance, 0.0)

    def infer(self, problem: LoopyProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        few = getattr(problem.loopy_marginals, "few_rows", None)
        limit = self.tolerance or CONVERGED
        found = few(problem, logits, label, self, limit) if few is not None else None
        if found is None:
            results, sweeps, change = problem.loopy_marginals(logits, label, self, check)
            found = *results, sweeps, change, change < limit
        marginals, log_evidence, possible, sweeps, change, converged = found
        info = {"iterations": sweeps, "change": change, "converged": converged}
        return Posterior(marginals, log_evidence, possible, info)
