"""EM training on MNIST addition: two numbers of n handwritten digits, only their sum is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.augmentation import Warp
from emnesy_gpu.tasks.images import DataError, DataSet
from emnesy_gpu.tasks.nets import ImageReader, lenet, running_average
from emnesy_gpu.tasks.pairing import group, mean_sum_accuracy, sum_accuracy
from emnesy_gpu.tasks.recipes import ENGINES, Settings

BatchMetrics = dict[str, float]
EVALUATION_BATCH = 1000
VIEW_SEED = 16
VIEW_STRENGTH = 0.6
START_DIVISOR = 25


class Training:
    """One run: net, optimizer, data order and history, with a state that continues it to the bit.

    The seed fixes the weights at the start, the pairing of the training images into sums (the same sums in every
    epoch: their labels are the only supervision), the order of the sums in every epoch and the augmentation.
    """

    def __init__(self, settings: Settings, data: DataSet) -> None:
        self.settings, self.problem = settings, em.Addition(n_digits=settings.digits)
        self.device = torch.device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._pair(data)
        torch.manual_seed(settings.seed)
        net, moments, warp = lenet(), data.moments(), Warp() if settings.augment else None
        self.model = ImageReader(net, *moments, warp, self.generator).to(self.device)
        self.averaged_net = running_average(net)
        self.averaged_model = ImageReader(self.averaged_net, *moments, None, self.generator)
        self.view_generator = torch.Generator()
        self.view_model = ImageReader(self.averaged_net, *moments, Warp().scaled(VIEW_STRENGTH), self.view_generator)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=settings.lr,
            total_steps=settings.epochs * self.n_batches * settings.m_steps,
            pct_start=settings.warm_up,
            div_factor=START_DIVISOR,
            final_div_factor=1 / (START_DIVISOR * settings.final_lr),
        )
        self.trainer = em.EM(
            self.model,
            self.problem,
            self.optimizer,
            engine=ENGINES[settings.engine]() if settings.engine else None,
            m_steps=settings.m_steps,
            hard=settings.hard,
            scheduler=self.scheduler,
        )
        self.history: list[dict[str, Any]] = []

    def _pair(self, data: DataSet) -> None:
        digits = self.settings.digits
        for part, images in (("training", data.train), ("test", data.test)):
            if len(images) < 2 * digits:
                raise DataError(
                    f"a sum of {digits}-digit numbers needs {2 * digits} images, there are {len(images)} {part} images"
                )
        order = torch.randperm(len(data.train), generator=self.generator)
        self.train_sums = group(order, digits)
        self.train_labels = self.problem.label(data.train.classes[self.train_sums]).to(self.device)
        self.train_pixels = data.train.pixels.to(self.device)
        self.test_sums = group(torch.arange(len(data.test)), digits)
        self.test = data.test

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.train_sums) / self.settings.batch)

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.settings.epochs

    def run_epoch(self, on_batch: Callable[[BatchMetrics], None] = lambda metrics: None) -> dict[str, Any]:
        """Train on every sum once, evaluate, and append the epoch's record to ``history``."""
        began, cpu_began = time.perf_counter(), time.process_time()
        self.model.train()
        totals = dict.fromkeys(("loss", "log_evidence", "possible"), 0.0)
        seconds = dict.fromkeys(("seconds_e", "seconds_m"), 0.0)
        for rows in self._batches():
            pixels = self.train_pixels[self.train_sums[rows].to(self.device)]
            metrics = self.trainer.step(pixels, self.train_labels[rows.to(self.device)])
            self.averaged_net.update_parameters(self.model.net)
            for name in totals:
                totals[name] += metrics[name] * len(rows) / len(self.train_sums)
            for name in seconds:
                seconds[name] += metrics[name]
            on_batch(metrics)
        record = {"epoch": len(self.history) + 1, **totals, **seconds, **self.evaluate()}
        record |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}
        self.history.append(record)
        return record

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.train_sums), generator=self.generator)
        return iter(order.split(self.settings.batch))

    def evaluate(self) -> dict[str, float]:
        """``judge`` on the test images; after the last epoch also by their views, where the settings ask for views."""
        figures = self.judge(self.predict(self.test.pixels))
        if self.settings.views and len(self.history) + 1 == self.settings.epochs:
            by_views = self.judge(self.predict(self.test.pixels, self.settings.views))
            figures |= {f"{name}_views": value for name, value in by_views.items()}
        return figures

    def judge(self, predicted: Tensor) -> dict[str, float]:
        """Accuracies of the digits [n] read from the test images.

        sum_accuracy: whole sums right, the test images grouped in the order of the file. sum_accuracy_20: the mean
        over 20 random groupings. digit_accuracy: images right.
        """
        true = self.test.classes
        return {
            "sum_accuracy": sum_accuracy(self.problem, predicted, true, self.test_sums),
            "sum_accuracy_20": mean_sum_accuracy(self.problem, predicted, true),
            "digit_accuracy": float((predicted == true).double().mean()),
        }

    def predict(self, pixels: Tensor, views: int = 0) -> Tensor:
        """The most probable digit of every image under the averaged net: uint8 [n, 28, 28] -> int64 [n] on the CPU.

        With views: by the mean probability over the image itself and as many warped copies. Every image is read alone.
        """
        self.view_generator.manual_seed(VIEW_SEED)
        readers = [self.averaged_model.eval()] + [self.view_model.train()] * views
        with torch.inference_mode():
            readings = torch.stack([self._probabilities(reader, pixels) for reader in readers])
        return readings.mean(0).argmax(-1)

    def _probabilities(self, reader: ImageReader, pixels: Tensor) -> Tensor:
        parts = [reader(part.to(self.device)) for part in pixels.split(EVALUATION_BATCH)]
        return torch.cat(parts).cpu().double().softmax(-1)

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
