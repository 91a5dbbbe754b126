"""EM training on visual Sudoku: decision rules, learning, resumption to the bit, restarts, files and commands."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.core import progress
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.sudoku import pictures
from emnesy_gpu.tasks.sudoku import run as sudoku_run
from emnesy_gpu.tasks.sudoku.boards import Split, regenerate
from emnesy_gpu.tasks.sudoku.engines import Sharpened
from emnesy_gpu.tasks.sudoku.metrics import auroc, best_renaming, best_threshold, matched_accuracy, threshold_accuracy
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings, recipe
from emnesy_gpu.tasks.sudoku.training import SudokuTraining
from tests.train_runs import assert_same_run, figures, interrupt_in_epoch_2, no_mnist_at_hand, without_times  # noqa: F401

SMALL = SudokuSettings(size=4, split=1, data="digits", boards="regenerated", epochs=2, batch=5, lr=4e-3, seed=1)
QUICK = ["train", "sudoku", "--data", "digits", "--epochs", "2", "--batch", "5", "--threads", "1"]


@pytest.fixture(scope="module")
def split() -> Split:
    return regenerate(sklearn_digits.load(), 4, 1)


@pytest.fixture(scope="module")
def large_boards() -> Split:
    return regenerate(sklearn_digits.load(), 9, 1)


def same_state(left: SudokuTraining, right: SudokuTraining) -> bool:
    first, second = left.state_dict(), right.state_dict()
    for name in ("net", "averaged_net", "optimizer", "generator", "torch_rng"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    return first["scheduler"] == second["scheduler"] and without_times(left.history) == without_times(right.history)


def test_a_threshold_separates_what_can_be_separated():
    scores, labels = torch.tensor([-9.0, -7.0, -1.0, 0.0]), torch.tensor([0, 0, 1, 1])
    assert best_threshold(scores, labels) == -4
    assert threshold_accuracy(scores, labels, -4) == 1


def test_a_threshold_takes_the_best_of_mixed_scores():
    scores, labels = torch.tensor([-5.0, -4.0, -3.0, -2.0, -1.0]), torch.tensor([0, 1, 0, 1, 1])
    threshold = best_threshold(scores, labels)
    assert threshold_accuracy(scores, labels, threshold) == 0.8
    by_hand = [threshold_accuracy(scores, labels, t) for t in torch.arange(-5.5, 0).tolist()]
    assert max(by_hand) == 0.8


@pytest.mark.parametrize(("label", "side"), [(1, 1.0), (0, -1.0)])
def test_a_threshold_of_one_kind_calls_all_boards_so(label, side):
    scores = torch.tensor([-2.0, -1.0])
    threshold = best_threshold(scores, torch.tensor([label, label]))
    assert threshold_accuracy(scores, torch.tensor([label, label]), threshold) == 1
    assert side * (threshold + 1.5) < 0


def test_impossible_boards_lie_below_every_threshold():
    scores, labels = torch.tensor([-torch.inf, -torch.inf, -3.0]), torch.tensor([0, 0, 1])
    threshold = best_threshold(scores, labels)
    assert -torch.inf < threshold < -3
    assert threshold_accuracy(scores, labels, threshold) == 1
    assert auroc(scores, labels) == 1


def test_auroc_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    scores = (torch.randn(60, generator=generator) + labels).mul(4).round()
    expected = require("sklearn.metrics").roc_auc_score(labels, scores)
    assert len(scores.unique()) < 50, "ties are part of the test"
    assert auroc(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_cells_count_under_the_best_renaming():
    true = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    names = torch.tensor([2, 3, 1, 0])
    predicted = names[true]
    assert matched_accuracy(predicted, true, 4) == 1
    assert torch.equal(best_renaming(predicted, true, 4)[predicted], true)
    predicted[0] = 1
    assert matched_accuracy(predicted, true, 4) == 7 / 8
    assert matched_accuracy(torch.zeros_like(true), true, 4) == 3 / 8


@pytest.mark.parametrize("options", [{}, {"hard": True}, {"m_steps": 2, "epochs": 10}])
def test_learns_digits_from_valid_boards_alone(split, options):
    """Chance is below 0.4 for cells under the best renaming, and 0.5 for boards."""
    values = {**recipe(4, "digits"), "epochs": 15, **options}
    training = SudokuTraining(replace(SMALL, augment=False, **values), split)
    while not training.finished:
        record = training.run_epoch()
    assert record["cell_accuracy"] > 0.95
    assert record["calibrated_accuracy"] > 0.8
    assert record["auroc"] > 0.9
    assert record["log_evidence"] > training.history[0]["log_evidence"]


def test_only_valid_boards_are_trained_on_unless_asked(split):
    valid, both = SudokuTraining(SMALL, split), SudokuTraining(replace(SMALL, with_invalid=True), split)
    assert valid.train_labels.tolist() == [1] * 14
    assert torch.equal(valid.train_pixels, split.train.pixels[::2])
    assert both.train_labels.tolist() == [1, 0] * 14
    assert (valid.n_batches, both.n_batches) == (3, 6)
    assert both.run_epoch()["possible"] == 1


def test_a_record_holds_the_figures_of_an_epoch(split):
    training = SudokuTraining(replace(SMALL, epochs=7, views=2), split)
    while not training.finished:
        record = training.run_epoch()
    evaluated = [record["epoch"] for record in training.history if "cell_accuracy" in record]
    assert evaluated == list(range(1, 8))
    names = ("board_accuracy", "calibrated_accuracy", "threshold", "auroc", "cell_accuracy", "valid_evidence")
    assert set(names) <= set(record)
    assert {f"{name}_views" for name in names} <= set(record)
    assert not any(name.endswith("_views") for name in training.history[0])


def test_evaluates_five_times_and_at_the_end(split, monkeypatch):
    monkeypatch.setattr(SudokuTraining, "judge", lambda self, *arguments: {"board_accuracy": 0.5})
    training = SudokuTraining(replace(SMALL, epochs=52, batch=14), split)
    monkeypatch.setattr(training, "train_epoch", lambda on_batch: {})
    while not training.finished:
        training.run_epoch()
    evaluated = [record["epoch"] for record in training.history if "board_accuracy" in record]
    assert evaluated == [10, 20, 30, 40, 50, 52]


@pytest.mark.parametrize("options", [{}, {"m_steps": 2}, {"with_invalid": True, "views": 1}])
def test_resumes_to_the_bit(split, tmp_path, options):
    settings = replace(SMALL, sharpening=3.0, sharpened_epochs=3, **options)
    whole = SudokuTraining(settings, split)
    directory = RunDirectory(tmp_path, SudokuSettings)
    directory.create(settings)
    whole.run_epoch()
    directory.save_checkpoint(whole.state_dict())
    whole.run_epoch()

    torch.manual_seed(99)
    continued = SudokuTraining(directory.read_settings(), split)
    continued.load_state_dict(directory.load_checkpoint())
    continued.run_epoch()
    assert same_state(whole, continued)


def test_views_average_probabilities_and_repeat(split):
    training = SudokuTraining(SMALL, split)
    pixels = split.test.pixels[:3]
    plain, warped = training.read(pixels), training.read(pixels, views=3)
    assert plain.shape == (3, 4, 4, 4)
    for logits in (plain, warped):
        torch.testing.assert_close(logits.exp().sum(-1), torch.ones(3, 4, 4, dtype=torch.float64))
    assert not torch.equal(plain, warped)
    assert torch.equal(warped, training.read(pixels, views=3))
    assert torch.equal(plain, training.read(pixels))


def test_reading_for_a_test_leaves_the_training_alone(split):
    plain, viewed = SudokuTraining(SMALL, split), SudokuTraining(replace(SMALL, views=2), split)
    for training in (plain, viewed):
        training.run_epoch()
        training.read(split.test.pixels, views=2)
        training.run_epoch()
    torch.testing.assert_close(plain.state_dict()["net"], viewed.state_dict()["net"], rtol=0, atol=0)


def test_a_sharpened_engine_sees_a_power_of_the_prior():
    problem, label = em.Sudoku(4), torch.tensor([1])
    logits = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    engine = Sharpened(em.Exact())
    torch.testing.assert_close(
        em.posterior(problem, logits, label, engine).marginals, em.posterior(problem, logits, label).marginals
    )
    engine.power = 3.0
    torch.testing.assert_close(
        em.posterior(problem, logits, label, engine).marginals, em.posterior(problem, 3 * logits, label).marginals
    )


def test_the_prior_is_sharpened_at_first_and_then_no_more(split):
    training = SudokuTraining(replace(SMALL, epochs=4, sharpening=3.0, sharpened_epochs=2), split)
    powers = []
    while not training.finished:
        training.run_epoch()
        powers.append(training.engine.power)
    assert powers == [3, 2, 1, 1]


def test_boards_of_size_9_run_through_belief_propagation(large_boards):
    settings = replace(SMALL, size=9, epochs=1, batch=3, sharpening=3.0, sharpened_epochs=1)
    training = SudokuTraining(settings, large_boards)
    record = training.run_epoch()
    assert "BeliefPropagation(iterations=4" in repr(training.trainer.engine)
    assert record["possible"] == 1
    assert record["log_evidence"] < -20, "a net that knows nothing makes a valid board improbable"
    assert 0 < record["cell_accuracy"] < 1
    pairwise = SudokuTraining(replace(settings, factors="pairwise"), large_boards)
    assert pairwise.run_epoch()["log_evidence"] != record["log_evidence"]


def test_hard_and_an_engine_exclude_each_other(split):
    with pytest.raises(ValueError, match="hard=True"):
        SudokuTraining(replace(SMALL, hard=True, engine="exact"), split)


@pytest.mark.parametrize("data_name", ["mnist", "digits", "files"])
@pytest.mark.parametrize("size", [4, 9])
def test_every_size_has_a_recipe(size, data_name):
    settings = replace(SMALL, size=size, data=data_name, **recipe(size, data_name))
    assert settings.epochs >= 1
    assert settings.batch >= 1
    assert settings.restarts >= 1
    assert 0 < settings.lr < 0.1


def test_the_start_is_the_trial_with_the_highest_evidence(split, monkeypatch):
    evidence = {1: -3.0, 2: -1.0, 3: -2.0}
    settings = replace(SMALL, epochs=20, restarts=3)

    def pretend(self: SudokuTraining, *arguments: object) -> dict[str, float]:
        record = {"epoch": self.epoch, "log_evidence": evidence[self.settings.seed]}
        self.history.append(record)
        return record

    monkeypatch.setattr(SudokuTraining, "run_epoch", pretend)
    runner = sudoku_run.SudokuRunner(SudokuTraining(settings, split), None)
    with progress.reporter(1, 1, runner.accuracies) as report:
        runner.prepare(report)
    best = SudokuTraining(replace(settings, seed=2), split)
    assert torch.equal(runner.training.model.net[0].weight, best.model.net[0].weight)
    assert [record["log_evidence"] for record in runner.training.trials] == [-3, -3, -1, -1, -2, -2]


def test_a_run_reports_and_writes_its_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--out", str(out), "--restarts", "2", "--views", "1"]) == 0
    text = capsys.readouterr().out
    assert "regenerated from scikit-learn's bundled digits" in text
    assert text.count("trial with seed") == 2
    assert "28 regenerated  calibrated on 28 labelled boards" in text
    assert "mean of 1 warped views" in text
    names = {".lock", "config.json", "metrics.jsonl", "checkpoint.pt", "curve.png", "boards.png", "summary.json"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["boards"] == "regenerated"
    assert summary["calibration_boards"] == 28
    assert summary["cell_accuracy"] == figures(out)[-1]["cell_accuracy"]
    assert json.loads((out / "config.json").read_text())["settings"]["boards"] == "regenerated"
    assert (out / "boards.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("restarts", ["1", "2"])
def test_an_interrupted_run_continues_to_the_bit(tmp_path, capsys, monkeypatch, restarts):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = [*QUICK, "--restarts", restarts]
    assert main([*arguments, "--out", str(whole)]) == 0
    interrupt_in_epoch_2([*arguments, "--out", str(cut)], monkeypatch)
    assert f"continue with: python -m emnesy_gpu train sudoku --resume {cut}" in capsys.readouterr().out
    assert main(["train", "sudoku", "--resume", str(cut)]) == 0
    assert_same_run(whole, cut)
    left, right = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (whole, cut))
    assert without_times(left["trials"]) == without_times(right["trials"])


def test_an_interruption_during_the_trials_leaves_a_run_that_begins_anew(tmp_path, capsys, monkeypatch):
    def interrupt(self: SudokuTraining, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SudokuTraining, "run_epoch", interrupt)
    assert main([*QUICK, "--restarts", "2", "--out", str(tmp_path / "run")]) == 130
    told = capsys.readouterr().out
    assert "interrupted before the first epoch; continue with: python -m emnesy_gpu train sudoku --resume" in told
    monkeypatch.undo()
    assert main(["train", "sudoku", "--resume", str(tmp_path / "run")]) == 0
    assert "has no checkpoint yet: the run begins anew" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "sudoku", "--size", "16"], "--size"),
        (["train", "sudoku", "--split", "0"], "--split"),
        (["train", "sudoku", "--engine", "magic"], "--engine"),
        (["train", "sudoku", "--views", "-1"], "--views"),
        ([*QUICK, "--hard", "--engine", "exact"], "hard=True"),
        ([*QUICK, "--size", "9", "--engine", "exact"], "engines that do"),
        ([*QUICK, "--device", "cuda:63"], "PyTorch finds"),
        ([*QUICK, "--visudo-dir", "/nowhere"], "has 0 folders such as"),
        (["train", "sudoku", "--resume", "/nowhere"], "holds no run"),
        (["train", "sudoku", "--resume", "/nowhere", "--views", "2"], "leave out --views"),
        (["data", "visudo"], "--to"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(arguments) not in (0, None)
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_the_run_of_another_task_is_not_continued(tmp_path, capsys):
    addition = [
        "train",
        "addition",
        "--data",
        "digits",
        "--epochs",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "a"),
    ]
    assert main(addition) == 0
    assert main(["train", "sudoku", "--resume", str(tmp_path / "a")]) == 1
    assert "is not the config of a run" in capsys.readouterr().err


def test_a_mosaic_shows_the_symbols_of_a_cell_as_a_square():
    belief = torch.arange(4 * 4 * 4).view(4, 4, 4)
    mosaic = pictures.mosaic(belief)
    assert mosaic.shape == (8, 8)
    for row in range(4):
        for column in range(4):
            square = mosaic[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(square.flatten(), belief[row, column])


def test_examples_go_by_true_names(split):
    training = SudokuTraining(replace(SMALL, augment=False, **recipe(4, "digits") | {"epochs": 15}), split)
    while not training.finished:
        training.run_epoch()
    views = sudoku_run.examples(training)
    assert [view.words.replace("\n", ":").partition(":")[0] for view in views][:2] == ["valid", "invalid"]
    right = (views[0].belief.argmax(-1) == split.test.cells[0]).double().mean()
    assert right > 0.9
    for view in views:
        torch.testing.assert_close(view.posterior.sum(-1), torch.ones(4, 4))
        assert training.problem.label(view.posterior.argmax(-1)) == 1
