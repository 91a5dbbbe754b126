"""Addition and lists of assignments in JAX, compiled by XLA: what one writes there without a posterior engine.

Rescaled probabilities; a scan over the digits, and one gather for the list. Baselines for speed on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, Tensor]]


def addition(base: int = 10) -> Run:
    """A function (logits [batch, 2, n, base], label [batch, n + 1]) -> marginals and log evidence [batch]."""
    return _compiled(lambda logits, label: _addition(base, logits, label))


def enumeration(assignments: Tensor) -> Run:
    """A function of logits [batch, N, K] -> marginals and log evidence [batch]; assignments uint8 [M, N]."""
    listed = assignments.numpy().astype("int32")
    return _compiled(lambda logits: _enumeration(listed, logits))


def _compiled(function: Callable[..., tuple[Any, Any]]) -> Run:
    """The function, compiled for each shape, from and to torch; raises ModuleNotFoundError without JAX."""
    import jax

    run = jax.jit(function)

    def call(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        marginals, log_evidence = jax.block_until_ready(run(*(tensor.numpy() for tensor in tensors)))
        return torch.from_dlpack(marginals), torch.from_dlpack(log_evidence)

    return call


def _addition(base: int, logits: Any, label: Any) -> tuple[Any, Any]:
    import jax
    from jax import numpy as jnp

    first, second = jnp.moveaxis(jax.nn.softmax(logits, -1), (1, 2), (0, 1))
    u, carry = jnp.arange(base), jnp.arange(2)
    digits = label[:, 1:].T

    def pairs(x: Any, y: Any, digit: Any) -> Any:
        """p of a value of the first digit and of the carry in, by the carry out: [batch, carry, u, carry out]."""
        rest = digit[:, None, None] - u - carry[:, None]
        joint = x[:, None, :] * jnp.take_along_axis(y[:, None, :], rest % base, -1)
        return joint[..., None] * ((rest < 0)[..., None] == carry)

    def forward(alpha: Any, step: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        ahead = jnp.einsum("bc,bcuo->bo", alpha, pairs(*step))
        total = ahead.sum(1, keepdims=True)
        return ahead / total, (alpha, jnp.log(total[:, 0]))

    def backward(beta: Any, step: tuple[Any, ...]) -> tuple[Any, Any]:
        alpha, *inputs = step
        joint = pairs(*inputs)
        before = jnp.einsum("bo,bcuo->bc", beta, joint)
        weights = jnp.einsum("bc,bo,bcuo->bcu", alpha, beta, joint)
        weights /= weights.sum((1, 2), keepdims=True)
        rest = (inputs[2][:, None, None] - u - carry[:, None]) % base
        other = jnp.zeros_like(inputs[1]).at[jnp.arange(len(rest))[:, None, None], rest].add(weights)
        return before / before.sum(1, keepdims=True), (weights.sum(1), other)

    start = jnp.zeros((len(logits), 2), first.dtype).at[:, 0].set(1.0)
    last, (alphas, scales) = jax.lax.scan(forward, start, (first, second, digits), reverse=True)
    final = (label[:, :1] == carry).astype(first.dtype)
    _, marginals = jax.lax.scan(backward, final, (alphas, first, second, digits))
    both = jnp.stack([jnp.moveaxis(part, 0, 1) for part in marginals], 1)
    return both, scales.sum(0) + jnp.log((last * final).sum(1))


def _enumeration(listed: Any, logits: Any) -> tuple[Any, Any]:
    import jax
    from jax import numpy as jnp

    prior = jax.nn.softmax(logits, -1)
    weights = jnp.take_along_axis(prior, listed.T[None], 2).prod(1)
    total = weights.sum(1, keepdims=True)
    marginals = jnp.einsum("bm,mik->bik", weights / total, jax.nn.one_hot(listed, logits.shape[2]))
    return marginals, jnp.log(total[:, 0])
