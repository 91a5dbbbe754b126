"""A training run on Warcraft maps from start to summary, with its files and its reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.core.progress import PlainReporter
from emnesy_gpu.tasks.core.runner import Runner, durations, prepare_torch
from emnesy_gpu.tasks.files.learning_curve import save_learning_curve
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.files.settings import fill_in
from emnesy_gpu.tasks.warcraft import choose
from emnesy_gpu.tasks.warcraft.maps import MapData
from emnesy_gpu.tasks.warcraft.path_losses import PATH_LOSSES
from emnesy_gpu.tasks.warcraft.pictures import CLASS_NAMES, MapView, save_maps
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings, recipe
from emnesy_gpu.tasks.warcraft.training import RELATIVE_TOLERANCES, WarcraftTraining, confusion

EXAMPLE_SAMPLES, EXAMPLE_ESS = 4096, 64.0
"""Settings of ``em.ABC`` for the posterior of the example maps."""

CHOSEN_BY_RECIPE = ("epochs", "batch", "lr", "restarts", "window", "rao_blackwell_epochs", "samples")
CURVES = {"cells": "cell_accuracy", "cost-optimal paths": "cost_accuracy", "exact paths": "path_accuracy"}
"""Name in the learning curve -> name in a record."""


def start(out: Path | None, data_dir: Path | None = None, **options: Any) -> WarcraftRunner:
    """Return a new run; options that are None come from the recipe."""
    directory = RunDirectory.unused(out, WarcraftSettings)
    data = choose.load(options["size"], options["data"], data_dir, options["maps"])
    values = fill_in(options, recipe(data.size), CHOSEN_BY_RECIPE)
    values |= {"data": data.data, "origin": data.origin, "maps": len(data.train)}
    if values["supervised"] or values["engine"] in PATH_LOSSES:
        values["restarts"] = 1
    return _runner(WarcraftSettings(**values), data, directory, resumed=False)


def resume(path: Path, data_dir: Path | None = None) -> WarcraftRunner:
    """Return the run in a directory, after its last finished epoch."""
    directory = RunDirectory.used(path, WarcraftSettings)
    settings = directory.read_settings()
    data = choose.load(settings.size, settings.data, data_dir, settings.maps)
    return _runner(settings, data, directory, resumed=True)


def _runner(settings: WarcraftSettings, data: MapData, directory: RunDirectory | None, resumed: bool) -> WarcraftRunner:
    prepare_torch(settings)
    return WarcraftRunner(WarcraftTraining(settings, data), directory, resumed)


class WarcraftRunner(Runner):
    """Runs a training on Warcraft maps, with its words, figures and pictures."""

    command = "warcraft"
    accuracies: ClassVar = {"cost": "cost_accuracy", "path": "path_accuracy", "cells": "cell_accuracy"}
    training: WarcraftTraining

    def introduction(self) -> list[str]:
        """Return the data, the settings and the meaning of the figures in words."""
        settings, data = self.training.settings, self.training.data
        return [
            f"data: {data.source}",
            f"{data.size}x{data.size} {data.origin}: {_windows_in_words(settings)}{len(data.train)} maps to train on, "
            f"{len(data.valid)} for validation, {len(data.test)} to test on",
            f"{_mode_in_words(settings)}, {settings.net} net, {settings.epochs} epochs, {settings.batch} a batch, "
            f"lr {settings.lr:g}, seed {settings.seed}, {settings.device}",
            f"on {data.origin} validation maps: cost, predicted paths that cost exactly as much as the label; path, "
            "those that are the label; cells, classes that are right",
        ]

    def prepare(self, report: PlainReporter) -> None:
        """Give up starts that merge classes: such a start soon has a class that is hardly ever read.

        Tries seed after seed until one has kept its classes for some epochs, and goes on with that one. Where none
        has, goes on with the one whose predicted paths are nearest to the training labels.
        """
        settings = self.training.settings
        trials: list[WarcraftTraining] = []
        while settings.restarts > 1 and len(trials) < settings.restarts and (not trials or trials[-1].merged):
            trial = WarcraftTraining(replace(settings, seed=settings.seed + len(trials)), self.training.data)
            while not trial.finished and trial.epoch <= settings.trial_epochs:
                report.epoch_begins(trial.epoch)
                report.epoch_ends(trial.run_epoch(report.batch))
            report.message(f"start with seed {trial.start_seed}: {_state_in_words(trial)}")
            trials.append(trial)
        if trials:
            best = min(trials, key=lambda trial: (trial.merged, trial.path_distance))
            self.training.take_over(best, [trial for trial in trials if trial is not best])

    def conclude(self, report: PlainReporter) -> None:
        """Report and write the figures on the test maps, and draw example maps."""
        training = self.training
        summary = self.summarise()
        report.message(_verdict(summary, len(training.data.test)))
        if training.merged:
            report.message("classes have merged: try another --seed, more --restarts or more --maps")
        if self.directory is None:
            return
        data = training.data
        title = f"{data.size}x{data.size} {data.origin} Warcraft maps"
        self.directory.save_summary(summary)
        save_learning_curve(self.directory.curve, training.history, title, CURVES, "map", "validation")
        if not training.learns_costs:
            save_maps(self.directory.path / "maps.png", examples(training), f"{title}, test")
        report.message(self.directory.finished())

    def summarise(self) -> dict[str, Any]:
        """Return test figures, validation figures of the last epoch, and minutes, those of given-up starts included."""
        training, data, last = self.training, self.training.data, self.training.history[-1]
        validation = {f"validation_{name}": last[name] for name in self.accuracies.values() if name in last}
        return {
            "size": data.size,
            "maps": data.origin,
            "source": data.source,
            "net": training.settings.net,
            "supervised": training.settings.supervised,
            "engine": training.settings.engine,
            "hard": training.settings.hard,
            "seed": training.settings.seed,
            "start_seed": training.start_seed,
            "starts": 1 + len({record["seed"] for record in training.tried}),
            "training_maps": len(data.train),
            "test_maps": len(data.test),
            "epochs": len(training.history),
            **training.judge(data.test),
            **validation,
            "path_distance": training.path_distance,
            "merged": training.merged,
            **self._confusion(),
            **durations(training.tried + training.history),
        }

    def _confusion(self) -> dict[str, Any]:
        """Return the confusion of classes on the test maps, where the net gives classes."""
        training, test = self.training, self.training.data.test
        if training.learns_costs:
            return {}
        return {"confusion": confusion(training.predict(test.pixels), test.classes, len(CLASS_NAMES)).tolist()}


def _windows_in_words(settings: WarcraftSettings) -> str:
    if not settings.window:
        return ""
    return f"{settings.windows} new windows of {settings.window}x{settings.window} cells of each of "


def _mode_in_words(settings: WarcraftSettings) -> str:
    if settings.supervised:
        return "supervised by the true classes"
    return f"{'hard EM' if settings.hard else 'EM'} by {settings.engine}"


def _state_in_words(training: WarcraftTraining) -> str:
    shares = "  ".join(
        f"{name} {100 * share:.0f} %"
        for name, share in zip(CLASS_NAMES, training.history[-1]["class_shares"], strict=True)
    )
    state = "classes have merged" if training.merged else "all classes in use"
    return f"{state} ({shares} of cells), {training.path_distance:.2f} cells of a path differ from its training label"


def _verdict(summary: dict[str, Any], n_maps: int) -> str:
    near = "  ".join(
        f"within {level:g} {100 * summary[f'cost_within_{level:g}']:.2f} %" for level in RELATIVE_TOLERANCES
    )
    cells = f"cells {100 * summary['cell_accuracy']:.2f} %  " if "cell_accuracy" in summary else ""
    return (
        f"{n_maps} {summary['maps']} test maps: cost-optimal paths {100 * summary['cost_accuracy']:.2f} %  "
        f"(at most a tenth more {100 * summary['cost_within_tenth']:.2f} %  relative: {near})  "
        f"exact paths {100 * summary['path_accuracy']:.2f} %  {cells}"
        f"{summary['minutes']:.2f} min"
    )


def examples(training: WarcraftTraining) -> list[MapView]:
    """Return the test maps to show: two of the first, and the two whose predicted paths cost most beyond the true ones.

    The posterior of whole maps is sampled.
    """
    maps, problem = training.data.test, training.map_problem
    logits = training.beliefs(maps.pixels)
    predicted = logits.argmax(-1)
    paths, true = problem.label(predicted), maps.classes.long()
    excess = problem.path_cost(paths, true) - problem.path_cost(maps.paths, true)
    worst = excess.topk(min(2, len(maps))).indices
    first = torch.tensor([row for row in range(min(4, len(maps))) if row not in worst.tolist()][:2], dtype=torch.long)
    rows = torch.cat([first, worst])
    engine = em.ABC(EXAMPLE_SAMPLES, target_ess=EXAMPLE_ESS)
    posterior = em.posterior(problem, logits[rows], maps.paths[rows], engine).marginals
    belief = logits[rows].softmax(-1)
    return [
        MapView(
            f"test map {row}: path costs {excess[row] / 10:.1f} too much",
            maps.pixels[row],
            predicted[row],
            maps.paths[row],
            paths[row],
            belief[place],
            posterior[place],
            true[row],
        )
        for place, row in enumerate(rows.tolist())
    ]
