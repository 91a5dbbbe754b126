"""A-NeSI: a second net predicts the label from beliefs, and is differentiated in place of the symbolic function."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Dirichlet
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, one_hot, pad, softplus

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import LOG_ZERO, check_row_loss, log_not
from emnesy_gpu.problems import Addition, AllDifferent, Problem
from emnesy_gpu.reduction import reduce

SMALLEST_BELIEF = 1e-9
"""Added to beliefs, so that their logarithms are finite."""


MOST_UNITS = 1 << 20
"""More hidden units or layers would be a mistake."""


class Predictor(Protocol):
    """A module that predicts labels from beliefs [rows, n_symbols, cardinality]."""

    def log_prob(self, beliefs: Tensor, label: Tensor) -> Tensor:
        """log q(label | beliefs) [rows], differentiable in both."""
        ...

    def loss(self, beliefs: Tensor, z: Tensor) -> Tensor:
        """The mean loss on assignments int64 [rows, n_symbols] that were drawn from the beliefs."""
        ...

    def predict(self, beliefs: Tensor) -> Tensor:
        """The label that it takes for the most probable one, int64 [rows, *label_shape]."""
        ...


class SumPredictor(nn.Module):
    """q(sum | beliefs) = prod_j q_j(digit j | beliefs, more significant digits), a net for each digit of the sum.

    The first one knows the values that a leading digit can have: 0 and 1 for two numbers. With ten outputs for them the
    net that is taught soon gives certain and wrong beliefs. A label that no sum has gets the log probability -1e30.

    hidden, layers: width and number of the hidden layers.
    """

    def __init__(self, problem: Addition, hidden: int = 800, layers: int = 3) -> None:
        super().__init__()
        checks.is_instance("problem", problem, Addition, "an em.Addition")
        self.problem = problem
        n_beliefs = problem.n_addends * problem.n_digits * problem.base
        widths = [n_beliefs + place * problem.base for place in range(problem.n_label_digits)]
        largest = problem.n_addends * (problem.base**problem.n_digits - 1)
        leading = largest // problem.base ** (problem.n_label_digits - 1) + 1
        outputs = [leading] + [problem.base] * (problem.n_label_digits - 1)
        sizes = zip(widths, outputs, strict=True)
        self.nets = nn.ModuleList(perceptron(width, hidden, layers, n_values) for width, n_values in sizes)

    def log_prob(self, beliefs: Tensor, label: Tensor) -> Tensor:
        _check_inputs(self.problem, beliefs, label)
        label = self.problem.digits_of(label)
        read = one_hot(label, self.problem.base).to(beliefs.dtype).flatten(1)
        total = torch.zeros_like(beliefs[:, 0, 0])
        for place, net in enumerate(self.nets):
            scores = net(self._inputs(beliefs, read, place)).log_softmax(-1)
            scores = pad(scores, (0, self.problem.base - scores.shape[1]), value=LOG_ZERO)
            total = total + scores.gather(1, label[:, place : place + 1]).squeeze(1)
        return total

    def predict(self, beliefs: Tensor) -> Tensor:
        """The sum of the most probable digit given those before it, one after the other: int64 [rows, *label_shape]."""
        _check_beliefs(self.problem, beliefs)
        base, n_digits = self.problem.base, self.problem.n_label_digits
        digits = torch.zeros(len(beliefs), n_digits, dtype=torch.int64, device=beliefs.device)
        for place, net in enumerate(self.nets):
            read = one_hot(digits, base).to(beliefs.dtype).flatten(1)
            digits[:, place] = net(self._inputs(beliefs, read, place)).argmax(-1)
        if not self.problem.takes_numbers:
            return digits
        return (digits * digits.new_tensor([base**place for place in reversed(range(n_digits))])).sum(-1)

    def _inputs(self, beliefs: Tensor, read: Tensor, place: int) -> Tensor:
        """What the net of a digit is given: the beliefs, and the digits before it."""
        return torch.cat([beliefs.flatten(1), read[:, : place * self.problem.base]], 1)

    def loss(self, beliefs: Tensor, z: Tensor) -> Tensor:
        return -self.log_prob(beliefs, self.problem.label(z.unflatten(1, self.problem.latent_shape))).mean()


class PairPredictor(nn.Module):
    """q(valid | beliefs) = prod_pairs q(the two symbols differ), one net for all pairs."""

    def __init__(self, problem: AllDifferent, hidden: int = 100, layers: int = 2) -> None:
        super().__init__()
        checks.is_instance("problem", problem, AllDifferent, "an em.AllDifferent or em.Sudoku")
        self.problem = problem
        self.net = perceptron(2 * problem.cardinality, hidden, layers, 1)

    def _scores(self, beliefs: Tensor) -> Tensor:
        first, second = self.problem.tables(beliefs.device).pairs
        scores: Tensor = self.net(torch.cat([beliefs[:, first], beliefs[:, second]], -1)).squeeze(-1)
        return scores

    def _log_all(self, beliefs: Tensor) -> Tensor:
        return logsigmoid(self._scores(beliefs)).sum(1)

    def log_prob(self, beliefs: Tensor, label: Tensor) -> Tensor:
        _check_inputs(self.problem, beliefs, label)
        log_all = self._log_all(beliefs)
        return torch.where(label == 1, log_all, log_not(log_all))

    def predict(self, beliefs: Tensor) -> Tensor:
        """1 where the board is more probably valid than not: int64 [rows]."""
        _check_beliefs(self.problem, beliefs)
        log_all = self._log_all(beliefs)
        return (log_all > log_not(log_all)).long()

    def loss(self, beliefs: Tensor, z: Tensor) -> Tensor:
        first, second = self.problem.tables(beliefs.device).pairs
        differ = (z[:, first] != z[:, second]).to(beliefs.dtype)
        return binary_cross_entropy_with_logits(self._scores(beliefs), differ)


@dataclass(frozen=True)
class PriorSettings:
    """How the Dirichlet distribution over beliefs follows those of the net.

    concentration: of every value at first. lr, steps: of Adam, at every call. penalty: of the mean squared
    concentration, against the log likelihood of all beliefs in the memory. memory: how many beliefs that holds.

    Raises TypeError and ValueError for settings of wrong types or out of range.
    """

    concentration: float = 0.1
    lr: float = 0.01
    steps: int = 50
    penalty: float = 9e5
    memory: int = 2500

    def __post_init__(self) -> None:
        checks.is_positive("concentration", self.concentration)
        checks.is_number("lr", self.lr, 0.0)
        checks.is_number("penalty", self.penalty, 0.0)
        checks.is_integer("steps", self.steps, 1, None)
        checks.is_integer("memory", self.memory, 1, None)


SUM_PRIOR, SUM_RATE = PriorSettings(), 1e-3
BOARD_PRIOR, BOARD_RATE = PriorSettings(0.02, 2.85e-3, 18, 2.5e5, 1600), 3.01e-3
"""The published settings of addition and of Sudoku: of the prior, and the learning rate of the predictor."""


class DirichletPrior(nn.Module):
    """Independent Dirichlet distributions over the beliefs of each symbol, fitted to those that the net had lately."""

    recent: Tensor

    def __init__(self, n_symbols: int, cardinality: int, settings: PriorSettings) -> None:
        super().__init__()
        self.settings = settings
        start = torch.tensor(settings.concentration).expm1().log()  # the inverse of softplus
        self.raw = nn.Parameter(start.repeat(n_symbols, cardinality))
        self.register_buffer("recent", torch.zeros(0, n_symbols, cardinality))
        self.optimizer = torch.optim.Adam([self.raw], lr=settings.lr)

    def observe(self, beliefs: Tensor) -> None:
        """Remember beliefs [rows, n_symbols, cardinality], and take the steps of a fit to all that are remembered."""
        self.recent = torch.cat([self.recent, beliefs])[-self.settings.memory :]
        mean_log = (self.recent + SMALLEST_BELIEF).log().mean(0)
        for _ in range(self.settings.steps):
            concentration = softplus(self.raw)
            normaliser = concentration.sum(-1).lgamma() - concentration.lgamma().sum(-1)
            likelihood = (normaliser + ((concentration - 1) * mean_log).sum(-1)).mean()
            loss = self.settings.penalty * concentration.square().mean() - len(self.recent) * likelihood
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    def draw(self, rows: int) -> Tensor:
        """Beliefs [rows, n_symbols, cardinality], from torch's default generator."""
        with torch.no_grad():
            drawn: Tensor = Dirichlet(softplus(self.raw)).sample(torch.Size([rows]))
        return drawn


