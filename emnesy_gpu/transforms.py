"""Transforms of ``torch.func``: what ``vmap`` adds to logits and labels becomes one more axis of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.utils._pytree import tree_flatten, tree_unflatten

T = TypeVar("T")

TensorsOf = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def is_mapped() -> bool:
    """Whether a ``vmap`` is around this call, outside of compiled graphs."""
    levels = None if torch.compiler.is_compiling() else get_interpreter_stack()
    return levels is not None and any(level.key() == TransformType.Vmap for level in levels)


def mapped(infer: Callable[[Tensor, Tensor], T], logits: Tensor, label: Tensor) -> T:
    """The pytree of every part of a ``vmap``, by one call for all of them; infer takes any leading axes."""
    made: list[Any] = []

    def tensors_of(logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        made[:] = tree_flatten(infer(logits, label))
        return tuple(leaf for leaf in made[0] if isinstance(leaf, Tensor))

    found = iter(_Constant.apply(tensors_of, logits, label))
    leaves, spec = made
    whole = [next(found) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    result: T = tree_unflatten(whole, spec)
    return result


class _Constant(torch.autograd.Function):
    """Tensors of logits and labels with any leading axes, none of which can be differentiated."""

    @staticmethod
    def forward(tensors_of: TensorsOf, logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        return tensors_of(logits, label)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.set_materialize_grads(False)
        ctx.n_results = len(output)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, ...]:
        return None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[None, ...]:
        return (None,) * ctx.n_results

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], tensors_of: TensorsOf, *inputs: Tensor) -> Any:
        apart = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs, in_dims[1:], strict=True)
        ]
        results = _Constant.apply(tensors_of, *apart)
        rows = apart[0].shape[:2]
        return results, tuple(0 if result.shape[:2] == rows else None for result in results)
