"""The losses of other systems as engines, so that every task trains with them as with a posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.engines import layers

RowLoss = Callable[[Tensor, Tensor, str], Tensor]
"""Logits [batch, *latent_shape, cardinality], label, and "none" -> loss [batch], differentiable in the logits.

It may have ``state_dict`` and ``load_state_dict``, if it learns as it is called, and ``start_epoch``.
"""

EXAL_DECAY = 0.95
"""What remains after an epoch of the weight that earlier draws have in the sampler of EXAL."""


CALLS_BEFORE_THE_NET = 500
"""Steps of A-NeSI on boards before the net learns: as published 50 epochs of 10 batches."""

PAIRS_OF_A_STEP = 500 * 56
"""Pairs of cells that its predictor learns from: 500 boards of 4x4 as published, and as many pairs of larger ones."""


def posterior_by_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> em.Posterior:
    """Return a loss of rows in the form of a posterior: softmax(logits) - d loss / d logits, and minus the loss.

    The M-step against it has the gradient of the loss, as long as adding a number to all logits of a symbol does not
    change the loss. Where the loss is -log p(y | x) it is the posterior, by Theorem 3.1 of EM-NeSy (arXiv 2606.14463);
    else it need not be a distribution.

    Where no row has a gradient, all rows are marked as impossible, so that the M-step has none either: Adam would make
    whole steps of what rounding leaves of softmax - posterior.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        of_rows = loss(leaf)
        (gradient,) = torch.autograd.grad(of_rows.sum(), leaf)
    log_evidence = -of_rows.detach()
    possible = (log_evidence > float("-inf")) & gradient.any()
    return em.Posterior(torch.softmax(leaf.detach(), -1) - gradient, log_evidence, possible)


class LossEngine(em.Engine[em.Problem]):
    """A loss in the form of an engine; see ``posterior_by_gradient``."""

    asks = object

    def __init__(self, loss: RowLoss) -> None:
        self.loss: Any = loss

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        """Return the gradient of the loss in the form of a posterior."""
        return posterior_by_gradient(lambda leaf: self.loss(leaf, label, "none"), logits)


class Exal:
    """The loss of EXAL with its sampler of explanations, whose memory fades with the epochs."""

    def __init__(self, problem: em.Problem) -> None:
        assert isinstance(problem, em.Addition)
        self.problem, self.explanations = problem, em.baselines.AdditionExplanations(problem)

    def start_epoch(self, epoch: int) -> None:
        """Set the weight of earlier draws for an epoch, counted from 1."""
        self.explanations.alpha = EXAL_DECAY**epoch

    def __call__(self, logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
        """Return the loss of explanations that are drawn now."""
        return em.baselines.exal_loss(self.problem, logits, label, self.explanations(logits, label), reduction)

    def state_dict(self) -> dict[str, Any]:
        """Return how often each value was drawn."""
        return {"counts": self.explanations.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state from ``state_dict``."""
        self.explanations.counts = state["counts"]


def exal_by_posterior(
    problem: em.Problem, logits: Tensor, label: Tensor, reduction: str = "mean", samples: int = 600
) -> Tensor:
    """Return the loss of EXAL with exact samples of the posterior as explanations, from torch's default generator."""
    seed = int(torch.randint(1 << 62, ()))
    explanations = em.sample_posterior(problem, logits.detach(), label, samples, seed)
    return em.baselines.exal_loss(problem, logits, label, explanations, reduction)


def a_nesi(problem: em.Problem) -> RowLoss:
    """Return the loss of A-NeSI with its published start on boards, and a small predictor for sums.

    One of the published size takes 0.36 CPU seconds a step with 4 digits, 20 times as long.
    """
    if isinstance(problem, em.AllDifferent):
        samples = math.ceil(PAIRS_OF_A_STEP / len(problem.tables(torch.device("cpu")).pairs[0]))
        return em.baselines.ANeSI(problem, samples=samples, first_calls=CALLS_BEFORE_THE_NET)
    assert isinstance(problem, em.Addition)
    predictor = em.baselines.SumPredictor(problem, hidden=200, layers=2)
    return em.baselines.ANeSI(problem, predictor, samples=300, prior=em.baselines.PriorSettings(steps=5))


def _by(loss: Callable[..., Tensor], **options: Any) -> Callable[[em.Problem], RowLoss]:
    return lambda problem: partial(loss, problem, **options)


LOSSES: dict[str, Callable[[em.Problem], RowLoss]] = {
    "semantic-loss": _by(em.baselines.semantic_loss),
    "pairwise-loss": _by(em.baselines.pairwise_loss),
    "exal": Exal,
    "exal-by-posterior": _by(exal_by_posterior),
    "top-1-proofs": _by(em.baselines.top_k_proofs_loss, k=1),
    "top-3-proofs": _by(em.baselines.top_k_proofs_loss, k=3),
    "a-nesi": a_nesi,
    "rloo": _by(em.baselines.rloo_loss),
    "indecater": _by(em.baselines.indecater_loss),
    "nesydm": _by(em.baselines.nesydm_loss),
}
"""Name on the command line -> the loss for a problem."""

OF_ONE_PROCESS = ("exal", "exal-by-posterior", "a-nesi", "rloo", "indecater", "nesydm")
"""The losses that draw random numbers of their own, or learn as they are called: several ranks would do so apart."""

OF_SUMS = ("exal", "exal-by-posterior", "top-1-proofs", "top-3-proofs", "a-nesi", "rloo", "indecater", "nesydm")
OF_BOARDS = ("semantic-loss", "pairwise-loss", "top-1-proofs", "top-3-proofs", "a-nesi", "rloo", "indecater")
"""The losses that work for addition, and for Sudoku."""


def start_epoch(engine: em.Engine, epoch: int) -> None:
    """Tell the loss inside ``engine`` which epoch begins or goes on, counted from 1."""
    loss = _loss_of(engine)
    if hasattr(loss, "start_epoch"):
        loss.start_epoch(epoch)


def state_of(engine: em.Engine) -> dict[str, Any]:
    """Return what the loss inside ``engine`` learned: tensors and plain values, {} where there is none."""
    loss = _loss_of(engine)
    return loss.state_dict() if hasattr(loss, "state_dict") else {}


def load_state(engine: em.Engine, state: dict[str, Any]) -> None:
    """Take over a state from ``state_of``."""
    if state:
        _loss_of(engine).load_state_dict(state)


def label_read_by(engine: em.Engine, logits: Tensor) -> Tensor | None:
    """Return the label that the loss inside ``engine`` itself reads from logits of rows, None where it reads none."""
    loss = _loss_of(engine)
    if not hasattr(loss, "predict"):
        return None
    label: Tensor = loss.predict(logits)
    return label


def _loss_of(engine: em.Engine) -> Any:
    innermost = layers(engine)[-1]
    return innermost.loss if isinstance(innermost, LossEngine) else None
