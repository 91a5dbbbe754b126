"""The M-step: losses that turn a posterior into gradients of a net."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emnesy_gpu import checks
from emnesy_gpu.dtensors import rows_of
from emnesy_gpu.engines import A_PROBLEM, Engine, Posterior, choose_engine
from emnesy_gpu.engines.exact import Exact, ExactProblem
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference.results import Marginals, em_gradient_of
from emnesy_gpu.ops.registry import is_unwatched
from emnesy_gpu.ops.row_passes import is_wrapped, scaled_rows
from emnesy_gpu.problems import Problem
from emnesy_gpu.problems.few_rows import by_few_rows
from emnesy_gpu.reduction import reduce, reduce_possible


@runtime_checkable
class FusedProblem(Protocol):
    """What ``em.fused_em_loss`` asks of a problem with an EM gradient of its own, which is faster than two steps.

    Other problems need ``exact_marginals`` alone. A problem that is not ``tractable`` is never asked.
    """

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        """Compute the exact EM gradient and the log evidence.

        Args:
            logits: float [batch, *latent_shape, cardinality], detached; -inf is a hard zero.
            label: int64 [batch, *label_shape].
            scale: factor of the gradient.
            check: raise ValueError for values of logits and label that are not allowed.

        Returns:
            The gradient (softmax(logits) - posterior) * scale, of the shape of the logits, float32 (float64 for
            float64 logits), 0 where the label is impossible; and log p(y | x) [batch], -inf there.
        """
        ...


def em_loss(logits: Tensor, post: Posterior, reduction: str = "mean", impossible: str = "prior") -> Tensor:
    """Cross-entropy of the net against a constant posterior, - sum_i sum_v q_i(v) log softmax(logits_i)(v).

    With exact marginals its gradient, softmax - q, equals that of -log p(y | x) (EM-NeSy, arXiv 2606.14463, Theorem
    3.1). Rows whose label is impossible add a gradient of exactly zero. Hard zeros (-inf logits) add nothing.
    Deterministic. Cost: plain torch, a few passes over the logits; ``em.fused_em_loss`` takes one.

    Args:
        logits: [batch, *latent_shape, cardinality], natural-log scale, not normalised; differentiable. With more
            leading axes, as for ``em.posterior``, a mean and a sum are over all of them, and "none" has them.
        post: what ``em.posterior`` returned, possibly from earlier logits (Multi-M steps).
        reduction: "mean" or "sum" over the batch, "none" for [batch]; symbols are summed over.
        impossible: what becomes of rows whose label is impossible. Their gradient is zero in any case. "prior" has the
            entropy of the prior as their value; "skip" leaves them out of a sum, and of a mean (0 where no row is
            left); "inf" makes their value +inf; "raise" raises an error, and waits for a GPU.

    Returns:
        The loss in nats, in the dtype of the marginals.

    Raises:
        ValueError: shapes that differ, an unknown reduction or option, or an impossible label with "raise".

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])
    >>> logits = torch.zeros(1, 2, 1, 10, requires_grad=True)
    >>> loss = em.em_loss(logits, em.posterior(problem, logits, label))
    >>> loss.backward()
    >>> [round(g, 2) for g in logits.grad[0, 0, 0].tolist()[:3]]     # softmax - posterior
    [-0.4, -0.4, 0.1]
    """
    checks.is_tensor("logits", logits)
    checks.is_instance("post", post, Posterior, "the Posterior that em.posterior returns")
    if logits.shape != post.marginals.shape:
        raise ValueError(
            f"logits must have the shape of the posterior {list(post.marginals.shape)}, got {list(logits.shape)}"
        )
    log_prior = torch.log_softmax(logits.to(post.marginals.dtype), -1)
    log_prior = log_prior.masked_fill(post.marginals == 0, 0.0)
    per_row = -(post.marginals * log_prior).flatten(post.possible.dim()).sum(-1)
    constant = per_row.detach()
    return reduce_possible(torch.where(post.possible, per_row, constant), post.possible, reduction, impossible)


def fused_em_loss(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    check: bool = True,
    impossible: str = "inf",
    engine: Engine[Any] | None = None,
) -> Tensor:
    """The loss -log p(y | x) with the EM gradient softmax(logits) - posterior: E-step and M-step in one operator.

    The value is exact, in nats; for an impossible label it is +inf, and the gradient of that row is exactly zero
    (EM-NeSy, arXiv 2606.14463, Theorem 3.1). Deterministic. Cost: that of the posterior, in one kernel, for
    ``em.Addition``, ``em.AllDifferent``, automata and circuits. The only memory is the gradient, which the last
    backward pass scales in place. Other problems with exact marginals take their exact E-step and subtract. There is no
    double backward: the gradient is a constant. ``torch.func.grad``, ``vjp``, ``jacrev`` and ``vmap`` work, in any
    order.

    With another engine than ``em.Exact()`` both are estimates: the value is that of -log_evidence, and the gradient is
    softmax(logits) - marginals, as that of ``em.em_loss``. It need not be the derivative of the value. Nothing is fused
    then: the cost is that of the E-step and of a softmax.

    A ``DTensor`` of logits and of labels gives a loss of that kind, see ``em.posterior``, whose gradient lies where the
    logits do. A mean or a sum is ``Partial``, as for every ``DTensor``: call ``loss.full_tensor()``.

    Args:
        problem, logits, label, check: as for ``em.posterior``.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        impossible: "inf", "skip" or "raise", for rows whose label is impossible: see ``em.em_loss``.
        engine: None is exact inference; a problem that has none needs an engine.

    Raises:
        TypeError, ValueError: as ``em.posterior``; ValueError also for an unknown reduction or option, and for an
            impossible label with "raise".
        UnsupportedEngineError: an engine that does not work for the problem, or none for a problem without exact
            inference (UnsupportedInference).

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.Addition(n_digits=1), torch.tensor([[0, 1]])
    >>> logits = torch.zeros(1, 2, 1, 10, requires_grad=True)
    >>> loss = em.fused_em_loss(problem, logits, label)
    >>> loss.backward()
    >>> round(loss.item(), 4), round(logits.grad[0, 0, 0, 0].item(), 2)   # -log(2 / 100)
    (3.912, -0.4)
    """
    checks.is_instance("problem", problem, Problem, A_PROBLEM)
    checks.is_flag("check", check)
    shards = leading = None
    prior_logits = logits.detach() if type(logits) is Tensor else logits
    is_plain = is_unwatched(prior_logits) and problem.are_ready(prior_logits, label)
    if not is_plain:
        shards = rows_of(logits, len(problem.latent_shape) + 1)
        if shards is not None:
            logits, label = shards.local("logits", logits), shards.local("label", label)
        logits, label, leading = problem.one_batch_axis(logits, label)
        prior_logits, label = problem.checked(logits, label)
        is_plain = shards is None and is_unwatched(prior_logits)
    if engine is not None:
        engine = choose_engine(problem, engine)
    elif not has_em_gradient(problem):
        reason = problem.limit or "it has no exact marginals"
        raise UnsupportedInference(
            f"{problem!r} has no exact EM gradient: {reason}. Give an engine, such as engine=em.ABC()"
        )
    elif is_plain:
        divisor = _divisor(reduction, impossible, label.shape[0])
        if divisor > 0:
            return cast(Tensor, _PlainLoss.apply(logits, prior_logits, label, problem, check, divisor))
    if engine is not None and shards is not None:
        engine = engine.after_rows(shards.first_row)
    negative_log_evidence, _ = _FusedEMLoss.apply(logits, prior_logits, label, problem, engine, check)
    if leading is not None:
        negative_log_evidence = negative_log_evidence.unflatten(0, leading)
    if shards is not None:
        negative_log_evidence = shards.whole(negative_log_evidence)
    if isinstance(impossible, str) and impossible == "inf":  # -log 0 is that already
        return reduce(negative_log_evidence, reduction)
    possible = negative_log_evidence.detach() < torch.inf
    return reduce_possible(negative_log_evidence, possible, reduction, impossible)


def has_em_gradient(problem: Problem) -> bool:
    """Whether ``em.fused_em_loss`` takes this problem: by its own gradient, or by exact marginals."""
    return issubclass(type(problem), (FusedProblem, ExactProblem)) and problem.tractable


def _divisor(reduction: object, impossible: object, n_rows: int) -> int:
    """What the sum of the losses is divided by; 0 where the loss is more than that."""
    if n_rows == 0 or not (isinstance(reduction, str) and isinstance(impossible, str) and impossible == "inf"):
        return 0
    return n_rows if reduction == "mean" else int(reduction == "sum")


def _em_gradient(
    problem: FusedProblem | ExactProblem,
    logits: Tensor,
    label: Tensor,
    check: bool,
    engine: Engine[Any] | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """That of exact inference, or of an engine, times scale; and the log evidence."""
    if engine is not None and type(engine) is not Exact:
        post = engine.infer(problem, logits, label, check)
        marginals = Marginals(post.marginals, post.log_evidence, post.possible)
        return em_gradient_of(marginals, logits, scale), post.log_evidence
    if issubclass(type(problem), FusedProblem):
        fused = cast(FusedProblem, problem)
        found = by_few_rows(fused.em_gradient, logits, label, 1.0, -scale)
        return fused.em_gradient(logits, label, scale, check) if found is None else found[:2]
    exact = cast(ExactProblem, problem).exact_marginals(logits, label, check)
    return em_gradient_of(exact, logits, scale), exact.log_evidence


class _FusedEMLoss(torch.autograd.Function):
    """The loss of every row [batch], with the EM gradient as its derivative; and that gradient, a constant."""

    @staticmethod
    def forward(
        logits: Tensor,
        prior_logits: Tensor,
        label: Tensor,
        problem: FusedProblem | ExactProblem,
        engine: Engine[Any] | None,
        check: bool,
    ) -> tuple[Tensor, Tensor]:
        """logits are differentiated; prior_logits are the same, detached, as the problem reads them."""
        gradient, log_evidence = _em_gradient(problem, prior_logits, label, check, engine)
        return -log_evidence, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # of the constant: zeros of its size
        ctx.save_for_backward(output[1])
        ctx.dtype = inputs[0].dtype

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _scaled(ctx, upstream), None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        """Rows are independent, so that the axis of vmap becomes a part of the batch."""
        *tensors, problem, engine, check = inputs
        apart = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims, strict=False)
        ]
        results = _FusedEMLoss.apply(*(tensor.flatten(0, 1) for tensor in apart), problem, engine, check)
        loss, gradient = (result.unflatten(0, apart[0].shape[:2]) for result in results)
        return (loss, gradient), (0, 0)


# torch asks for the signature in every call, which takes as long as a small kernel.
setattr(_FusedEMLoss.forward, "__signature__", inspect.signature(_FusedEMLoss.forward))  # noqa: B010


class _PlainLoss(torch.autograd.Function):
    """The sum of these losses over a divisor, for a call that nothing but autograd watches, at a third of the cost.

    A function with a ``setup_context``, which transforms of ``torch.func`` ask for, binds its arguments in every call.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        prior_logits: Tensor,
        label: Tensor,
        problem: FusedProblem | ExactProblem,
        check: bool,
        divisor: int,
    ) -> Tensor:
        # The kernel divides by a power of two: the bits are those of a division afterwards.
        divided = divisor if divisor & (divisor - 1) == 0 else 1
        gradient, log_evidence = _em_gradient(problem, prior_logits, label, check, scale=1.0 / divided)
        ctx.save_for_backward(gradient)
        ctx.dtype, ctx.divisor = logits.dtype, divisor // divided
        if label.shape[0] > checks.FEW_ROWS:
            return log_evidence.sum().div_(-divisor)
        # Python adds up a few numbers sooner than torch does.
        return torch.scalar_tensor(sum(log_evidence.tolist()) / -divisor, dtype=log_evidence.dtype, device="cpu")

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # Where nobody can differentiate the gradient, to forbid it costs more than to scale it.
        scale = once_differentiable(_of_plain) if torch.is_grad_enabled() else _of_plain
        return scale(ctx, upstream), None, None, None, None, None


