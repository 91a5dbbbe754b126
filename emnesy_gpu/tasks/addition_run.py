"""A training run on addition from start to summary, with its files and its reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.tasks import images
from emnesy_gpu.tasks.extras import require
from emnesy_gpu.tasks.images import DataError
from emnesy_gpu.tasks.mnist_addition import Training
from emnesy_gpu.tasks.plots import save_learning_curve
from emnesy_gpu.tasks.progress import PlainReporter, reporter
from emnesy_gpu.tasks.recipes import Settings, recipe
from emnesy_gpu.tasks.run_directory import RunDirectory

INTERRUPTED = 130


def start(
    out: Path | None,
    data_dir: Path | None,
    *,
    digits: int,
    data: str,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    augment: bool,
    threads: int | None,
    **others: Any,
) -> int:
    """Begin a run; settings that are None come from the recipe. Returns the exit code."""
    directory = None if out is None else RunDirectory(out)
    if directory is not None:
        directory.check_unused()
        require("matplotlib.figure")
    data_set = images.load(data, data_dir)
    chosen = {"epochs": epochs, "batch": batch, "lr": lr}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings(
        digits=digits,
        data=data_set.name,
        augment=augment,
        threads=threads or torch.get_num_threads(),
        **{**recipe(digits, augment, data_set.name), **chosen},
        **others,
    )
    return _run(settings, data_set, directory, resumed=False)


def resume(path: Path, data_dir: Path | None) -> int:
    """Continue the run in a directory after its last finished epoch. Returns the exit code."""
    require("matplotlib.figure")
    directory = RunDirectory(path)
    settings = directory.read_settings()
    return _run(settings, images.load(settings.data, data_dir), directory, resumed=True)


def _run(settings: Settings, data_set: images.DataSet, directory: RunDirectory | None, resumed: bool) -> int:
    _prepare_torch(settings)
    if settings.holdout:
        data_set = data_set.hold_out(settings.holdout)
    training = Training(settings, data_set)
    with reporter(settings.epochs, training.n_batches) as report:
        report.message(f"data: {data_set.source}")
        report.message(_description(training))
        if directory is not None:
            _open(directory, training, resumed, report)
        try:
            _train(training, directory, report)
        except KeyboardInterrupt:
            report.message(_farewell(training, directory))
            return INTERRUPTED
        _conclude(training, directory, report)
    return 0


def _prepare_torch(settings: Settings) -> None:
    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"--device {device}: PyTorch finds {torch.cuda.device_count()} CUDA devices")
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def _open(directory: RunDirectory, training: Training, resumed: bool, report: PlainReporter) -> None:
    """Restore the state from a resumed directory, or save the initial state into a new one."""
    if resumed:
        training.load_state_dict(directory.load_checkpoint())
        directory.rewrite_metrics(training.history)
        report.message(f"continuing {directory.path} after epoch {len(training.history)}")
    else:
        directory.create(training.settings)
        directory.save_checkpoint(training.state_dict())


def _train(training: Training, directory: RunDirectory | None, report: PlainReporter) -> None:
    while not training.finished:
        report.epoch_begins(len(training.history) + 1)
        record = training.run_epoch(report.batch)
        report.epoch_ends(record)
        if directory is not None:
            directory.save_checkpoint(training.state_dict())
            directory.append_metrics(record)


def _conclude(training: Training, directory: RunDirectory | None, report: PlainReporter) -> None:
    summary = summarise(training)
    report.message(
        f"whole sums {100 * summary['sum_accuracy']:.2f} % of {summary['test_sums']}  "
        f"(20 random groupings {100 * summary['sum_accuracy_20']:.2f} %)  "
        f"digits {100 * summary['digit_accuracy']:.2f} %  {summary['minutes']:.2f} min"
    )
    if training.settings.views:
        report.message(
            f"by the mean of {training.settings.views} warped views and the image itself: "
            f"whole sums {100 * summary['sum_accuracy_views']:.2f} %  "
            f"(20 random groupings {100 * summary['sum_accuracy_20_views']:.2f} %)  "
            f"digits {100 * summary['digit_accuracy_views']:.2f} %"
        )
    if directory is not None:
        directory.save_summary(summary)
        save_learning_curve(directory.curve, training.history, f"{training.settings.digits}-digit sums")
        report.message(f"written to {directory.path}")


def summarise(training: Training) -> dict[str, Any]:
    """The figures of the last epoch, and the minutes of all epochs with their evaluations, however often resumed.

    ``minutes`` are by the clock, ``cpu_minutes`` are those of the process alone.
    """
    history = training.history
    figures = [name for name in history[-1] if "accuracy" in name or name == "log_evidence"]
    times = {"minutes": "seconds", "cpu_minutes": "cpu_seconds", "minutes_e": "seconds_e", "minutes_m": "seconds_m"}
    return {
        "digits": training.settings.digits,
        "seed": training.settings.seed,
        "epochs": len(history),
        "test_sums": len(training.test_sums),
        **{name: history[-1][name] for name in figures},
        **{name: sum(record[seconds] for record in history) / 60 for name, seconds in times.items()},
    }


def _description(training: Training) -> str:
    settings = training.settings
    mode = "hard" if settings.hard else "soft"
    return (
        f"{settings.digits}-digit sums: {len(training.train_sums)} to train on, {len(training.test_sums)} to test on; "
        f"{mode} EM, {settings.epochs} epochs, {settings.batch} sums a batch, lr {settings.lr:g}, "
        f"{'augmented' if settings.augment else 'not augmented'}, seed {settings.seed}, {settings.device}"
    )


def _farewell(training: Training, directory: RunDirectory | None) -> str:
    epochs = training.settings.epochs
    if directory is None:
        return f"interrupted after {len(training.history)} of {epochs} epochs; nothing was saved, as there was no --out"
    saved = len(directory.load_checkpoint()["history"])
    return (
        f"interrupted after {saved} of {epochs} epochs; "
        f"continue with: python -m emnesy_gpu train addition --resume {directory.path}"
    )
