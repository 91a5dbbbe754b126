"""What every EM training run has: net, averaged net, optimizer, schedule, history, and a state to resume from."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

import emnesy_gpu as em
from emnesy_gpu.tasks.core import loss_engines, sampling_engines
from emnesy_gpu.tasks.core.distributed import Part, current
from emnesy_gpu.tasks.core.epoch_progress import EpochProgress
from emnesy_gpu.tasks.files.errors import DivergedError

BatchMetrics = dict[str, float]
START_DIVISOR = 25
"""The schedule begins at the peak rate divided by this."""

LEAST_STEPS = 4
"""The schedule divides by the steps of the rise and of the fall, less one each: fewer steps would divide by 0."""

AVERAGING_POWER = 4


class Reading(NamedTuple):
    """What a net reads in images.

    classes: int64 [n, ...]. probabilities: float64 [n, ..., cardinality]. label: what the rule says of the classes,
    [n, *label_shape]; None where the images are no rows.
    """

    classes: Tensor
    probabilities: Tensor
    label: Tensor | None


def running_average(net: nn.Module, plain: bool = False) -> AveragedModel:
    """Return a copy of ``net`` whose weights follow the mean of the net's recent ones; call ``update_parameters``.

    Polynomial-decay averaging (Shamir and Zhang 2013): step t enters with weight 4 / (t + 4), so that the average
    always looks back over about a quarter of the steps so far. A plain copy has the weights of the last step.
    """

    def average(averaged: Tensor, current: Tensor, n_averaged: Tensor | int) -> Tensor:
        if plain:
            return current
        return averaged.lerp(current, AVERAGING_POWER / (n_averaged + AVERAGING_POWER))

    return AveragedModel(net, avg_fn=average)


class TestRows(NamedTuple):
    """The rows of a run that it is judged on: their images and labels, and what relates the two.

    pixels: uint8 [n, ...], as ``beliefs`` takes them. label: [n, *label_shape]. problem: of whole rows.
    """

    pixels: Tensor
    label: Tensor
    problem: em.Problem


class EMTraining(ABC):
    """One run under EM, with a state that resumes it to the bit.

    On several ranks each one trains on its part of every batch, with the random numbers of the whole batch: the run is
    that of one process, up to the order in which gradients are added up. The state belongs to no number of ranks.

    A subclass builds the nets, and says what the training rows are and how the averaged net is judged.

    Args:
        settings: epochs, batch, lr, final_lr, weight_decay, warm_up, m_steps, seed and device of the run.
        problem, engine, hard: as for ``em.EM``.
        n_rows: number of training rows.
    """

    model: Any
    """Raw inputs of a batch -> logits, with the net that is trained as ``model.net``.

    ``model.part`` says which part of a batch the inputs are, for random numbers that belong to its rows; None: all.
    """
    averaged_net: AveragedModel
    """The running average of that net."""
    averaged_model: Any
    """The same as ``model`` with the averaged net, for tests."""

    def __init__(
        self, settings: Any, problem: em.Problem, engine: em.Engine | None, n_rows: int, hard: bool = False
    ) -> None:
        self.settings, self.problem, self.n_rows = settings, problem, n_rows
        self.ranks = current()
        self.device = self.ranks.device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        torch.manual_seed(settings.seed)
        self.build_models()
        self.part = Part(0, n_rows, n_rows)
        model = self.ranks.replicated(self.model)
        decay = 0.0 if settings.plain else settings.weight_decay
        self.optimizer = AdamW(self.model.parameters(), lr=settings.lr, weight_decay=decay, fused=True)
        self.scheduler = self._schedule()
        self.trainer = em.EM(
            model,
            problem,
            self.optimizer,
            engine=engine,
            m_steps=settings.m_steps,
            hard=hard,
            scheduler=self.scheduler,
            options=self._options(),
        )
        self.history: list[dict[str, Any]] = []
        self.progress: EpochProgress | None = None

    def _options(self) -> em.Options:
        """Return how a step treats the part of a batch: ranks average gradients as if their parts were equal."""
        if self.ranks.size == 1:
            return em.Options()

        def backward(loss: Tensor) -> None:
            (loss * (self.part.weight * self.ranks.size)).backward()

        return em.Options(backward=backward, rows_before=lambda: self.part.first)

    def _schedule(self) -> LRScheduler:
        settings = self.settings
        if settings.plain:
            return LambdaLR(self.optimizer, lambda step: 1.0)
        total_steps = max(LEAST_STEPS, settings.epochs * self.n_batches * settings.m_steps)
        return OneCycleLR(
            self.optimizer,
            max_lr=settings.lr,
            total_steps=total_steps,
            pct_start=max(settings.warm_up, 2 / total_steps),
            div_factor=START_DIVISOR,
            final_div_factor=1 / (START_DIVISOR * settings.final_lr),
        )

    @abstractmethod
    def build_models(self) -> None:
        """Set ``model``, ``averaged_net`` and ``averaged_model``, on ``self.device``.

        Called once, when ``settings``, ``problem``, ``n_rows``, ``device`` and ``generator`` are set and torch has the
        seed of the run.
        """

    @abstractmethod
    def rows(self, index: Tensor, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Return the inputs of the model and the labels of training rows, both on the device.

        index: int64 [batch], on the CPU. part: which of these rows to return; None returns all. What is random is drawn
        for all rows in any case.
        """

    @abstractmethod
    def evaluate(self) -> dict[str, Any]:
        """Return the figures of the averaged net for the record of the current epoch; {} in an epoch without any."""

    @abstractmethod
    def look_at(self, pixels: Tensor) -> Reading:
        """Read images that may be no rows of the data, with the averaged net.

        pixels: uint8, on the CPU. Raises DataError for another shape, with the shape that the net takes.
        """

    @abstractmethod
    def test_rows(self, rows: slice) -> TestRows:
        """Return some of the rows that the run is judged on, none where the slice lies behind them."""

    @abstractmethod
    def beliefs(self, pixels: Tensor) -> Tensor:
        """Read rows of images with the averaged net: logits [n, *latent_shape, cardinality] on the CPU."""

    def begin_epoch(self) -> None:
        """Prepare the epoch ``self.epoch``, before its first batch or the first that is left: the engine too."""
        sampling_engines.start_epoch(self.trainer.engine, self.epoch, self._progress().calls)
        loss_engines.start_epoch(self.trainer.engine, self.epoch)

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return math.ceil(self.n_rows / self.settings.batch)

    @property
    def epoch(self) -> int:
        """The epoch that runs or comes next, from 1."""
        return len(self.history) + 1

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.settings.epochs

    def run_epoch(self, on_batch: Callable[[BatchMetrics], None] = lambda metrics: None) -> dict[str, Any]:
        """Train on every row once, evaluate, and append the epoch's record to ``history``.

        An epoch that was cut between two batches goes on there, to the bit: after ``load_state_dict`` as well.
        """
        record: dict[str, Any] = {"epoch": self.epoch, **self.train_epoch(on_batch)}
        progress, clock = self._progress(), Clock()
        record |= self.ranks.from_first(self.evaluate)
        clock.lap(progress)
        record |= {"seconds": progress.seconds, "cpu_seconds": progress.cpu_seconds}
        self.history.append(record)
        self.progress = None
        return record

    def train_epoch(self, on_batch: Callable[[BatchMetrics], None] = lambda metrics: None) -> dict[str, float]:
        """Train on the rows that are left; returns mean loss, log_evidence, possible, and the seconds of E and of M."""
        progress, clock = self._progress(), Clock()
        self.begin_epoch()
        self.model.train()
        for index in progress.remaining(self.settings.batch):
            self.part = self.ranks.part(len(index))
            self.model.part = self.part if self.ranks.size > 1 else None
            metrics = self._step(*self.rows(index, self.part))
            self.averaged_net.update_parameters(self.model.net)
            progress.add(metrics, len(index))
            progress.calls = sampling_engines.calls_of_epoch(self.trainer.engine)
            clock.lap(progress)
            on_batch(metrics)
        return dict(progress.totals)

    def _progress(self) -> EpochProgress:
        """Return how far the epoch is, which begins with a new order of the rows."""
        if self.progress is None:
            self.progress = EpochProgress(torch.randperm(self.n_rows, generator=self.generator))
        return self.progress

    def _step(self, inputs: Tensor, label: Tensor) -> BatchMetrics:
        try:
            metrics = self.ranks.mean(self.trainer.step(inputs, label), self.part.weight)
        except ValueError as error:
            if all(weight.isfinite().all() for weight in self.model.parameters()):
                raise
            raise DivergedError(
                f"diverged: the net has weights that are not finite, in epoch {self.epoch}; try a smaller --lr"
            ) from error
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(f"diverged: the loss is {metrics['loss']}, in epoch {self.epoch}; try a smaller --lr")
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return net, optimizer, schedule, random states and history: tensors and plain values only.

        The state is sound between epochs and between batches. It also holds what it belongs to: the settings and the
        number of training rows.
        """
        return {
            "net": self.model.net.state_dict(),
            "averaged_net": self.averaged_net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "engine": loss_engines.state_of(self.trainer.engine),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "history": self.history,
            "progress": None if self.progress is None else self.progress.to_dict(),
            "settings": self.settings.to_dict(),
            "n_rows": self.n_rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state from ``state_dict``, of a run with the same settings.

        Earlier versions wrote no progress, engine and number of rows. Raises ValueError for another number of rows.
        """
        if state.get("n_rows", self.n_rows) != self.n_rows:
            raise ValueError(f"the run had {state['n_rows']} training rows, the data have {self.n_rows}")
        self.model.net.load_state_dict(state["net"])
        self.averaged_net.load_state_dict(state["averaged_net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        loss_engines.load_state(self.trainer.engine, state.get("engine", {}))
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        if self.device.type == "cuda":
            for device, rng in zip(range(torch.cuda.device_count()), state["cuda_rng"], strict=False):
                torch.cuda.set_rng_state(rng, device)
        self.history = list(state["history"])
        progress = state.get("progress")
        self.progress = None if progress is None else EpochProgress.from_dict(progress, self.n_rows)


class Clock:
    """Adds the seconds since the last lap to the progress of an epoch, by the clock and of the process."""

    def __init__(self) -> None:
        self.last = self._now()

    def lap(self, progress: EpochProgress) -> None:
        """Begin a new lap."""
        before, self.last = self.last, self._now()
        progress.seconds += self.last[0] - before[0]
        progress.cpu_seconds += self.last[1] - before[1]

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()
