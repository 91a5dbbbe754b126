"""Loopy belief propagation in plain torch: flooding, batched, a tensor operation for all factors of one kind.

What one writes in PyTorch without an engine: messages as logarithms of probabilities, the messages from symbols by one
sum by index and one difference, and the messages of tables, parities and automata by products and sums. A baseline for
speed and memory. A floor keeps hard zeros finite, which the kernels do not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 1e-30
"""The least probability in a message."""


class Pairs(NamedTuple):
    """One table of weights [K, K] for all scopes, int64 [factors, 2]."""

    scopes: Tensor
    weights: Tensor

    def send(self, n: Tensor) -> Tensor:
        """Messages to both symbols, from those of both [batch, factors, 2, K]."""
        weights = self.weights.to(n)
        return torch.stack([n[:, :, 1] @ weights.T, n[:, :, 0] @ weights], 2)


class Parities(NamedTuple):
    """An even number of ones in all scopes, int64 [factors, d]."""

    scopes: Tensor

    def send(self, n: Tensor) -> Tensor:
        """Messages from those of the symbols [batch, factors, d, 2], by the product of all other differences."""
        difference = n[..., 0] - n[..., 1]
        ones = torch.ones_like(difference[..., :1])
        before = torch.cat([ones, difference[..., :-1]], -1).cumprod(-1)
        after = torch.cat([ones, difference.flip(-1)[..., :-1]], -1).cumprod(-1).flip(-1)
        others = before * after
        return torch.stack([1 + others, 1 - others], -1)


class Automata(NamedTuple):
    """One automaton for all scopes, int64 [factors, d]: next states int64 [S, K], from state 0 to state ``last``."""

    scopes: Tensor
    next_state: Tensor
    last: int

    def send(self, n: Tensor) -> Tensor:
        """Messages from those of the symbols [batch, factors, d, K], by states forwards and backwards."""
        steps = torch.nn.functional.one_hot(self.next_state, len(self.next_state)).to(n)
        alphas = [steps.new_zeros(*n.shape[:2], len(steps))]
        alphas[0][..., 0] = 1
        for symbol in n.unbind(2)[:-1]:
            alphas.append(torch.einsum("bfs,bfv,svt->bft", alphas[-1], symbol, steps))
        beta = torch.zeros_like(alphas[0])
        beta[..., self.last] = 1
        messages = []
        for alpha, symbol in zip(reversed(alphas), reversed(n.unbind(2)), strict=True):
            messages.append(torch.einsum("bfs,svt,bft->bfv", alpha, steps, beta))
            beta = torch.einsum("svt,bfv,bft->bfs", steps, symbol, beta)
        return torch.stack(messages[::-1], 2)


@torch.no_grad()
def beliefs(factors: Sequence[Pairs | Parities | Automata], logits: Tensor, sweeps: int) -> Tensor:
    """Beliefs [batch, n, K] after so many flooding sweeps without damping; logits: [batch, n, K]."""
    log_prior = torch.log_softmax(logits, -1)
    messages = [logits.new_zeros(len(logits), *group.scopes.shape, logits.shape[-1]) for group in factors]
    total = log_prior
    for _ in range(sweeps):
        messages = [
            group.send(torch.softmax(total[:, group.scopes] - sent, -1)).clamp_min(FLOOR).log()
            for group, sent in zip(factors, messages, strict=True)
        ]
        messages = [sent - sent.logsumexp(-1, keepdim=True) for sent in messages]
        total = log_prior.clone()
        for group, sent in zip(factors, messages, strict=True):
            total.index_add_(1, group.scopes.flatten(), sent.flatten(1, 2))
    return torch.softmax(total, -1)
