"""What every EM training run has: net, averaged net, optimizer, schedule, history, and a state to continue from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.sampling_engines import Reseeded
from emnesy_gpu.tasks.mnist.augmentation import Warp
from emnesy_gpu.tasks.mnist.nets import ImageReader, lenet, running_average

BatchMetrics = dict[str, float]
START_DIVISOR, LEAST_STEPS = 25, 4
"""The schedule divides by the steps of the rise and of the fall, less one each."""

EVALUATION_BATCH = 1000
VIEW_SEED = 16
VIEW_STRENGTH = 0.6
"""Of the warp of a view, against that of training: a view should keep the symbol as legible as it was."""


class DivergedError(ArithmeticError):
    """Training cannot go on: the loss or weights of the net are NaN or infinite."""


class EMTraining:
    """One run of LeNet under EM, with a state that continues it to the bit.

    A subclass says what row i of the training data is (``rows``), and how the averaged net is judged (``evaluate``).

    Args:
        settings: epochs, batch, lr, final_lr, weight_decay, warm_up, m_steps, augment, seed and device of the run.
        problem, engine, hard: as for ``em.EM``.
        n_rows: rows of training data.
        moments: mean and standard deviation of the training pixels, in units of 255, for ``build_models``.
    """

    def __init__(
        self,
        settings: Any,
        problem: em.Problem,
        engine: em.Engine | None,
        n_rows: int,
        moments: tuple[Any, Any],
        hard: bool = False,
    ) -> None:
        self.settings, self.problem, self.n_rows = settings, problem, n_rows
        self.device = torch.device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        torch.manual_seed(settings.seed)
        self.build_models(moments)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        total_steps = max(LEAST_STEPS, settings.epochs * self.n_batches * settings.m_steps)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=settings.lr,
            total_steps=total_steps,
            pct_start=max(settings.warm_up, 2 / total_steps),
            div_factor=START_DIVISOR,
            final_div_factor=1 / (START_DIVISOR * settings.final_lr),
        )
        self.trainer = em.EM(
            self.model,
            problem,
            self.optimizer,
            engine=engine,
            m_steps=settings.m_steps,
            hard=hard,
            scheduler=self.scheduler,
        )
        self.history: list[dict[str, Any]] = []

    def build_models(self, moments: tuple[Any, Any]) -> None:
        """Set ``model``, ``averaged_net`` and ``averaged_model``: LeNet on grey images, and a model for their views."""
        net = lenet(self.problem.cardinality)
        warp = Warp() if self.settings.augment else None
        self.model: Any = ImageReader(net, *moments, warp, self.generator).to(self.device)
        self.averaged_net = running_average(net)
        self.averaged_model: Any = ImageReader(self.averaged_net, *moments, None, self.generator)
        self.view_generator = torch.Generator()
        self.view_model = ImageReader(self.averaged_net, *moments, Warp().scaled(VIEW_STRENGTH), self.view_generator)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of the training rows ``index``, on the device."""
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Figures on the test data, for the record of the current epoch."""
        raise NotImplementedError

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
        return len(self.history) >= self.settings.epochs

    def run_epoch(self, on_batch: Callable[[BatchMetrics], None] = lambda metrics: None) -> dict[str, Any]:
        """Train on every row once, evaluate, and append the epoch's record to ``history``."""
        began, cpu_began = time.perf_counter(), time.process_time()
        record = {"epoch": self.epoch, **self.train_epoch(on_batch), **self.evaluate()}
        record |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}
        self.history.append(record)
        return record

    def train_epoch(self, on_batch: Callable[[BatchMetrics], None] = lambda metrics: None) -> dict[str, float]:
        """Train on every row once, and return mean loss, log evidence and possible, and seconds of E and of M."""
        if isinstance(self.trainer.engine, Reseeded):
            self.trainer.engine.start_epoch(self.epoch)
        self.model.train()
        totals = dict.fromkeys(("loss", "log_evidence", "possible"), 0.0)
        seconds = dict.fromkeys(("seconds_e", "seconds_m"), 0.0)
        for index in self._batches():
            metrics = self._step(*self.rows(index))
            self.averaged_net.update_parameters(self.model.net)
            for name in totals:
                totals[name] += metrics[name] * len(index) / self.n_rows
            for name in seconds:
                seconds[name] += metrics[name]
            on_batch(metrics)
        return {**totals, **seconds}

    def _step(self, pixels: Tensor, label: Tensor) -> BatchMetrics:
        try:
            metrics = self.trainer.step(pixels, label)
        except ValueError as error:
            if all(weight.isfinite().all() for weight in self.model.parameters()):
                raise
            raise DivergedError(f"diverged: the net has weights that are not finite, in epoch {self.epoch}") from error
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(f"diverged: the loss is {metrics['loss']}, in epoch {self.epoch}")
        return metrics

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(self.n_rows, generator=self.generator)
        return iter(order.split(self.settings.batch))

    def read(self, pixels: Tensor, views: int = 0) -> Tensor:
        """Log probabilities under the averaged net: uint8 [..., 28, 28] -> float64 [..., cardinality] on the CPU.

        With views: of the mean probability over the image itself and as many warped copies. Every image is read alone.
        """
        self.view_generator.manual_seed(VIEW_SEED)
        readers = [self.averaged_model.eval()] + [self.view_model.train()] * views
        with torch.inference_mode():
            readings = torch.stack([self._log_probabilities(reader, pixels.flatten(0, -3)) for reader in readers])
        return (readings.logsumexp(0) - math.log(len(readers))).unflatten(0, pixels.shape[:-2])

    def _log_probabilities(self, reader: ImageReader, images: Tensor) -> Tensor:
        parts = [reader(part.to(self.device)) for part in images.split(EVALUATION_BATCH)]
        return torch.cat(parts).cpu().double().log_softmax(-1)

    def state_dict(self) -> dict[str, Any]:
        """Net, optimizer, schedule, random states and history: tensors and plain values only."""
        return {
            "net": self.model.net.state_dict(),
            "averaged_net": self.averaged_net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.net.load_state_dict(state["net"])
        self.averaged_net.load_state_dict(state["averaged_net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.history = list(state["history"])
