"""EM training on Warcraft maps: the classes of cells are learned from nothing but cheapest paths."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.tasks.core.sampling_engines import Reseeded
from emnesy_gpu.tasks.core.training import EMTraining
from emnesy_gpu.tasks.mnist.nets import running_average
from emnesy_gpu.tasks.warcraft.files import MapData, Maps
from emnesy_gpu.tasks.warcraft.nets import NETS, MapReader
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings
from emnesy_gpu.tasks.warcraft.windows import Windows

SMALLEST_SHARE = 0.03
"""Of the cells of training maps; a class that is read in fewer of them has merged into another."""

SCORED_CELLS = 72_000
EVALUATION_CELLS = 7_200
RELATIVE_TOLERANCES = (0.001, 0.01)

PATH_PENALTY, GIBBS_SWEEPS = 1.0, 4
"""Of the single Gibbs chain of a map."""


class PathSampling(Reseeded):
    """A sampling engine with new samples at every step, and a ``floor`` that the training sets.

    A class that the net has given up gets hardly any gradient, however well it would explain the paths: p (q / p - 1)
    for a prior p and a posterior q. The floor puts (1 - floor) p + floor / K in place of p in the posterior, not in the
    samples.

    The evidence of ``em.ABC`` depends on the sharpness that its target sets for each map. The one here does not: log of
    the share of samples, or of ends of chains, whose path is the label, with one such sample added.
    """

    floor = 0.0

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        post = super().infer(problem, logits, label, check)
        floored = self._floored(logits, post.marginals)
        marginals = torch.where(post.possible.view(-1, 1, 1, 1), floored, post.marginals)
        return replace(post, marginals=marginals, log_evidence=self._evidence(post.info))

    def _evidence(self, info: dict[str, Tensor]) -> Tensor:
        chains = isinstance(self.engine, em.Gibbs)
        n_samples = self.engine.chains if chains else self.engine.samples
        return ((info["satisfied" if chains else "acceptance"] * n_samples + 1) / (n_samples + 1)).log()

    def _floored(self, logits: Tensor, marginals: Tensor) -> Tensor:
        if self.floor == 0:
            return marginals
        prior = logits.detach().float().softmax(-1)
        raised = (1 - self.floor) * prior + self.floor / prior.shape[-1]
        likelihood = marginals / prior.clamp(min=torch.finfo(prior.dtype).tiny)
        posterior = raised * likelihood
        return posterior / posterior.sum(-1, keepdim=True)


class TrueClasses(em.Engine):
    """The true classes of the current batch in place of a posterior: supervised training, for comparison."""

    inference = em.ABC.inference

    def __init__(self) -> None:
        self.classes: Tensor | None = None

    def infer(self, problem: em.Problem, logits: Tensor, label: Tensor, check: bool) -> em.Posterior:
        assert self.classes is not None
        known = nn.functional.one_hot(self.classes.long(), problem.cardinality).to(logits.dtype)
        zeros = torch.zeros(len(logits), dtype=logits.dtype, device=logits.device)
        return em.Posterior(known, zeros, torch.ones_like(zeros, dtype=torch.bool))


class WarcraftTraining(EMTraining):
    """One run on Warcraft maps or on windows of them, known by their cheapest paths alone.

    The seed fixes the weights at the start, the order of the maps, the windows, which are new in every epoch, and the
    samples of the E-step. A run that continues another one, of the same settings but for the seed, has the
    ``start_seed`` of that one; ``tried`` holds the epochs of starts that were given up for it.
    """

    def __init__(self, settings: WarcraftSettings, data: MapData) -> None:
        if settings.hard and settings.engine != "abc":
            raise ValueError(f"hard=True takes the best sample of engine='abc', got engine={settings.engine!r}")
        if settings.supervised and (settings.hard or settings.engine != "abc"):
            raise ValueError(
                f"supervised=True has no E-step: leave out engine={settings.engine!r} and hard={settings.hard}"
            )
        self.settings, self.data = settings, data
        self.start_seed = settings.seed
        self.tried: list[dict[str, Any]] = []
        self.map_problem = em.ShortestPath(data.size)
        self.windows = Windows(data.train, settings.window) if settings.window else None
        problem = self.path_problem = em.ShortestPath(settings.window) if settings.window else self.map_problem
        self.sampling = PathSampling(self.sampler(first=False), settings.seed)
        self.known = TrueClasses()
        engine: em.Engine = self.known if settings.supervised else self.sampling
        n_rows = len(data.train) * (settings.windows if settings.window else 1)
        super().__init__(settings, problem, engine, n_rows, data.moments())

    def sampler(self, first: bool) -> em.Engine:
        """first: one of the epochs whose samples ``em.ABC`` Rao-Blackwellises."""
        settings = self.settings
        if settings.engine == "gibbs":
            return em.Gibbs(chains=1, sweeps=GIBBS_SWEEPS, penalty=PATH_PENALTY)
        if settings.engine == "rejection":
            return em.Rejection(settings.samples)
        if settings.hard:
            return em.ABC(settings.samples, target_ess=1.0)
        return em.ABC(
            settings.rao_blackwell_samples if first else settings.samples,
            target_ess=settings.rao_blackwell_ess if first else settings.target_ess,
            rao_blackwell=first,
        )

    def build_models(self, moments: tuple[Tensor, Tensor]) -> None:
        net = NETS[self.settings.net](self.problem.cardinality)
        self.model = MapReader(net, *moments).to(self.device)
        self.averaged_net = running_average(net)
        self.averaged_model = MapReader(self.averaged_net, *moments).to(self.device)

    def train_epoch(self, *arguments: Any) -> dict[str, float]:
        settings = self.settings
        self.sampling.floor = settings.floor * max(0.0, 1 - (self.epoch - 1) / max(1, settings.rao_blackwell_epochs))
        self.sampling.engine = self.sampler(first=self.epoch <= settings.rao_blackwell_epochs)
        return super().train_epoch(*arguments)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        if self.windows is None:
            maps = self.data.train
            pixels, classes, label = maps.pixels[index], maps.classes[index], maps.paths[index]
        else:
            rows = index // self.settings.windows
            pixels, classes, mask, starts, goals = self.windows.draw(rows, self.generator)
            label = self.path_problem.with_ends(mask, starts, goals)
        self.known.classes = classes.to(self.device)
        return pixels.to(self.device), label.to(self.device)

    def evaluate(self) -> dict[str, Any]:
        """``score`` on training maps without their classes, and ``judge`` on the validation maps."""
        return {**self.score(), **self.judge(self.data.valid)}

    def score(self) -> dict[str, Any]:
        """What tells a good start from a bad one without a label of a cell.

        path_distance: cells that are on the label or on the predicted path but not on both, mean over some training
        maps. class_shares: how often each class is read there. smallest_share: the least of them.
        """
        n_maps = max(1, SCORED_CELLS // self.data.size**2)
        predicted = self.predict(self.data.train.pixels[:n_maps])
        paths = self.map_problem.label(predicted)
        differ = (paths != self.data.train.paths[:n_maps]).flatten(1).sum(1)
        shares = torch.bincount(predicted.flatten(), minlength=self.problem.cardinality) / predicted.numel()
        return {
            "path_distance": float(differ.double().mean()),
            "class_shares": shares.tolist(),
            "smallest_share": float(shares.min()),
        }

    def judge(self, maps: Maps) -> dict[str, float]:
        """Figures on maps whose classes are known: the predicted path is priced on the true map, in exact tenths.

        cost_accuracy: maps where it costs no more than the label. cost_within_tenth: at most 0.1 more.
        cost_within_0.001, cost_within_0.01: at most that share more. excess_cost: the mean share. path_accuracy: maps
        where the path is the label. cell_accuracy: cells whose class is right.
        """
        predicted, true = self.predict(maps.pixels), maps.classes.long()
        paths = self.map_problem.label(predicted)
        best = self.map_problem.path_cost(maps.paths, true)
        gap = self.map_problem.path_cost(paths, true) - best
        return {
            "cost_accuracy": _share(gap <= 0),
            "cost_within_tenth": _share(gap <= 1),
            **{f"cost_within_{level:g}": _share(gap <= level * best) for level in RELATIVE_TOLERANCES},
            "excess_cost": float((gap / best).double().mean()),
            "path_accuracy": _share((paths == maps.paths).flatten(1).all(1)),
            "cell_accuracy": _share(predicted == true),
        }

    def predict(self, pixels: Tensor) -> Tensor:
        """The most probable class of every cell under the averaged net: int64 [n, size, size] on the CPU."""
        return self.logits(pixels).argmax(-1)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits of whole maps under the averaged net, [n, size, size, 5] on the CPU."""
        reader = self.averaged_model.eval()
        step = max(1, EVALUATION_CELLS // self.data.size**2)
        with torch.inference_mode():
            return torch.cat([reader(part.to(self.device)).float().cpu() for part in pixels.split(step)])

    @property
    def merged(self) -> bool:
        """Whether some class is hardly ever read after the last epoch."""
        return bool(self.history) and self.history[-1]["smallest_share"] < SMALLEST_SHARE

    @property
    def path_distance(self) -> float:
        """The training score of the last epoch: less is better."""
        return self.history[-1]["path_distance"] if self.history else math.inf

    def continue_from(self, start: WarcraftTraining, given_up: list[WarcraftTraining]) -> None:
        """Take over the state of another run, and what was done in vain."""
        self.load_state_dict(start.state_dict())
        self.tried = [{"seed": other.start_seed, **record} for other in given_up for record in other.history]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "start_seed": self.start_seed, "tried": self.tried}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.start_seed, self.tried = state["start_seed"], list(state["tried"])


def confusion(predicted: Tensor, true: Tensor, n_classes: int) -> Tensor:
    """How often class i is read as class j, float64 [n_classes, n_classes]; rows that occur sum to 1."""
    counts = torch.bincount((true.long() * n_classes + predicted).flatten(), minlength=n_classes**2)
    counts = counts.view(n_classes, n_classes).double()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
