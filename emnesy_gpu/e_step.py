"""The E-step: the posterior over hidden symbols given a label."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from emnesy_gpu import checks
from emnesy_gpu.dtensors import rows_of
from emnesy_gpu.engines import A_PROBLEM, Engine, Posterior, choose_engine
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference.results import per_row
from emnesy_gpu.ops.registry import is_unwatched
from emnesy_gpu.problems import Problem
from emnesy_gpu.transforms import is_mapped, mapped

__all__ = ["Posterior", "posterior", "posterior_of_labels", "sample_posterior"]


@runtime_checkable
class SampledProblem(Protocol):
    """What ``em.sample_posterior`` asks of a problem; a problem that is not ``tractable`` is never asked."""

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        """Draw independent exact samples z ~ p(z | y, x).

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            n_samples: samples per row, at least 0.
            seed: 0..2**63-1, the key of the random words, which depend on neither batch split nor launch geometry.
            first_row: the global index of row 0, at least 0.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            int64 [n_samples, batch, *latent_shape]; draws from the prior in rows whose label is impossible.
        """
        ...


def posterior(
    problem: Problem, logits: Tensor, label: Tensor, engine: Engine[Any] | None = None, check: bool = True
) -> Posterior:
    """Posterior marginals of every hidden symbol, q_i(v) = p(z_i = v | y, x) under p(z | x) = prod_i softmax(logits_i).

    This is the E-step of EM-NeSy (arXiv 2606.14463). It is never differentiable: the logits are detached, and the
    result is a constant on every back end.

    Args:
        problem: the symbolic component, e.g. ``em.Addition(n_digits=4)``.
        logits: [batch, *problem.latent_shape, problem.cardinality], float32, float64, bfloat16 or float16, any strides,
            on a CPU or a CUDA device; half types are computed in float32. Any finite value, and -inf for a hard zero.
            Finite ones beyond +-1e12 count as +-1e12, and none is a hard zero.
        label: integers [batch, ...] as ``problem.label`` returns them, on the same device. More leading axes may stand
            in place of batch, the same ones in logits and label; then all results have them.
        engine: the E-step strategy; None takes the first that works for the problem, of exact inference, belief
            propagation, ABC, Gibbs, rejection and MAP.
        check: verify the values of logits and label. The check costs one synchronisation on a GPU; without it the
            kernels stay within their memory, but rows with values that are not allowed have unspecified results. Then
            the first call copies tables to the GPU, and later ones copy nothing from the host: call once before a CUDA
            graph is captured.

    Returns:
        ``Posterior``: marginals (probabilities), log_evidence (natural log), possible, info. A label that is
        impossible, also by hard zeros, has log_evidence -inf, possible False and the prior as marginals, never NaN.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or device; with ``check`` also NaN or +inf logits, a symbol without a finite logit,
            or a label out of range.
        UnsupportedEngineError: the engine does not work for the problem.

    A ``DTensor`` of logits whose rows are sharded or replicated, with a ``DTensor`` as label, gives a posterior of
    ``DTensor`` with the same placements: every process computes its rows, and nothing is sent unless the label lies
    otherwise. Samples are those of the whole batch. An error for values is raised by the process that has the row.
    ``torch.func.vmap`` adds rows, in one call; samples are those of one batch of them all.

    The same input gives the same bits, whatever the batch around a row. Cost: see the problem and the engine. Memory:
    that of the result, and what the engine needs.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=1)
    >>> logits = torch.zeros(1, 2, 1, 10)                            # two digits, nothing known
    >>> post = em.posterior(problem, logits, torch.tensor([[0, 1]]))  # their sum is 1: 0 + 1 or 1 + 0
    >>> [round(q, 4) for q in post.marginals[0, 0, 0, :3].tolist()]
    [0.5, 0.5, 0.0]
    >>> round(post.log_evidence.exp().item(), 4)                     # 2 of 100 pairs
    0.02
    """
    engine = choose_engine(problem, engine)
    checks.is_flag("check", check)
    if is_unwatched(logits) and problem.are_ready(logits, label):
        return engine.infer(problem, logits, label, check)
    if is_mapped():
        return mapped(lambda logits, label: posterior(problem, logits, label, engine, check), logits, label)
    rows = rows_of(logits, len(problem.latent_shape) + 1)
    if rows is not None:
        logits, label = rows.local("logits", logits), rows.local("label", label)
        post = posterior(problem, logits, label, engine.after_rows(rows.first_row), check)
        whole: Posterior = tree_map_only(Tensor, rows.whole, post)
        return whole
    logits, label, leading = problem.one_batch_axis(logits, label)
    logits, label = problem.checked(logits, label)
    post = engine.infer(problem, logits, label, check)
    return post if leading is None else post.unflatten(leading)


def posterior_of_labels(
    problem: Problem,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    engine: Engine[Any] | None = None,
    check: bool = True,
) -> Posterior:
    """The posterior where a row has several possible labels with weights: p(z | x, w) ~ sum_l w_l p(z, y_l | x).

    w_l is the probability of what was observed given label l, such as the noise of an annotator (virtual evidence,
    Pearl, "Probabilistic reasoning in intelligent systems" (1988), section 2.3.3). The labels of a row are distinct.

    Args:
        problem, engine, check: as for ``em.posterior``.
        logits: [batch, *latent_shape, cardinality].
        labels: integers [batch, L, *label_shape].
        weights: floats [batch, L], at least 0; a weight of 0 leaves its label out.

    Returns:
        ``Posterior``; log_evidence is log sum_l w_l p(y_l | x). info["label"] is p(y_l | x, w), [batch, L], 0 where
        no label is possible.

    Raises TypeError and ValueError as ``em.posterior`` does; ValueError for weights of another shape, and with
    ``check`` for weights that are negative or not finite. Cost: that of ``em.posterior`` on batch * L rows.

    >>> import torch, emnesy_gpu as em
    >>> labels, weights = torch.tensor([[[0, 0], [1, 8]]]), torch.tensor([[0.9, 0.1]])     # 0 + 0, or 9 + 9
    >>> post = em.posterior_of_labels(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), labels, weights)
    >>> [round(q, 3) for q in post.marginals[0, 0, 0].tolist()][::9], round(post.log_evidence.exp().item(), 4)
    ([0.9, 0.1], 0.01)
    """
    checks.is_tensor("logits", logits)
    checks.has_rows("logits", logits)
    checks.is_tensor("labels", labels)
    checks.is_tensor("weights", weights)
    checks.is_flag("check", check)
    checks.has_dtype("weights", weights, checks.FLOAT_DTYPES)
    if weights.dim() != 2 or weights.shape != labels.shape[:2] or len(weights) != len(logits):
        expected = f"[{len(logits)}, L] and [{len(logits)}, L, ...]"
        raise ValueError(
            f"weights and labels must have shapes {expected}, got {list(weights.shape)} and {list(labels.shape)}"
        )
    if check and not bool(((weights >= 0) & (weights < torch.inf)).all()):
        raise ValueError("weights must be finite and at least 0")
    repeated = logits.detach().repeat_interleave(labels.shape[1], 0)
    each = posterior(problem, repeated, labels.flatten(0, 1), engine, check).unflatten(weights.shape)
    joint = each.log_evidence + weights.to(each.log_evidence.dtype).log()
    log_evidence = joint.logsumexp(1)
    possible = log_evidence > -torch.inf
    share = torch.softmax(joint, 1).masked_fill(~possible[:, None], 0.0)
    marginals = torch.einsum("bl,bl...->b...", share, each.marginals)
    prior = torch.softmax(logits.detach().to(marginals.dtype), -1)
    marginals = torch.where(per_row(possible, prior), marginals, prior)
    return Posterior(marginals, log_evidence, possible, {"label": share})


def sample_posterior(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    n_samples: int,
    seed: int,
    first_row: int = 0,
    check: bool = True,
) -> Tensor:
    """Independent exact joint samples z ~ p(z | y, x), int64 [n_samples, batch, *latent_shape].

    Logits and labels with more leading axes in place of batch give samples with these; rows are counted through them.

    Chains are sampled by forward filtering and backward sampling in float64, so that every sample has the label y. The
    random words come from Philox-4x32-10 with counter (position, sample, first_row + row) and key ``seed``: equal seeds
    give equal samples, and a sample depends on neither the batch split nor the launch geometry. Row r of a batch equals
    row 0 of a batch that starts at ``first_row=r``. Rows whose label is impossible are drawn from the prior. A
    ``DTensor`` of logits and of labels gives one of samples, and ``torch.func.vmap`` adds rows, as for
    ``em.posterior``.

    Args:
        problem, logits, label, check: as for ``em.posterior``.
        n_samples: samples per row, at least 0.
        seed: an integer in 0..2**63-1.
        first_row: the global index of row 0, at least 0, for batches that are parts of a larger one.

    Raises:
        TypeError, ValueError: as ``em.posterior``; ValueError also for numbers out of range.
        UnsupportedInference: a problem without exact samples. This is an UnsupportedEngineError.

    Cost: one pass forward per row, and O(samples) backward; see the problem.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.Addition(n_digits=3)
    >>> label = torch.tensor([[1, 2, 3, 4]])
    >>> z = em.sample_posterior(problem, torch.randn(1, 2, 3, 10), label, n_samples=5, seed=0)
    >>> bool((problem.label(z) == label).all())
    True
    """
    checks.is_instance("problem", problem, Problem, A_PROBLEM)
    checks.is_integer("n_samples", n_samples, 0, checks.LARGEST_SEED)
    checks.is_integer("seed", seed, 0, checks.LARGEST_SEED)
    checks.is_integer("first_row", first_row, 0, checks.LARGEST_SEED)
    checks.is_flag("check", check)
    if is_mapped():
        symbols = len(problem.latent_shape)

        def by_row(logits: Tensor, label: Tensor) -> Tensor:
            z = sample_posterior(problem, logits, label, n_samples, seed, first_row, check)
            return z.movedim(0, -symbols - 1)

        return mapped(by_row, logits, label).movedim(-symbols - 1, 0)
    rows = rows_of(logits, len(problem.latent_shape) + 1)
    if rows is not None:
        logits, label = rows.local("logits", logits), rows.local("label", label)
        first_row += rows.first_row
        return rows.whole(sample_posterior(problem, logits, label, n_samples, seed, first_row, check), axis=1)
    logits, label, leading = problem.one_batch_axis(logits, label)
    logits, label = problem.checked(logits, label)
    if not (issubclass(type(problem), SampledProblem) and problem.tractable):
        reason = problem.limit or "use the marginals of em.posterior"
        raise UnsupportedInference(f"{problem!r} has no exact samples: {reason}")
    z = cast(SampledProblem, problem).sample(logits, label, n_samples, seed, first_row, check)
    return z if leading is None else z.unflatten(1, leading)