class ANeSI:
    """The loss -log q(y | p(x)) of A-NeSI, predict-only (van Krieken et al., arXiv 2212.12393), and what it learns.

    Every call fits a Dirichlet prior to the recent beliefs of the net, draws beliefs from it, assignments from these,
    and their labels, and takes one step on -log q(label | beliefs) of the predictor q; then it returns the loss of the
    net through the predictor, which is held fixed. Other than the evidence it is as good as the predictor.

    Args:
        problem: ``em.Addition``, ``em.AllDifferent`` or ``em.Sudoku``.
        predictor: by default ``SumPredictor`` or ``PairPredictor`` of the published size.
        samples: beliefs that the predictor learns from at every call.
        lr: of the predictor's Adam; by default the published one of the problem.
        prior: of the beliefs; by default the published settings of the problem.
        first_calls: calls at first whose loss has no gradient, so that the predictor learns before the net does. As
            published for Sudoku it is 500, without which a net may follow a predictor that knows nothing yet.

    For boards the predictor learns from the beliefs of the batch too, as published.

    Raises TypeError for other problems. Draws come from torch's default generator: equal states of it, of the object
    and of the net give equal losses. Cost of a call: ``prior.steps`` small steps, and a pass forward and back through
    the predictor for ``samples`` rows and for the batch.

    >>> import torch, emnesy_gpu as em
    >>> loss = em.baselines.ANeSI(em.Addition(n_digits=1), samples=10)
    >>> logits = torch.zeros(4, 2, 1, 10, requires_grad=True)
    >>> loss(logits, torch.zeros(4, 2, dtype=torch.long)).backward()
    >>> logits.grad.shape
    torch.Size([4, 2, 1, 10])
    """

    def __init__(
        self,
        problem: Problem,
        predictor: SumPredictor | PairPredictor | None = None,
        samples: int = 500,
        lr: float | None = None,
        prior: PriorSettings | None = None,
        first_calls: int = 0,
    ) -> None:
        if not isinstance(problem, Addition | AllDifferent):
            raise TypeError(f"problem must be an Addition, AllDifferent or Sudoku, got {problem!r}")
        checks.is_integer("samples", samples, 1, checks.MOST_SYMBOLS)
        checks.is_integer("first_calls", first_calls, 0, None)
        if prior is not None:
            checks.is_instance("prior", prior, PriorSettings, "a PriorSettings or None")
        if isinstance(problem, Addition):
            usual: tuple[Any, PriorSettings, float] = SumPredictor, SUM_PRIOR, SUM_RATE
        else:
            usual = PairPredictor, BOARD_PRIOR, BOARD_RATE
        predictor = usual[0](problem) if predictor is None else predictor
        lr = usual[2] if lr is None else lr
        checks.is_number("lr", lr, 0.0)
        checks.is_instance("predictor", predictor, (SumPredictor, PairPredictor), "a SumPredictor or a PairPredictor")
        n_symbols = int(torch.Size(problem.latent_shape).numel())
        self.problem, self.predictor, self.samples = problem, predictor, samples
        self.first_calls = first_calls
        self.prior = DirichletPrior(n_symbols, problem.cardinality, prior or usual[1])
        self.optimizer = torch.optim.Adam(predictor.parameters(), lr=lr)

    def __call__(self, logits: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
        """Learn, and return the loss of logits [batch, *latent_shape, cardinality], differentiable in them.

        label: as for ``em.posterior``. reduction: "mean" or "sum" over the batch, "none" for [batch]; ValueError for
        another one.
        """
        check_row_loss(self.problem, logits, label)
        self.predictor.to(logits.device)
        self.prior.to(logits.device)
        beliefs = logits.flatten(1, -2).softmax(-1)
        with torch.enable_grad():
            self.prior.observe(beliefs.detach())
            self._teach(beliefs.detach())
        self.predictor.requires_grad_(False)
        log_prob = self.predictor.log_prob(beliefs, label)
        self.predictor.requires_grad_(True)
        if self.first_calls > 0:
            self.first_calls -= 1
            log_prob = log_prob * 0 + log_prob.detach()
        return reduce(-log_prob, reduction)

    def predict(self, logits: Tensor) -> Tensor:
        """The label that the predictor reads from logits [batch, *latent_shape, cardinality]: [batch, *label_shape].

        Of sums it is the most probable digit given those before it, one after the other. Raises TypeError and
        ValueError for logits of another type or shape.
        """
        symbols = (*self.problem.latent_shape, self.problem.cardinality)
        checks.is_tensor("logits", logits)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_trailing_shape("logits", logits, symbols)
        with torch.no_grad():
            beliefs = logits.flatten(1, -2).float().softmax(-1)
            return self.predictor.to(logits.device).predict(beliefs)

    def _teach(self, of_batch: Tensor) -> None:
        beliefs = self.prior.draw(self.samples)
        if isinstance(self.problem, AllDifferent):
            beliefs = torch.cat([beliefs, of_batch])
        z = (beliefs + SMALLEST_BELIEF).flatten(0, 1).multinomial(1).view(beliefs.shape[:2])
        loss = self.predictor.loss(beliefs, z)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The predictor, the prior, both optimizers, and how many of the first calls are left."""
        return {
            "predictor": self.predictor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "prior": self.prior.state_dict(),
            "prior_optimizer": self.prior.optimizer.state_dict(),
            "first_calls": self.first_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state from ``state_dict``."""
        self.predictor.load_state_dict(state["predictor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.prior.recent = torch.zeros_like(state["prior"]["recent"])  # its length changes as it fills
        self.prior.load_state_dict(state["prior"])
        self.prior.optimizer.load_state_dict(state["prior_optimizer"])
        self.first_calls = state["first_calls"]


def _check_inputs(problem: Problem, beliefs: Tensor, label: Tensor) -> None:
    _check_beliefs(problem, beliefs)
    checks.is_tensor("label", label)
    checks.has_trailing_shape("label", label, problem.label_shape)


def _check_beliefs(problem: Problem, beliefs: Tensor) -> None:
    checks.is_tensor("beliefs", beliefs)
    checks.has_trailing_shape("beliefs", beliefs, (torch.Size(problem.latent_shape).numel(), problem.cardinality))


def perceptron(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """A net of ReLU layers."""
    checks.is_integer("hidden", hidden, 1, MOST_UNITS)
    checks.is_integer("layers", layers, 1, MOST_UNITS)
    widths = [inputs] + [hidden] * layers
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))
