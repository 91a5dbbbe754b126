"""The EM loop around a PyTorch model and optimizer."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from emnesy_gpu import checks
from emnesy_gpu.e_step import posterior
from emnesy_gpu.em_options import GradientSteps, Options
from emnesy_gpu.engines import MAP, Engine, Posterior, choose_engine
from emnesy_gpu.m_step import em_loss
from emnesy_gpu.problems import Problem

Metrics = dict[str, float]

log = logging.getLogger(__name__)

STEPS_PER_LINE = 100
"""Steps of ``EM.fit`` from one line of its log to the next."""


class EM:
    """EM training of a net whose outputs are observed only through a symbolic label (EM-NeSy, arXiv 2606.14463).

    Each ``step`` takes one batch. The E-step computes the posterior over the hidden symbols under the current net;
    the M-step takes ``m_steps`` gradient steps on the cross-entropy against that constant posterior.

    * soft EM: the default. With exact inference and one M-step this is gradient ascent on log p(y | x).
    * hard EM: ``hard=True``; the posterior is one-hot at the jointly most probable assignment.
    * Multi-M: ``m_steps=k`` re-uses one posterior for k gradient steps, each with a fresh forward pass.
    * stochastic (mini-batch) EM: call ``step`` on mini-batches, as any PyTorch loop does, or ``fit`` on a loader.
    * generalised EM: the M-step improves the objective and need not maximise it, so that any optimizer and number of
      steps will do. Batch EM is one ``step`` on the whole data with many M-steps.

    Args:
        model: maps ``x`` to logits [batch, *problem.latent_shape, problem.cardinality]; called once per M-step, so that
            random augmentation inside it differs between them.
        problem: the symbolic component.
        optimizer: over the parameters of the model; LBFGS and other ones that evaluate the loss again too.
        engine: the E-step strategy; None takes the first that works, as ``em.posterior`` does. One that draws samples
            has new ones in every step, ``engine.at_step(steps)``. Ranks of ``torch.distributed`` draw other samples:
            those of rows that stand one rank after the other in one large batch.
        m_steps: gradient steps per posterior, at least 1.
        hard: use MAP targets; excludes ``engine``.
        scheduler: a learning-rate scheduler, stepped after every optimizer step. A ReduceLROnPlateau is stepped by
            ``fit`` alone, at the end of each epoch, with the mean loss.
        options: clipping, accumulation, a teacher, callbacks and more: see ``em.Options``.

    Attributes:
        steps: E-steps taken so far, which the seeds of samples are made of.

    Raises:
        ValueError: ``m_steps`` below 1, ``hard`` together with an engine, or ``accumulate`` with more than one M-step
            or LBFGS.
        TypeError: an engine that is no ``em.Engine``.
        UnsupportedEngineError: an engine that does not work for the problem.

    Rows whose label is impossible do not move the net. As deterministic as the model, the engine and the optimizer.
    Cost of a step: one E-step, and ``m_steps`` forward and backward passes.

    >>> import torch, emnesy_gpu as em
    >>> _ = torch.manual_seed(0)
    >>> problem = em.Addition(n_digits=1)
    >>> x = torch.eye(10).repeat(8, 1).view(40, 2, 1, 10)           # a one-hot "image" per digit
    >>> label = problem.label(x.argmax(-1))
    >>> model = torch.nn.Linear(10, 10)
    >>> trainer = em.EM(model, problem, torch.optim.Adam(model.parameters(), lr=0.1))
    >>> losses = [trainer.step(x, label)["loss"] for _ in range(50)]
    >>> losses[-1] < 0.5 * losses[0]
    True
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        problem: Problem,
        optimizer: Optimizer,
        engine: Engine[Any] | None = None,
        m_steps: int = 1,
        hard: bool = False,
        scheduler: LRScheduler | None = None,
        options: Options | None = None,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be a function of x that returns logits, got {model!r}")
        if scheduler is not None and not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"scheduler must be of torch.optim.lr_scheduler or None, got {scheduler!r}")
        checks.is_instance("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer over the parameters")
        checks.is_integer("m_steps", m_steps, 1, None)
        checks.is_flag("hard", hard)
        if hard and engine is not None:
            raise ValueError(f"hard=True means engine=em.MAP(): give one of them, got engine={engine!r}")
        self.options = Options() if options is None else options
        checks.is_instance("options", self.options, Options, "em.Options(...) or None")
        if m_steps > 1 and self.options.accumulate > 1:
            raise ValueError(f"accumulate must be 1 where m_steps is more than 1, got {self.options.accumulate}")
        self.model, self.problem, self.optimizer = model, problem, optimizer
        self.engine = choose_engine(problem, MAP() if hard else engine)
        self.m_steps, self.scheduler, self.steps = m_steps, scheduler, 0
        self._gradients = GradientSteps(optimizer, scheduler, self.options)

    def step(self, x: Any, label: Tensor) -> Metrics:
        """Take one E-step and ``m_steps`` gradient steps on a batch.

        Args:
            x: whatever the model takes.
            label: integers [batch, *problem.label_shape].

        Returns:
            Numbers by name, which are finite where the loss is. ``loss`` is the mean of the last M-step, in nats.
            ``log_evidence`` is the mean over the rows whose label is possible, in nats, and 0 where there are none.
            ``possible`` is the share of these rows, and ``impossible`` the number of all others. ``gradient_norm`` is
            that of the last optimizer step before clipping, ``learning_rate`` that of the next step. ``info/...`` is
            the mean of what the engine says of each row. ``seconds_e`` and ``seconds_m`` are the wall time of the
            E-step, and of the M-steps with all forward passes. The clocks synchronise a GPU.

        Raises TypeError and ValueError as ``em.posterior`` does.
        """
        checks.is_tensor("label", label)
        clock = _Clock(label.device)
        logits, seconds_forward = None, 0.0
        if self.options.teacher is None:
            logits = self._logits(self.model, x)
            seconds_forward = clock.lap()
            post = self._posterior(logits, label)
        else:
            post = self.e_step(x, label)
        seconds_e = clock.lap()
        self._maximise(x, post, logits)
        seconds_m = clock.lap() + seconds_forward
        metrics = self._metrics(post) | {"seconds_e": seconds_e, "seconds_m": seconds_m}
        for callback in self.options.callbacks:
            callback(self, metrics)
        return metrics

    def e_step(self, x: Any, label: Tensor) -> Posterior:
        """The posterior of a batch under the teacher, or the model where there is none; counts as a step."""
        checks.is_tensor("label", label)
        with torch.no_grad():
            logits = self._logits(self.options.teacher or self.model, x)
        return self._posterior(logits, label)

    def m_step(self, x: Any, post: Posterior) -> Metrics:
        """Take ``m_steps`` gradient steps towards a posterior; returns what ``step`` does, without seconds."""
        self._maximise(x, post, None)
        return self._metrics(post)

    def fit(self, loader: Iterable[Any], *, epochs: int | None = None, steps: int | None = None) -> Metrics:
        """Call ``step`` on the batches (x, label) of a loader, for so many epochs, or so many steps.

        The loader may be endless if ``steps`` is given; a finite one is then begun again when it ends. A line for every
        100 steps, and one for every epoch, goes to the logger ``emnesy_gpu.em`` at level INFO. Memory does not grow
        with the steps.

        Returns the means of the metrics over the rows of the last epoch, or of all steps since one began.

        Raises ValueError unless exactly one of epochs and steps is given, and for a loader without a batch.
        """
        if (epochs is None) == (steps is None):
            raise ValueError(f"give one of epochs and steps, got epochs={epochs!r} and steps={steps!r}")
        name, most = ("epochs", epochs) if steps is None else ("steps", steps)
        checks.is_integer(name, most, 1, checks.LARGEST_SEED)
        left, means = steps, _Means()
        for epoch in itertools.count(1) if epochs is None else range(1, epochs + 1):
            means = _Means()
            for x, label in _pairs(loader, left):
                means.add(self.step(x, label), len(label))
                if self.steps % STEPS_PER_LINE == 0:
                    log.info("step %d  %s", self.steps, means)
            if means.batches == 0:
                raise ValueError("the loader gave no batch: an iterator can be read once only")
            self._gradients.end_epoch(means.values["loss"])
            log.info("epoch %d, step %d  %s", epoch, self.steps, means)
            left = None if left is None else left - means.batches
            if left == 0:
                break
        return means.values

    def evaluate(self, loader: Iterable[Any], score: Callable[[Tensor, Tensor], Tensor] | None = None) -> Metrics:
        """Mean loss, log_evidence, possible and info/... over the batches (x, label) of a loader, without learning.

        A model that is a module is in its evaluation mode meanwhile. ``steps`` does not change.

        Args:
            loader: finite.
            score: (logits, label) -> a number for each row [batch]; its mean is returned as "score".
        """
        means = _Means()
        if score is not None:
            checks.is_function("score", score)
        with torch.no_grad(), _evaluation_mode(self.model):
            for x, label in _pairs(loader):
                logits = self._logits(self.model, x)
                post = posterior(self.problem, logits, label, self.engine, self.options.check)
                metrics = _metrics_of(post) | {"loss": float(em_loss(logits, post, impossible=self.options.impossible))}
                if score is not None:
                    scores = score(logits, label)
                    checks.is_tensor("score(logits, label)", scores)
                    metrics["score"] = float(scores.double().mean())
                means.add(metrics, len(label))
        return means.values

    def state_dict(self) -> dict[str, Any]:
        """Steps, and the states of model, optimizer, scheduler, scaler and teacher, as far as they have one.

        Tensors and plain values, for ``torch.save`` and ``torch.load(weights_only=True)``. Between two batches of
        ``accumulate`` the gradients are not part of it.
        """
        return {"steps": self.steps, **{name: part.state_dict() for name, part in self._parts().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``: with the same batches to the bit. Raises ValueError where parts differ."""
        parts = self._parts()
        checks.is_instance("state", state, Mapping, "what state_dict returned")
        if state.keys() != {"steps", *parts}:
            raise ValueError(f"state must have the entries {', '.join(['steps', *parts])}, got {', '.join(state)}")
        checks.is_integer("steps of state", state["steps"], 0, checks.LARGEST_SEED)
        self.steps = state["steps"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self._gradients.pending = 0

    def _parts(self) -> dict[str, Any]:
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.options.scaler,
            "teacher": self.options.teacher,
        }
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}

    def _logits(self, model: Callable[[Any], Any], x: Any) -> Tensor:
        return self.options.logits_of(model(x))

    def _posterior(self, logits: Tensor, label: Tensor) -> Posterior:
        engine = self.engine
        if self.options.advance_seed:
            before = self.options.rows_before
            rows = label.numel() // math.prod(self.problem.label_shape)
            engine = engine.at_step(self.steps, _rank() * rows if before is None else before())
        self.steps += 1
        return posterior(self.problem, logits, label, engine, self.options.check)

    def _maximise(self, x: Any, post: Posterior, logits: Tensor | None) -> None:
        """Take the gradient steps; logits: those of a forward pass that was made already, for the first loss."""
        made = [] if logits is None else [logits]

        def loss_of() -> Tensor:
            found = made.pop() if made else self._logits(self.model, x)
            return em_loss(found, post, impossible=self.options.impossible)

        for _ in range(self.m_steps):
            self._gradients.take(loss_of)

    def _metrics(self, post: Posterior) -> Metrics:
        found = self._gradients
        return _metrics_of(post, {"loss": found.loss, "gradient_norm": found.norm}) | {
            "learning_rate": found.learning_rate
        }


def _pairs(loader: Iterable[Any], most: int | None = None) -> Iterator[tuple[Any, Tensor]]:
    """The batches (x, label) of a loader, so many at most; TypeError for what gives none."""
    try:
        batches = iter(loader)
    except TypeError as error:
        raise TypeError(f"loader must give batches (x, label), got {loader!r}") from error
    for batch in itertools.islice(batches, most):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"loader must give batches (x, label), got one of type {type(batch).__name__}")
        yield batch[0], batch[1]


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _metrics_of(post: Posterior, others: dict[str, Tensor] | None = None) -> Metrics:
    """What a posterior says, and other numbers on its device, as floats; waits for a GPU once."""
    possible = post.possible.sum()
    evidence = post.log_evidence.masked_fill(~post.possible, 0.0).sum() / possible.clamp_min(1)
    rows = post.possible.numel()
    found = {**(others or {}), "log_evidence": evidence, "possible": possible / max(rows, 1)}
    found["impossible"] = rows - possible
    for name, value in post.info.items():
        if isinstance(value, Tensor) and value.shape == post.possible.shape:
            found[f"info/{name}"] = value.double().mean()
    numbers = torch.stack([value.detach().to(evidence.device, torch.float64) for value in found.values()])
    return dict(zip(found, numbers.tolist(), strict=True))


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode


class _Means:
    """The means of metrics over rows so far, of batches with the same metrics; seconds are added up."""

    def __init__(self) -> None:
        self.values: Metrics = {}
        self.rows = self.batches = 0

    def add(self, metrics: Metrics, rows: int) -> None:
        self.rows, self.batches = self.rows + rows, self.batches + 1
        share = rows / max(self.rows, 1)
        for name, value in metrics.items():
            before = self.values.get(name, 0.0)
            is_sum = name.startswith("seconds") or name == "impossible"
            self.values[name] = before + value if is_sum else before + share * (value - before)

    def __str__(self) -> str:
        return "  ".join(f"{name} {self.values[name]:.4g}" for name in ("loss", "log_evidence", "possible"))


class _Clock:
    """A clock of laps, in seconds; each lap ends when the work queued on the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self._now()

    def lap(self) -> float:
        before, self.last = self.last, self._now()
        return self.last - before

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