def _of_plain(ctx: Any, upstream: Tensor) -> Tensor:
    """The gradient of ``_PlainLoss``: to the bit that of the losses and their mean or sum."""
    (gradient,), last = ctx.saved_tensors, _is_last_use(upstream)
    if not last or gradient.shape[0] > checks.FEW_ROWS or not is_unwatched(upstream):
        return _scaled(ctx, upstream / ctx.divisor)
    factor = upstream.item() / ctx.divisor  # torch rounds it to its own quotient
    if factor != 1.0:
        gradient.mul_(factor)
    return gradient if gradient.dtype == ctx.dtype else gradient.to(ctx.dtype)


def _scaled(ctx: Any, upstream: Tensor) -> Tensor:
    """The saved gradient times what comes from upstream: a number a row, or one for all."""
    scaled = scaled_rows(ctx.saved_tensors[0], upstream, _is_last_use(upstream))
    return scaled if scaled.dtype == ctx.dtype else scaled.to(ctx.dtype)


def _is_last_use(upstream: Tensor) -> bool:
    """Whether a backward pass may overwrite what was saved for it: the graph is not kept, and upstream is no batch."""
    if torch.compiler.is_compiling() or is_wrapped(upstream):
        return False
    return not torch._C._autograd._get_current_graph_task_keep_graph()
