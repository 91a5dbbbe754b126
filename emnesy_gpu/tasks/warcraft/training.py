"""EM training on Warcraft maps: the classes of cells are learned from nothing but cheapest paths."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.core.distributed import Part
from emnesy_gpu.tasks.core.training import EMTraining, Reading, TestRows, running_average
from emnesy_gpu.tasks.core.true_classes import TrueClasses
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.warcraft.engines import PathSampling, sampler
from emnesy_gpu.tasks.warcraft.maps import TILE, MapData, Maps
from emnesy_gpu.tasks.warcraft.nets import NETS, MapReader
from emnesy_gpu.tasks.warcraft.path_losses import (
    COST_LOSSES,
    LARGEST_LAYER,
    PATH_LOSSES,
    costs_of,
    path_loss_engine,
)
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings
from emnesy_gpu.tasks.warcraft.windows import Windows

SMALLEST_SHARE = 0.03
"""Share of the cells of training maps; a class that is read in fewer of them has merged into another."""

SCORED_CELLS = 72_000
"""Cells of training maps that ``score`` reads: 500 maps of size 12."""

CELLS_PER_PASS = 7_200
"""Cells of whole maps that are read at a time in tests: 50 maps of size 12."""

RELATIVE_TOLERANCES = (0.001, 0.01)
"""Shares of the cost of the label by which the cost of a predicted path may exceed it."""


class WarcraftTraining(EMTraining):
    """One run on Warcraft maps or on windows of them, known by their cheapest paths alone.

    The seed fixes the weights at the start, the order of the maps, the windows, which are new in every epoch, and the
    samples of the E-step. A run that took over the start of another one, which differs in the seed alone, has the
    ``start_seed`` of that one; ``tried`` holds the epochs of starts that were given up.
    """

    def __init__(self, settings: WarcraftSettings, data: MapData) -> None:
        if settings.hard and settings.engine != "abc":
            raise ValueError(f"hard=True takes the best sample of engine='abc', got engine={settings.engine!r}")
        if settings.supervised and (settings.hard or settings.engine != "abc"):
            raise ValueError(
                f"supervised=True has no E-step: leave out engine={settings.engine!r} and hard={settings.hard}"
            )
        if settings.engine == "spl" and (settings.window or data.size > LARGEST_LAYER):
            raise ValueError(
                f"engine='spl' takes whole maps of at most {LARGEST_LAYER}x{LARGEST_LAYER}, got size={data.size} and "
                f"window={settings.window}"
            )
        self.data, self.learns_costs = data, settings.engine in COST_LOSSES
        self.start_seed = settings.seed
        self.tried: list[dict[str, Any]] = []
        self.map_problem = em.ShortestPath(data.size)
        self.windows = Windows(data.train, settings.window) if settings.window else None
        problem = self.path_problem = em.ShortestPath(settings.window) if settings.window else self.map_problem
        self.sampling = PathSampling(sampler(settings, first=False), settings.seed)
        self.known = TrueClasses(self.sampling)
        engine: em.Engine = self.known if settings.supervised else self.sampling
        if settings.engine in PATH_LOSSES:
            engine = path_loss_engine(settings.engine, problem, lambda: self.known.classes)
        n_rows = len(data.train) * (settings.windows if settings.window else 1)
        super().__init__(settings, problem, engine, n_rows)

    def build_models(self) -> None:
        """Build the net of the settings for pictures of maps."""
        net, moments = NETS[self.settings.net](self.problem.cardinality), self.data.moments()
        self.model = MapReader(net, *moments).to(self.device)
        self.averaged_net = running_average(net, self.settings.plain)
        self.averaged_model = MapReader(self.averaged_net, *moments).to(self.device)

    def begin_epoch(self) -> None:
        """Set the floor of the prior and the sampler; the first epochs take Rao-Blackwellised samples."""
        settings = self.settings
        self.sampling.floor = settings.floor * max(0.0, 1 - (self.epoch - 1) / max(1, settings.rao_blackwell_epochs))
        self.sampling.engine = sampler(settings, first=self.epoch <= settings.rao_blackwell_epochs)
        super().begin_epoch()

    def rows(self, index: Tensor, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Return pictures of maps or of new windows, uint8 [batch, height, width, 3], and their paths."""
        part = part or Part(0, len(index), len(index))
        if self.windows is None:
            maps, index = self.data.train, part.of(index)
            pixels, classes, label = maps.pixels[index], maps.classes[index], maps.paths[index]
        else:
            rows = index // self.settings.windows
            drawn = self.windows.draw(rows, self.generator)
            pixels, classes, mask, starts, goals = (part.of(each) for each in drawn)
            label = self.path_problem.with_ends(mask, starts, goals)
        self.known.classes = classes.to(self.device)
        return pixels.to(self.device), label.to(self.device)

    def test_rows(self, rows: slice) -> TestRows:
        """Return test maps uint8 [n, 8 * size, 8 * size, 3] and their cheapest paths."""
        return TestRows(self.data.test.pixels[rows], self.data.test.paths[rows].long(), self.map_problem)

    def evaluate(self) -> dict[str, Any]:
        """Score training maps without their classes, and judge the validation maps."""
        return {**self.score(), **self.judge(self.data.valid)}

    def score(self) -> dict[str, Any]:
        """Return what tells a good start from a bad one without the label of any cell.

        path_distance: cells that are on the label or on the predicted path but not on both, as a mean over some
        training maps. class_shares: how often each class is read there. smallest_share: the least of them.
        """
        n_maps = max(1, SCORED_CELLS // self.data.size**2)
        logits = self.beliefs(self.data.train.pixels[:n_maps])
        predicted, paths = logits.argmax(-1), self.paths(self.map_problem, logits)
        differ = (paths != self.data.train.paths[:n_maps]).flatten(1).sum(1)
        shares = torch.bincount(predicted.flatten(), minlength=self.problem.cardinality) / predicted.numel()
        return {
            "path_distance": float(differ.double().mean()),
            "class_shares": shares.tolist(),
            "smallest_share": float(shares.min()),
        }

    def judge(self, maps: Maps) -> dict[str, float]:
        """Return figures on maps whose classes are known: the predicted path is priced on the true map, in tenths.

        cost_accuracy: maps where it costs no more than the label. cost_within_tenth: at most 0.1 more.
        cost_within_0.001, cost_within_0.01: at most that share more. excess_cost: the mean share. path_accuracy: maps
        where the path is the label. cell_accuracy: cells whose class is right, where the net gives classes.
        """
        logits, true = self.beliefs(maps.pixels), maps.classes.long()
        paths = self.paths(self.map_problem, logits)
        best = self.map_problem.path_cost(maps.paths, true)
        gap = self.map_problem.path_cost(paths, true) - best
        figures = {
            "cost_accuracy": _share(gap <= 0),
            "cost_within_tenth": _share(gap <= 1),
            **{f"cost_within_{level:g}": _share(gap <= level * best) for level in RELATIVE_TOLERANCES},
            "excess_cost": float((gap / best).double().mean()),
            "path_accuracy": _share((paths == maps.paths).flatten(1).all(1)),
        }
        return figures if self.learns_costs else {**figures, "cell_accuracy": _share(logits.argmax(-1) == true)}

    def predict(self, pixels: Tensor) -> Tensor:
        """Return the most probable class of every cell under the averaged net: int64 [n, size, size] on the CPU."""
        return self.beliefs(pixels).argmax(-1)

    def paths(self, problem: em.ShortestPath, logits: Tensor) -> Tensor:
        """Return the cheapest paths over the most probable classes, or over the costs that a loss of paths teaches."""
        if self.learns_costs:
            return problem.cheapest_path(costs_of(self.settings.engine, logits))
        return problem.label(logits.argmax(-1))

    def beliefs(self, pixels: Tensor) -> Tensor:
        """Return the logits of whole maps under the averaged net, [n, size, size, 5] on the CPU."""
        reader = self.averaged_model.eval()
        step = max(1, CELLS_PER_PASS // self.data.size**2)
        with torch.inference_mode():
            return torch.cat([reader(part.to(self.device)).float().cpu() for part in pixels.split(step)])

    def look_at(self, pixels: Tensor) -> Reading:
        """Read maps uint8 [n, 8 H, 8 W, 3]: classes [n, H, W], and as labels their ``paths``."""
        whole = pixels.dim() == 4 and pixels.shape[-1] == 3 and not any(side % TILE for side in pixels.shape[1:3])
        if pixels.dtype != torch.uint8 or not whole or not pixels.numel():
            raise DataError(f"maps must be uint8 [n, {TILE} H, {TILE} W, 3], got {pixels.dtype} {list(pixels.shape)}")
        logits = self.beliefs(pixels)
        probabilities, classes = logits.double().softmax(-1), logits.argmax(-1)
        return Reading(classes, probabilities, self.paths(em.ShortestPath(*classes.shape[1:]), logits))

    @property
    def merged(self) -> bool:
        """Whether some class is hardly ever read after the last epoch, by a net that gives classes."""
        classes_matter = bool(self.history) and not self.learns_costs
        return classes_matter and self.history[-1]["smallest_share"] < SMALLEST_SHARE

    @property
    def path_distance(self) -> float:
        """The training score of the last epoch: less is better."""
        return self.history[-1]["path_distance"] if self.history else math.inf

    def take_over(self, start: WarcraftTraining, given_up: list[WarcraftTraining]) -> None:
        """Go on from the state of another run, and keep the records of the starts that were given up."""
        self.load_state_dict(start.state_dict())
        self.tried = [{"seed": other.start_seed, **record} for other in given_up for record in other.history]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the training, with its start and the starts that were given up."""
        return {**super().state_dict(), "start_seed": self.start_seed, "tried": self.tried}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state from ``state_dict``."""
        super().load_state_dict(state)
        self.start_seed, self.tried = state["start_seed"], list(state["tried"])


def confusion(predicted: Tensor, true: Tensor, n_classes: int) -> Tensor:
    """Return how often class i is read as class j, float64 [n_classes, n_classes]; rows that occur sum to 1."""
    counts = torch.bincount((true.long() * n_classes + predicted).flatten(), minlength=n_classes**2)
    counts = counts.view(n_classes, n_classes).double()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
