"""Automata in JAX: forward-backward messages by two scans, compiled by XLA for one table of next states.

What one writes in JAX without a posterior engine: rescaled probabilities, [states, batch] so that a gather copies whole
rows, and the values unrolled so that XLA fuses the gathers with their products and sums. Rows first, one gather of all
values, and products with one-hot matrices took longer in nearly all sizes. A baseline for speed on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def posterior(next_state: np.ndarray) -> Run:
    """A function (logits [batch, n, K], label [batch]) -> marginals [batch, n, K] and log evidence [batch].

    next_state: integers [S, K]. Every value permutes the states, the first state is 0, and the label is the last one.
    Raises ModuleNotFoundError without JAX, and ValueError where a value does not permute the states.
    """
    import jax

    previous = np.argsort(next_state, axis=0)
    if not (np.take_along_axis(next_state, previous, 0) == np.arange(len(next_state))[:, None]).all():
        raise ValueError("every value must permute the states: each column of next_state has each state once")
    run = jax.jit(lambda logits, label: _forward_backward(next_state, previous, logits, label))

    def call(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        marginals, log_evidence = jax.block_until_ready(run(logits.numpy(), label.numpy()))
        return torch.from_dlpack(marginals), torch.from_dlpack(log_evidence)

    return call


def _forward_backward(next_state: np.ndarray, previous: np.ndarray, logits: Any, label: Any) -> tuple[Any, Any]:
    import jax
    from jax import numpy as jnp

    states, values = next_state.shape

    def forward(alpha: Any, prior: Any) -> tuple[Any, Any]:
        ahead = sum(alpha[previous[:, v]] * prior[v] for v in range(values))
        total = ahead.sum(0)
        return ahead / total, (alpha, jnp.log(total))

    def backward(beta: Any, step: tuple[Any, Any]) -> tuple[Any, Any]:
        alpha, prior = step
        ahead = [beta[next_state[:, v]] for v in range(values)]
        joint = jnp.stack([(alpha * one).sum(0) for one in ahead]) * prior
        before = sum(one * prior[v] for v, one in enumerate(ahead))
        return before / before.max(0), joint / joint.sum(0)

    prior = jnp.transpose(jax.nn.softmax(logits, -1), (1, 2, 0))
    start = jnp.zeros((states, len(logits)), prior.dtype).at[0].set(1.0)
    final = jax.nn.one_hot(label, states, axis=0, dtype=prior.dtype)
    last, (alphas, log_totals) = jax.lax.scan(forward, start, prior)
    _, marginals = jax.lax.scan(backward, final, (alphas, prior), reverse=True)
    return jnp.transpose(marginals, (2, 0, 1)), log_totals.sum(0) + jnp.log((last * final).sum(0))
