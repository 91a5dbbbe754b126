"""The engine of hard EM, which puts the posterior on the jointly most probable assignment."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.engines.engine import Engine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import MapAssignment, per_row
from emnesy_gpu.ops.row_passes import has_kernels
from emnesy_gpu.problems import Problem
from emnesy_gpu.problems.few_rows import by_few_rows
from emnesy_gpu.problems.symbols import flat_symbols, shaped_like


@runtime_checkable
class MapProblem(Protocol):
    """What ``em.MAP`` asks of a problem; a problem that is not ``map_tractable`` is never asked."""

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Find the jointly most probable assignment with the label, exactly or by a search.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            ``MapAssignment``. Rows that are not possible may have any assignment, with values in range.
        """
        ...


class MAP(Engine[MapProblem]):
    """One-hot marginals at z* = argmax_z p(z | y, x), the jointly most probable assignment.

    ``log_evidence`` is log p(z* | x), a lower bound of log p(y | x) where z* has the label. ``info["assignment"]`` is
    z*, int64 [batch, *latent_shape], and ``info["valid"]``, bool [batch], says whether z* has the label. The search is
    exact, except for ``em.AllDifferent`` with too many assignments to list, and for an ``em.FactorGraph`` with cycles:
    these take max-product belief propagation and decimation. An ``em.Automaton`` in which some assignments take
    several paths has no such search, and raises UnsupportedEngineError. Impossible labels give the prior.
    Deterministic, ties included. Cost: about that of marginals; see the problem. This is the hard EM of EM-NeSy
    (arXiv 2606.14463).

    >>> import torch, emnesy_gpu as em
    >>> problem, logits = em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10)
    >>> logits[0, 0, 0, 3] = 1.0
    >>> em.posterior(problem, logits, torch.tensor([[0, 7]]), em.MAP()).info["assignment"].flatten().tolist()
    [3, 4]
    """

    asks = MapProblem

    def supports(self, problem: Problem) -> bool:
        return issubclass(type(problem), MapProblem) and problem.map_tractable

    def obstacle(self, problem: Problem) -> str:
        return problem.map_limit or super().obstacle(problem)

    def infer(self, problem: MapProblem, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        found = by_few_rows(problem.map_assignment, logits, label)
        if found is None:
            assignment, log_joint, possible, valid = problem.map_assignment(logits, label, check)
        else:
            (assignment, log_joint, possible), valid = found, None
        if found is not None or has_kernels(logits) or _on_gpu(logits):
            marginals = _written(logits, assignment, possible)
        else:
            values = constant(tuple(range(logits.shape[-1])), torch.int64, logits.device)
            prior = torch.softmax(logits.to(log_joint.dtype), -1)
            marginals = torch.where(per_row(possible, logits), assignment[..., None] == values, prior)
        info = {"assignment": assignment, "valid": possible if valid is None else valid}
        return Posterior(marginals, log_joint, possible, info)


def _written(logits: Tensor, assignment: Tensor, possible: Tensor) -> Tensor:
    """Marginals by a kernel."""
    kernels = kernels_for("map_marginals", logits.device)
    if logits.dim() == 3:
        written: Tensor = kernels.map_marginals(logits, assignment, possible)
        return written
    return shaped_like(kernels.map_marginals(flat_symbols(logits), assignment.flatten(1), possible), logits)


def _on_gpu(logits: Tensor) -> bool:
    return not torch.compiler.is_compiling() and backend_for(logits.device) == "triton"
