"""Problems that are given as any function of the hidden symbols."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor

from emnesy_gpu import checks, ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.backends import backend_for
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, MapAssignment, Marginals, Weighted, em_gradient_of, result_dtype
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.ops.black_box import histogram
from emnesy_gpu.problems.problem import Problem

MAX_ASSIGNMENTS = 1 << 16
"""Assignments that exact inference tries at most."""

MAX_CARDINALITY = 1 << 15
"""Values of a symbol, so that a sum of 24-bit weights and its product with a uniform number fit into 62 bits."""

JOINTS_AT_A_TIME = 1 << 20
"""Log joint probabilities that exact inference holds at a time."""


class BlackBox(Problem):
    """A symbolic component that is given as a function of whole batches of samples.

    The function is either ``label``, the symbolic program itself, or ``score``, which counts the constraints that a
    sample satisfies given a label. With ``label`` every entry of the label is a constraint, satisfied where it comes
    out equal. p(y | x) = sum_z prod_i p(z_i | x) [all constraints satisfied] is exact where there are at most 2**16
    assignments, since all of them are tried; otherwise inference is by samples (``em.ABC``, ``em.Gibbs``,
    ``em.Rejection``). As deterministic as the function, given the seeds. A label without an assignment is impossible.

    Args:
        score: (z int64 [samples, batch, *latent_shape], y int64 [batch, *label_shape]) -> integers or bool
            [samples, batch] in 0..n_constraints, a deterministic torch function; a sample has the label where all
            constraints are satisfied.
        label: z int64 [..., *latent_shape] -> integers [..., *label_shape].
        latent_shape: the shape of the hidden symbols of one row.
        cardinality: the number of values of a symbol, 2..2**15.
        label_shape: the shape of the label of one row.
        n_constraints: the largest score, 1 if left out; with ``label`` the number of label entries.
        numba_score: a faster form of ``score``, or of the number of equal label entries, for CPU tensors: a
            ``numba.njit`` function (z, y) of one sample, where z[i] is symbol i and y[j] entry j of the label, in
            row-major order. It is compiled into the loop that draws the samples.
        triton_score: the form for CUDA tensors: a ``triton.jit`` function (z, y), where z[i] is a tensor of samples.

    Cost: that of the function, called on about 2**18 symbols at a time, and memory for (n_constraints + 1) counts of
    every value per row.

    Raises:
        TypeError: both or neither of score and label; when used, a function whose result is no tensor of integers.
        ValueError: sizes out of range; when used, a result of the function with a wrong shape or out of range.

    The parity of four digits, and a row of Kakuro, which holds three different digits 1..9 with a given sum:

    >>> import torch, emnesy_gpu as em
    >>> parity = BlackBox(label=lambda z: z.sum(-1) % 2, latent_shape=(4,), cardinality=10)
    >>> logits = torch.zeros(1, 4, 10)
    >>> logits[0, :3, 1] = 50.0                                        # 1 + 1 + 1 + ? is even
    >>> post = em.posterior(parity, logits, torch.tensor([0]), em.Rejection(samples=2000))
    >>> post.marginals[0, 3, ::2].sum().item()
    0.0
    >>> def kakuro(z, y):
    ...     first, second, third = z.unbind(-1)
    ...     different = (first != second) & (first != third) & (second != third)
    ...     return different.long() + (z.sum(-1) + 3 == y)
    >>> row = BlackBox(kakuro, latent_shape=(3,), cardinality=9, n_constraints=2)
    >>> post = em.posterior(row, torch.zeros(1, 3, 9), torch.tensor([6]), em.Exact())     # 1 + 2 + 3
    >>> [round(q, 3) for q in post.marginals[0, 0, :4].tolist()]
    [0.333, 0.333, 0.333, 0.0]

    The parity again, compiled:

    >>> import numba
    >>> @numba.njit
    ... def even(z, y):
    ...     return int((z[0] + z[1] + z[2] + z[3]) % 2 == y[0])
    >>> fast = BlackBox(label=parity.label, latent_shape=(4,), cardinality=10, numba_score=even)
    >>> post = em.posterior(fast, logits, torch.tensor([0]), em.Rejection(samples=2000))
    >>> post.marginals[0, 3, ::2].sum().item()
    0.0
    """

    def __init__(
        self,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        label: Callable[[Tensor], Tensor] | None = None,
        latent_shape: tuple[int, ...],
        cardinality: int,
        label_shape: tuple[int, ...] = (),
        n_constraints: int | None = None,
        numba_score: Callable | None = None,
        triton_score: Callable | None = None,
    ) -> None:
        if (score is None) == (label is None):
            raise TypeError(f"BlackBox takes either score or label, got {'neither' if score is None else 'both'}")
        for index, size in enumerate(latent_shape):
            checks.is_integer(f"latent_shape[{index}]", size, 1, None)
        checks.is_integer("cardinality", cardinality, 2, MAX_CARDINALITY)
        if label is not None:
            n_entries = prod(label_shape)
            if n_constraints not in (None, n_entries):
                raise ValueError(f"n_constraints must be the number of label entries, {n_entries}, got {n_constraints}")
            n_constraints = n_entries
        self.n_constraints = 1 if n_constraints is None else n_constraints
        checks.is_integer("n_constraints", self.n_constraints, 1, None)
        self._score, self._label = score, label
        self._compiled = {"cpu": numba_score, "triton": triton_score}
        self.latent_shape, self.cardinality = tuple(latent_shape), cardinality
        self.label_shape = tuple(label_shape)
        self.tractable = self.map_tractable = self.enumerable

    def __repr__(self) -> str:
        function = self._label or self._score
        name = getattr(function, "__name__", type(function).__name__)
        return f"BlackBox({name}, latent_shape={self.latent_shape}, cardinality={self.cardinality})"

    def label(self, z: Tensor) -> Tensor:
        if self._label is None:
            raise UnsupportedInference(f"{self!r} is given by a score, which tells no label: construct it with label=")
        return self._label(z)

    @property
    def enumerable(self) -> bool:
        """Whether the assignments are few enough to try them all."""
        return self.cardinality ** prod(self.latent_shape) <= MAX_ASSIGNMENTS

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        """Number of satisfied constraints [samples, batch], from z [samples, batch, *latent_shape] and the label."""
        if self._score is not None:
            return weighted_samples.checked_score(self._score(z, label), z, self.n_constraints)
        found = self.label(z)
        checks.is_tensor("label(z)", found)
        checks.has_dtype("label(z)", found, (torch.bool, *checks.INTEGER_DTYPES))
        if found.shape != (*z.shape[:2], *self.label_shape):
            raise ValueError(f"label(z) must have shape {[*z.shape[:2], *self.label_shape]}, got {list(found.shape)}")
        return (found == label).reshape(*z.shape[:2], -1).sum(-1)

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        if settings.scope == "local":
            raise ValueError('scope must be "global" for em.BlackBox, got "local": its constraints name no symbols')
        if check:
            weighted_samples.check_values(logits, label, None, "an integer")
        compiled = self._compiled.get(backend_for(logits.device))
        count = None if compiled is None else functools.partial(self._count, compiled)
        return weighted_samples.weighted_marginals(
            logits, label, settings, Score(self.satisfied, self.n_constraints, count)
        )

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        if check:
            weighted_samples.check_values(logits, label, None, "an integer")
        return gibbs_chains.gibbs_marginals(logits, label, settings, Score(self.satisfied, self.n_constraints))

    def _count(self, score: Callable, logits: Tensor, label: Tensor, samples: int, seed: int, first_row: int) -> Tensor:
        return histogram(logits, label, score, self.n_constraints, samples, seed, first_row)

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        parts = []
        for z, log_joint, row_logits in self._joint(logits, label, check):
            log_evidence = torch.logsumexp(log_joint, 1)
            posterior = torch.where(log_evidence[:, None] > -torch.inf, log_joint - log_evidence[:, None], 0.0).exp()
            columns = [_by_value(posterior, values, self.cardinality) for values in z]
            prior = torch.softmax(row_logits, -1)
            possible = log_evidence > -torch.inf
            parts.append((torch.where(possible[:, None, None], torch.stack(columns, 1), prior), log_evidence, possible))
        marginals, log_evidence, possible = (torch.cat(column) for column in zip(*parts, strict=True))
        dtype = result_dtype(logits)
        return Marginals(marginals.to(dtype).view(logits.shape), log_evidence.to(dtype), possible)

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """See ``MapProblem``: the best of all assignments; ties go to the first in lexicographic order.

        Rows whose label is impossible get the first of the most probable values of every symbol.
        """
        parts = []
        for z, log_joint, row_logits in self._joint(logits, label, check):
            best, index = log_joint.max(1)
            possible = best > -torch.inf
            parts.append((torch.where(possible[:, None], z[:, index].T, row_logits.argmax(-1)), best, possible))
        z, log_joint, possible = (torch.cat(column) for column in zip(*parts, strict=True))
        dtype = result_dtype(logits)
        return MapAssignment(z.view(logits.shape[:-1]), log_joint.to(dtype), possible)

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        exact = self.exact_marginals(logits, label, check)
        return em_gradient_of(exact, logits, scale), exact.log_evidence

    def _joint(self, logits: Tensor, label: Tensor, check: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all assignments [N, M], log p(z, y) [rows, M] and logits [rows, N, K], for some rows at a time."""
        if check:
            weighted_samples.check_values(logits, label, None, "an integer")
        n, symbols = prod(self.latent_shape), logits.double().flatten(1, -2)
        z = _assignments(n, self.cardinality, logits.device)
        step = max(1, JOINTS_AT_A_TIME // z.shape[1])
        for first in range(0, max(len(logits), 1), step):
            part, part_label = symbols[first : first + step], label[first : first + step]
            log_prior = torch.log_softmax(part, -1)
            log_joint = torch.zeros(len(part), z.shape[1], dtype=torch.float64, device=z.device)
            for i in range(n):
                log_joint += log_prior[:, i, z[i]]
            yield z, log_joint.masked_fill(~self._has_label(z, part_label), -torch.inf), part

    def _has_label(self, z: Tensor, label: Tensor) -> Tensor:
        """Whether each assignment has the label of each row, bool [batch, M]."""
        batch, step = len(label), max(1, weighted_samples.SYMBOLS_AT_A_TIME // max(1, len(label) * len(z)))
        parts = []
        for columns in z.T.split(step):
            samples = columns.reshape(-1, 1, *self.latent_shape).expand(-1, batch, *self.latent_shape)
            parts.append((self.satisfied(samples, label) == self.n_constraints).T)
        return torch.cat(parts, 1)


def _assignments(n: int, cardinality: int, device: torch.device) -> Tensor:
    """All assignments, int64 [N, K ** N], in lexicographic order along the second axis."""
    index = torch.arange(cardinality**n, device=device)
    return torch.stack([index // cardinality ** (n - 1 - i) % cardinality for i in range(n)])


def _by_value(posterior: Tensor, values: Tensor, cardinality: int) -> Tensor:
    """Marginals of one symbol [batch, K], from posterior [batch, M] and the symbol's value [M] in each assignment."""
    result = posterior.new_zeros(len(posterior), cardinality)
    return result.index_add_(1, values, posterior)
