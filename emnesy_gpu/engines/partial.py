"""An engine for batches in which some rows have no label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emnesy_gpu.engines.engine import WrappedEngine
from emnesy_gpu.engines.posterior import Posterior
from emnesy_gpu.inference.results import per_row
from emnesy_gpu.labels import NOT_LABELLED


class Partial(WrappedEngine):
    """Another engine, for batches in which every entry of some labels is -1: these rows have no label.

    Their marginals are the prior, so that they do not move the net; their log evidence is 0, which is log 1, and they
    are possible. All other rows have the results of the engine, ``info`` included; what it says of rows without a label
    means nothing. ``em.as_label(values, labelled)`` makes such labels from a mask.

    Args:
        engine: the engine for rows with a label.

    Raises what the engine raises. Cost: that of the engine on the whole batch.

    >>> import torch, emnesy_gpu as em
    >>> logits, label = torch.zeros(2, 2, 1, 10), torch.tensor([[0, 1], [-1, -1]])
    >>> post = em.posterior(em.Addition(n_digits=1), logits, label, em.Partial(em.Exact()))
    >>> [round(p, 3) for p in post.log_evidence.exp().tolist()], round(post.marginals[1].max().item(), 3)
    ([0.02, 1.0], 0.1)
    """

    def infer(self, problem: Any, logits: Tensor, label: Tensor, check: bool) -> Posterior:
        missing = (label == NOT_LABELLED).unsqueeze(1).flatten(1).all(1)
        given = label.masked_fill(per_row(missing, label), problem.any_label)
        post = super().infer(problem, logits, given, check)
        prior = torch.softmax(logits.to(post.marginals.dtype), -1)
        return Posterior(
            torch.where(per_row(missing, prior), prior, post.marginals),
            post.log_evidence.masked_fill(missing, 0.0),
            post.possible | missing,
            post.info,
        )

    def __repr__(self) -> str:
        return f"em.Partial({self.engine!r})"
