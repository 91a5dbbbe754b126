"""EM training on Warcraft maps: nets, figures, learning, resumption to the bit, restarts, files and commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.core import progress
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.warcraft import run as warcraft_run
from emnesy_gpu.tasks.warcraft import synthetic
from emnesy_gpu.tasks.warcraft.maps import MapData
from emnesy_gpu.tasks.warcraft.nets import NETS, MapReader
from emnesy_gpu.tasks.warcraft.pictures import MapView, changed_cells, save_maps
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings, recipe
from emnesy_gpu.tasks.warcraft.training import SMALLEST_SHARE, WarcraftTraining, confusion

SMALL = WarcraftSettings(
    size=12, data="synthetic", origin="synthetic", maps=40, epochs=2, batch=10, lr=4e-3, samples=32, seed=1
)
QUICK = [
    "train",
    "warcraft",
    "--data",
    "synthetic",
    "--maps",
    "30",
    "--samples",
    "32",
    "--batch",
    "10",
    "--threads",
    "1",
]


@pytest.fixture(autouse=True)
def own_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> MapData:
    return synthetic.generate(12, n_maps=40)


def figures(history):
    """The history without its times."""
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in history]


def records(path: Path):
    return figures([json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()])


def same_state(left: WarcraftTraining, right: WarcraftTraining) -> bool:
    first, second = left.state_dict(), right.state_dict()
    for name in ("net", "averaged_net", "optimizer", "generator", "torch_rng"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    return first["scheduler"] == second["scheduler"] and figures(left.history) == figures(right.history)


@pytest.mark.parametrize("name", NETS)
def test_nets_give_logits_for_every_cell_of_any_map(data, name):
    reader = MapReader(NETS[name](5), *data.moments())
    assert reader(data.train.pixels[:2]).shape == (2, 12, 12, 5)
    assert reader(data.train.pixels[:2, :64, :80]).shape == (2, 8, 10, 5)


def test_the_tile_net_reads_every_cell_by_itself(data):
    reader = MapReader(NETS["tile"](5), *data.moments())
    pixels = data.train.pixels[:1].clone()
    before = reader(pixels)
    pixels[0, 16:24, 32:40] = 255 - pixels[0, 16:24, 32:40]
    changed = (reader(pixels) != before).any(-1)[0]
    assert changed.nonzero().tolist() == [[2, 4]]
    assert sum(weights.numel() for weights in reader.parameters()) == 2981


def test_the_context_net_sees_across_the_border_but_not_far(data):
    reader = MapReader(NETS["context"](5), *data.moments())
    pixels = data.train.pixels[:1].clone()
    before = reader(pixels)
    pixels[0, 40:48, 40:48] = 255 - pixels[0, 40:48, 40:48]
    changed = (reader(pixels) != before).any(-1)[0].nonzero()
    assert int(changed.min()) == 4
    assert int(changed.max()) == 6


def certain(classes):
    """Logits [..., 5] of a net that is sure of these classes."""
    return torch.nn.functional.one_hot(classes.long(), 5).float()


def test_figures_of_a_perfect_reader(data, monkeypatch):
    training = WarcraftTraining(SMALL, data)
    monkeypatch.setattr(training, "beliefs", lambda pixels: certain(data.test.classes[: len(pixels)]))
    found = training.judge(data.test)
    assert found.pop("excess_cost") == 0
    assert set(found.values()) == {1.0}


def test_figures_price_the_predicted_path_on_the_true_map_in_exact_tenths(data, monkeypatch):
    training, true = WarcraftTraining(SMALL, data), data.test.classes.long()
    grass = torch.zeros_like(true)
    monkeypatch.setattr(training, "beliefs", lambda pixels: certain(grass))
    found = training.judge(data.test)
    tenths = torch.tensor([8, 12, 53, 77, 92])[true]
    on_diagonal = tenths.diagonal(dim1=1, dim2=2).sum(1)
    best = (tenths * data.test.paths).flatten(1).sum(1)
    assert found["cost_accuracy"] == float((on_diagonal == best).double().mean())
    assert found["cost_within_0.01"] == float((on_diagonal <= 1.01 * best).double().mean())
    assert found["excess_cost"] == pytest.approx(float((on_diagonal / best - 1).mean()), rel=1e-6)
    assert found["cell_accuracy"] == float((true == 0).double().mean())


def test_confusion_counts_classes():
    found = confusion(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [1, 1]]), 3)
    assert found.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]]


def test_merged_classes_are_detected_without_labels(data, monkeypatch):
    training = WarcraftTraining(SMALL, data)
    for shares, merged in (([0.4, 0.3, 0.2, 0.1, 0.0], True), ([0.4, 0.3, 0.1, 0.1, 0.1], False)):
        training.history = [{"smallest_share": min(shares)}]
        assert training.merged is merged
    true = data.train.classes.long()
    monkeypatch.setattr(training, "beliefs", lambda pixels: certain(torch.where(true == 4, 3, true)))
    assert training.score()["smallest_share"] < SMALLEST_SHARE
    monkeypatch.setattr(training, "beliefs", lambda pixels: certain(true))
    assert training.score()["smallest_share"] > SMALLEST_SHARE
    assert training.score()["path_distance"] == 0


def test_samples_are_fresh_in_every_step(data):
    training = WarcraftTraining(SMALL, data)
    x, label = training.rows(torch.arange(10))
    logits = training.model(x).detach()
    found = []
    for _ in range(2):
        training.sampling.start_epoch(1)
        found += [em.posterior(training.problem, logits, label, training.sampling) for _ in range(2)]
    first, second, first_again, _ = (post.marginals for post in found)
    assert torch.equal(first, first_again)
    assert not torch.equal(first, second)
    assert (found[0].log_evidence <= 0).all()


def test_the_floor_replaces_the_prior_in_the_posterior_alone(data):
    training = WarcraftTraining(replace(SMALL, rao_blackwell_epochs=1), data)
    sampling, label = training.sampling, data.train.paths[:4]
    sampling.engine = em.ABC(samples=32, target_ess=4.0, rao_blackwell=True)
    logits = torch.randn(4, 12, 12, 5, generator=torch.Generator().manual_seed(0))
    logits[..., 2] = -12.0
    plain = em.posterior(training.problem, logits, label, sampling).marginals
    sampling.floor = 0.1
    sampling.start_epoch(1)
    floored = em.posterior(training.problem, logits, label, sampling).marginals
    prior = logits.softmax(-1)
    expected = plain * (0.9 * prior + 0.02) / prior
    torch.testing.assert_close(floored, expected / expected.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert float(plain[..., 2].max()) < 1e-3
    assert 0.01 < float(floored[..., 2].mean()) < 0.1, "a class that the net has given up comes back"


def test_the_floor_falls_to_nothing_over_the_first_epochs(data):
    training = WarcraftTraining(replace(SMALL, epochs=3, floor=0.02, rao_blackwell_epochs=2, maps=10), data)
    floors = []
    for _ in range(3):
        training.run_epoch()
        floors.append(training.sampling.floor)
    assert floors == [0.02, 0.01, 0.0]


@pytest.mark.parametrize(
    ("changes", "engine"),
    [
        ({"hard": True}, em.ABC(32, target_ess=1.0)),
        ({"engine": "gibbs"}, em.Gibbs(chains=1, sweeps=4, penalty=1.0)),
        ({"engine": "rejection"}, em.Rejection(32)),
    ],
)
def test_other_e_steps_have_their_targets_and_an_evidence_of_shares(data, changes, engine):
    training, label = WarcraftTraining(replace(SMALL, **changes), data), data.train.paths[:4]
    logits = 3.0 * torch.nn.functional.one_hot(data.train.classes[:4].long(), 5)
    training.sampling.start_epoch(1)
    found = em.posterior(training.problem, logits, label, training.sampling)
    seed = (SMALL.seed + 1 << 40) + (1 << 24)
    alone = em.posterior(training.problem, logits, label, replace(engine, seed=seed))
    assert torch.equal(found.marginals, alone.marginals)
    n_samples = 1 if changes.get("engine") == "gibbs" else 32
    share = alone.info["satisfied" if n_samples == 1 else "acceptance"]
    torch.testing.assert_close(found.log_evidence, ((share * n_samples + 1) / (n_samples + 1)).log())
    if "hard" in changes:
        assert (alone.info["sharpness"] == 2**20).all(), "the best samples alone are the target"
        assert (alone.info["ess"] < 8).all()


def test_where_no_sample_has_the_path_the_prior_stays_floor_or_not(data):
    training = WarcraftTraining(replace(SMALL, engine="rejection"), data)
    training.sampling.floor = 0.5
    logits = torch.randn(4, 12, 12, 5, generator=torch.Generator().manual_seed(0))
    post = em.posterior(training.problem, logits, data.train.paths[:4], training.sampling)
    assert not post.possible.any()
    torch.testing.assert_close(post.marginals, logits.softmax(-1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hard": True, "engine": "gibbs"}, "hard=True takes the best sample of engine='abc', got engine='gibbs'"),
        ({"supervised": True, "engine": "gibbs"}, "supervised=True has no E-step"),
        ({"supervised": True, "hard": True}, "supervised=True has no E-step"),
    ],
)
def test_e_steps_that_exclude_each_other_are_refused(data, changes, message):
    with pytest.raises(ValueError, match=message):
        WarcraftTraining(replace(SMALL, **changes), data)


def test_supervised_training_reads_most_cells_after_a_few_epochs(data):
    training = WarcraftTraining(replace(SMALL, supervised=True, epochs=8, batch=4, lr=1e-2), data)
    while not training.finished:
        training.run_epoch()
    assert training.history[-1]["cell_accuracy"] > 0.8
    assert training.history[-1]["loss"] < training.history[0]["loss"]


def test_em_comes_nearer_to_the_paths():
    """Grass from rock, at first, is what a few maps can teach: better than the straight way that all grass gives."""
    data = synthetic.generate(12, n_maps=200)
    settings = replace(SMALL, maps=200, epochs=4, batch=5, lr=1e-2, samples=128)
    training = WarcraftTraining(settings, data)
    all_grass = torch.zeros_like(data.valid.classes, dtype=torch.long)
    straight = float((training.map_problem.label(all_grass) != data.valid.paths).flatten(1).sum(1).double().mean())
    while not training.finished:
        training.run_epoch()
    read = training.map_problem.label(training.predict(data.valid.pixels))
    assert float((read != data.valid.paths).flatten(1).sum(1).double().mean()) < 0.75 * straight


@pytest.mark.parametrize("window", [0, 9])
def test_a_continued_run_is_the_uninterrupted_one_to_the_bit(data, window):
    settings = replace(SMALL, window=window, windows=2, rao_blackwell_epochs=1, rao_blackwell_samples=8)
    whole, first, second = (WarcraftTraining(settings, data) for _ in range(3))
    while not whole.finished:
        whole.run_epoch()
    first.run_epoch()
    second.load_state_dict(first.state_dict())
    second.run_epoch()
    assert same_state(whole, second)


def test_recipes_fit_the_settings():
    for size in (12, 18, 24, 30):
        settings = WarcraftSettings(size=size, data="synthetic", origin="synthetic", maps=100, **recipe(size))
        assert settings.window < size
        assert settings.trial_epochs < settings.epochs


def run(tmp_path: Path, *arguments: str) -> Path:
    out = tmp_path / "run"
    assert main([*QUICK, "--epochs", "2", "--out", str(out), *arguments]) == 0
    return out


def test_a_run_leaves_its_files_and_says_synthetic_everywhere(tmp_path, capsys):
    out = run(tmp_path, "--restarts", "1")
    words = capsys.readouterr().out
    lines = words.splitlines()
    assert "synthetic" in lines[0]
    assert "synthetic" in next(line for line in lines if "cost-optimal paths" in line)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["maps"] == "synthetic"
    assert summary["starts"] == 1
    assert len(records(out)) == 2
    for name in ("curve.png", "maps.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_merged_starts_are_given_up_and_counted(tmp_path, monkeypatch, capsys):
    """Nothing is learned from 30 maps in an epoch: every start has merged classes, and the nearest one goes on."""
    monkeypatch.setattr(warcraft_run, "recipe", lambda size: {**recipe(size), "trial_epochs": 1})
    out = run(tmp_path, "--restarts", "2", "--seed", "5")
    words = capsys.readouterr().out
    assert words.count("classes have merged (") == 2
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["starts"], summary["seed"]) == (2, 5)
    assert summary["start_seed"] in (5, 6)
    assert len(records(out)) == 2
    state = RunDirectory(out, WarcraftSettings).load_checkpoint()
    assert [record["seed"] for record in state["tried"]] == [11 - summary["start_seed"]]


def test_an_interrupted_run_is_continued_to_the_bit(tmp_path, monkeypatch, capsys):
    arguments = ["--restarts", "2", "--seed", "5"]
    monkeypatch.setattr(warcraft_run, "recipe", lambda size: {**recipe(size), "trial_epochs": 1})
    whole = run(tmp_path / "whole", *arguments)
    original = progress.PlainReporter.epoch_begins
    begun = []

    def interrupt_the_third(self, epoch):
        begun.append(epoch)
        if len(begun) == 3:
            raise KeyboardInterrupt
        original(self, epoch)

    monkeypatch.setattr(progress.PlainReporter, "epoch_begins", interrupt_the_third)
    out = tmp_path / "part" / "run"
    assert main([*QUICK, "--epochs", "2", "--out", str(out), *arguments]) == 130
    assert main(["train", "warcraft", "--resume", str(out)]) == 0
    assert records(out) == records(whole)
    assert "train warcraft --resume" in capsys.readouterr().out


def test_pictures_show_the_cells_that_the_path_changes_most(tmp_path):
    size = 6
    belief = torch.full((size, size, 5), 0.2)
    posterior = belief.clone()
    for place in (3, 8, 20, 35):
        posterior.view(-1, 5)[place] = torch.eye(5)[place % 5]
    classes = torch.zeros(size, size, dtype=torch.long)
    path = torch.eye(size, dtype=torch.uint8)
    pixels = torch.zeros(8 * size, 8 * size, 3, dtype=torch.uint8)
    view = MapView("words", pixels, classes, path, path, belief, posterior, classes)
    assert changed_cells(view) == [(0, 3), (1, 2), (3, 2), (5, 5)]
    save_maps(tmp_path / "maps.png", [view], "title")
    assert (tmp_path / "maps.png").stat().st_size > 10_000


def test_help_and_mistakes_are_plain(capsys):
    assert main(["train", "warcraft", "--help"]) == 0
    assert "cheapest paths" in capsys.readouterr().out
    assert main(["train", "warcraft", "--size", "13"]) == 2
    assert main([*QUICK, "--data", "files", "--data-dir", "/nonexistent"]) == 1
    assert capsys.readouterr().err.startswith("emnesy: error: ")
