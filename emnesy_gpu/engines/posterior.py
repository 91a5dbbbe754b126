"""The posterior that engines return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from emnesy_gpu import checks


@dataclass
class Posterior:
    """The result of an E-step; every tensor is a constant (``requires_grad`` is False).

    Attributes:
        marginals: [batch, *latent_shape, cardinality], q_i(v) = p(z_i = v | y, x) or the engine's estimate, float32
            (float64 for float64 logits), probabilities that sum to 1 over the last axis. Where ``possible`` is False
            they are the prior softmax(logits), so that the EM gradient is exactly 0.
        log_evidence: [batch], log p(y | x) in nats, or the engine's estimate or bound; -inf for an impossible label.
        possible: bool [batch], False where the engine finds no assignment of positive probability with this label.
        info: further results by name, most of them tensors [batch]: see the engine.

    It unpacks into these four. ``len`` and ``[...]`` are of rows: ``post[3]``, ``post[:8]``, ``post[mask]`` are
    posteriors too, and ``post[3]`` is one of one row. It is a pytree, and ``torch.load(weights_only=True)`` reads it.

    >>> import torch, emnesy_gpu as em
    >>> post = em.posterior(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[1, 9]]))   # 9 + 9 = 18
    >>> post.possible.tolist(), post.log_evidence.tolist(), round(post.marginals[0, 0, 0, 0].item(), 3)
    ([False], [-inf], 0.1)
    >>> marginals, log_evidence, possible, info = post
    >>> len(post), post[0].possible.tolist(), round(post.entropy().sum().exp().item())       # of 100 pairs
    (1, [False], 100)
    """

    marginals: Tensor
    log_evidence: Tensor
    possible: Tensor
    info: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.marginals, self.log_evidence, self.possible, self.info))

    def __len__(self) -> int:
        return len(self.possible)

    def __getitem__(self, rows: Any) -> Posterior:
        """Some rows: an integer, a slice, or a tensor of integers or bools; IndexError for what is not there."""
        if isinstance(rows, (bool, str, float, NoneType)):
            raise TypeError(f"rows must be an integer, a slice or a tensor, got {rows!r}")
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row must lie in {-len(self)}..{len(self) - 1}, got {rows}")
            rows = slice(rows, rows + 1 or None)
        batch = self.possible.shape[:1]
        return self._map(lambda tensor: tensor[rows] if tensor.shape[:1] == batch else tensor)

    def to(self, *arguments: Any, **options: Any) -> Posterior:
        """The same with its tensors on another device: arguments as for ``Tensor.to``, but for dtypes.

        Raises TypeError for a dtype, which would change what is no probability too.
        """
        if any(isinstance(value, torch.dtype) for value in (*arguments, *options.values())):
            raise TypeError("Posterior.to takes a device, got a dtype: convert post.marginals itself")
        return self._map(lambda tensor: tensor.to(*arguments, **options))

    def cpu(self) -> Posterior:
        """The same on the CPU."""
        return self.to("cpu")

    def unflatten(self, sizes: Sequence[int]) -> Posterior:
        """The rows on several axes, for logits and labels that were flattened to one: see ``Tensor.unflatten``.

        >>> import torch, emnesy_gpu as em
        >>> problem, logits = em.Addition(n_digits=1), torch.zeros(4, 3, 2, 1, 10)
        >>> label = problem.label(logits.argmax(-1))
        >>> post = em.posterior(problem, logits.flatten(0, 1), label.flatten(0, 1)).unflatten((4, 3))
        >>> post.marginals.shape == logits.shape
        True
        """
        checks.is_shape("sizes", sizes)
        if math.prod(sizes) != len(self):
            raise ValueError(f"sizes must have the product {len(self)}, the number of rows, got {tuple(sizes)}")
        batch = self.possible.shape[:1]
        return self._map(lambda tensor: tensor.unflatten(0, sizes) if tensor.shape[:1] == batch else tensor)

    def entropy(self) -> Tensor:
        """That of each symbol, [batch, *latent_shape], nats; the entropy of all together is at most their sum."""
        return torch.special.entr(self.marginals).sum(-1)

    def mode(self) -> Tensor:
        """The most probable value of each symbol by itself, int64 [batch, *latent_shape], the first of equals.

        Together they need not have the label: ``em.MAP()`` finds the most probable assignment that has it.
        """
        return self.marginals.argmax(-1)

    def sample(self, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws from the marginals of each symbol, int64 [n_samples, batch, *latent_shape].

        Symbols are drawn apart, so that they need not have the label together: ``em.sample_posterior`` draws from the
        joint posterior. generator: on the device of the posterior; None takes that of torch.
        """
        checks.is_integer("n_samples", n_samples, 0, checks.LARGEST_SEED)
        if generator is not None:
            checks.is_instance("generator", generator, torch.Generator, "a torch.Generator or None")
        flat = self.marginals.flatten(0, -2)
        if n_samples == 0 or len(flat) == 0:
            return torch.zeros(n_samples, *self.marginals.shape[:-1], dtype=torch.int64, device=flat.device)
        drawn = torch.multinomial(flat, n_samples, replacement=True, generator=generator)
        return drawn.T.reshape(n_samples, *self.marginals.shape[:-1])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Posterior:
        """The same with a function of each tensor."""
        info = {name: function(value) if isinstance(value, Tensor) else value for name, value in self.info.items()}
        return Posterior(function(self.marginals), function(self.log_evidence), function(self.possible), info)


pytree.register_dataclass(Posterior)
torch.serialization.add_safe_globals([Posterior])
