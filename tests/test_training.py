"""EM training on addition: it learns, it resumes to the bit, and its files survive an interruption."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from emnesy_gpu.tasks.addition.settings import AdditionSettings, recipe
from emnesy_gpu.tasks.addition.training import AdditionTraining
from emnesy_gpu.tasks.core.training import running_average
from emnesy_gpu.tasks.files.errors import DataError, DivergedError
from emnesy_gpu.tasks.files.run_directory import RunDirectory, replace_file
from emnesy_gpu.tasks.files.settings import fill_in
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.mnist.augmentation import Warp
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.mnist.nets import BUILDERS, ConvMaxPool, ImageReader, lenet
from emnesy_gpu.tasks.mnist.training import VIEW, VIEW_SEED

SMALL = AdditionSettings(digits=2, data="digits", epochs=2, batch=60, lr=4e-3, seed=1)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return sklearn_digits.load()


def same_state(left: AdditionTraining, right: AdditionTraining) -> bool:
    """Equal weights, optimizer, schedule, random states and accuracies, to the bit."""
    first, second = left.state_dict(), right.state_dict()
    for name in ("net", "averaged_net", "optimizer", "generator", "torch_rng"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    return first["scheduler"] == second["scheduler"] and figures(left) == figures(right)


def figures(training: AdditionTraining) -> list[dict[str, float]]:
    """The history without its times."""
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in training.history]


@pytest.mark.parametrize(
    ("hard", "epochs", "floor", "net"),
    [(False, 5, 0.8, "lenet"), (True, 10, 0.5, "lenet"), (False, 5, 0.8, "deep")],
)
def test_learns_digits_from_sums_alone(data, hard, epochs, floor, net):
    """Chance is 0.1 for digits and less for sums."""
    settings = replace(SMALL, digits=1, epochs=epochs, batch=24, hard=hard, net=net, augment=False)
    training = AdditionTraining(settings, data)
    while not training.finished:
        record = training.run_epoch()
    assert record["digit_accuracy"] > floor
    assert record["sum_accuracy"] > floor - 0.2
    assert record["log_evidence"] > training.history[0]["log_evidence"]


def test_weights_that_are_no_numbers_end_the_training(data):
    training = AdditionTraining(SMALL, data)
    training.run_epoch()
    torch.nn.init.constant_(next(training.model.parameters()), float("nan"))
    with pytest.raises(DivergedError, match="in epoch 2"):
        training.run_epoch()


def test_a_loss_that_is_no_number_ends_the_training(data):
    """Plain torch engines do not look at their inputs."""
    training = AdditionTraining(replace(SMALL, engine="bp-std"), data)
    torch.nn.init.constant_(next(training.model.parameters()), float("nan"))
    with pytest.raises(DivergedError, match="the loss is nan, in epoch 1"):
        training.run_epoch()


def test_an_error_with_sound_weights_stays_what_it_is(data, monkeypatch):
    training = AdditionTraining(SMALL, data)
    pixels, label = training.rows(torch.arange(4))
    monkeypatch.setattr(training, "rows", lambda *_: (pixels, label[:2]))
    with pytest.raises(ValueError, match="label"):
        training.run_epoch()


def test_a_record_holds_the_figures_of_an_epoch(data):
    seen = []
    training = AdditionTraining(SMALL, data)
    record = training.run_epoch(seen.append)
    assert len(seen) == training.n_batches == 6
    assert record["epoch"] == 1
    assert record["possible"] == pytest.approx(1)
    assert record["seconds_m"] == pytest.approx(sum(metrics["seconds_m"] for metrics in seen))
    assert record["seconds"] > record["seconds_e"] + record["seconds_m"]
    assert 0 <= record["sum_accuracy"] <= record["digit_accuracy"] <= 1


@pytest.mark.parametrize("m_steps", [1, 2])
def test_resumes_to_the_bit(data, tmp_path, m_steps):
    settings = replace(SMALL, m_steps=m_steps)
    whole = AdditionTraining(settings, data)
    directory = RunDirectory(tmp_path, AdditionSettings)
    whole.run_epoch()
    directory.save_checkpoint(whole.state_dict())
    whole.run_epoch()

    torch.manual_seed(99)
    continued = AdditionTraining(settings, data)
    continued.load_state_dict(directory.load_checkpoint())
    assert len(continued.history) == 1
    continued.run_epoch()
    assert same_state(whole, continued)


def test_an_epoch_cut_short_is_repeated_to_the_bit(data, tmp_path):
    def interrupt(metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    whole = AdditionTraining(SMALL, data)
    directory = RunDirectory(tmp_path, AdditionSettings)
    whole.run_epoch()
    directory.save_checkpoint(whole.state_dict())
    with pytest.raises(KeyboardInterrupt):
        whole.run_epoch(interrupt)
    assert len(whole.history) == 1
    for training in (whole, again := AdditionTraining(SMALL, data)):
        training.load_state_dict(directory.load_checkpoint())
        training.run_epoch()
    assert same_state(whole, again)


def test_a_plain_run_is_adam_at_a_constant_rate_and_reads_the_last_weights(data, tmp_path):
    settings = AdditionSettings(
        digits=1, data="digits", epochs=2, batch=64, lr=2e-3, augment=False, plain=True, threads=1
    )
    training = AdditionTraining(settings, data)
    rates, step = set(), training.trainer.step

    def watched(*arguments):
        rates.update(group["lr"] for group in training.optimizer.param_groups)
        return step(*arguments)

    training.trainer.step = watched
    while not training.finished:
        training.run_epoch()
    assert rates == {2e-3}
    assert [group["weight_decay"] for group in training.optimizer.param_groups] == [0.0]
    for averaged, last in zip(training.averaged_net.parameters(), training.model.net.parameters(), strict=True):
        assert torch.equal(averaged, last)


def test_the_plain_option_leaves_out_what_recipes_add():
    options = {"plain": True, "augment": True, "views": None, "lr": None, "threads": 1}
    values = fill_in(options, recipe(4, True, "mnist"), ("lr", "views", "epochs", "batch"))
    assert (values["augment"], values["views"]) == (False, 0)
    assert "restarts" not in values


def test_views_are_read_after_the_last_epoch_and_change_nothing_else(data):
    plain, viewed = (AdditionTraining(replace(SMALL, views=views), data) for views in (0, 3))
    for training in (plain, viewed):
        training.run_epoch()
        training.run_epoch()
    first, last = figures(viewed)
    by_views = {name: last.pop(name) for name in list(last) if name.endswith("_views")}
    assert [first, last] == figures(plain)
    assert set(by_views) == {"sum_accuracy_views", "sum_accuracy_20_views", "digit_accuracy_views"}
    predicted = viewed.predict(data.test.pixels, views=3)
    assert by_views == {f"{name}_views": value for name, value in viewed.judge(predicted).items()}


def test_views_average_probabilities_over_warped_copies(data):
    training = AdditionTraining(SMALL, data)
    pixels = data.test.pixels[:50]
    generator = torch.Generator().manual_seed(VIEW_SEED)
    readings = [training._log_probabilities(pixels, warp, generator).exp() for warp in (None, VIEW, VIEW)]
    assert not torch.equal(*readings[1:])
    assert torch.equal(training.predict(pixels, views=2), torch.stack(readings).mean(0).argmax(-1))


def test_views_read_every_image_alone(data):
    training = AdditionTraining(replace(SMALL, net="deep"), data)
    training.run_epoch()
    pixels = data.test.pixels[:20]
    among_others = torch.cat([pixels[:1], data.test.pixels[20:39]])  # as many: the image gets the same warps
    one, other = training.read(pixels, views=2)[0], training.read(among_others, views=2)[0]
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_averaged_net_has_statistics_of_its_own(data):
    """Those of images as tests show them; the net that is trained keeps those of its steps."""
    training = AdditionTraining(replace(SMALL, net="deep"), data)
    training.run_epoch()
    norm, trained_norm = training.averaged_net.module[2], training.model.net[2]
    before = trained_norm.running_mean.clone()
    training.read(data.test.pixels[:1], views=1)
    images = training.averaged_model.prepare(data.train.pixels, None, torch.Generator())
    with torch.no_grad():
        outputs = training.averaged_net.module[:2](images)
    torch.testing.assert_close(norm.running_mean, outputs.mean((0, 2, 3)), rtol=0, atol=1e-2)
    assert torch.equal(trained_norm.running_mean, before)
    assert not torch.allclose(norm.running_mean, before, rtol=0, atol=1e-2)


def test_supervised_training_reads_most_digits_after_a_few_epochs(data):
    training = AdditionTraining(replace(SMALL, supervised=True, epochs=6), data)
    while not training.finished:
        training.run_epoch()
    assert training.history[-1]["digit_accuracy"] > 0.8
    with pytest.raises(ValueError, match="supervised=True has no E-step"):
        AdditionTraining(replace(SMALL, supervised=True, hard=True), data)


def test_seed_decides_pairing_and_weights(data):
    first, same, other = (AdditionTraining(replace(SMALL, seed=seed), data) for seed in (1, 1, 2))
    assert same_state(first, same)
    assert torch.equal(first.train.index, same.train.index)
    assert not torch.equal(first.train.index, other.train.index)
    assert not torch.equal(first.model.net[0].weight, other.model.net[0].weight)
    assert torch.equal(first.test.index, other.test.index)


def test_sums_stay_the_same_in_every_epoch(data):
    training = AdditionTraining(SMALL, data)
    sums, labels = training.train.index.clone(), training.train_labels.clone()
    orders = []
    for _ in range(2):
        training.run_epoch(lambda metrics: orders.append(training.progress.order))
    assert not torch.equal(orders[0], orders[-1])
    assert torch.equal(orders[0].sort().values, torch.arange(len(sums)))
    assert torch.equal(training.train.index, sums)
    assert torch.equal(training.train_labels, labels)
    assert torch.equal(training.problem.label(data.train.classes[sums]), labels)


def test_too_few_images_for_one_sum(data):
    with pytest.raises(DataError, match="needs 400 images, there are 357"):
        AdditionTraining(replace(SMALL, digits=200), data)


def test_checkpoint_needs_no_trust(data, tmp_path):
    directory = RunDirectory(tmp_path, AdditionSettings)
    training = AdditionTraining(SMALL, data)
    directory.save_checkpoint(training.state_dict())
    assert set(torch.load(directory.checkpoint, weights_only=True)) == set(training.state_dict())
    directory.checkpoint.write_bytes(pickle.dumps(Path("anything"), protocol=2))
    with pytest.raises(DataError, match="is not a checkpoint"):
        directory.load_checkpoint()
    directory.checkpoint.write_bytes(b"")
    with pytest.raises(DataError, match="is not a checkpoint"):
        directory.load_checkpoint()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "checkpoint.pt"
    replace_file(path, lambda partial: partial.write_text("old"))

    def fail(partial: Path) -> None:
        partial.write_text("ne")
        raise error

    with pytest.raises(error):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_run_directory_keeps_settings_and_rejects_foreign_files(tmp_path):
    directory = RunDirectory(tmp_path / "run", AdditionSettings)
    with pytest.raises(DataError, match="holds no run"):
        directory.read_settings()
    directory.create(SMALL)
    assert directory.read_settings() == SMALL
    with pytest.raises(DataError, match="holds a run already"):
        RunDirectory.unused(directory.path, AdditionSettings)
    for text in ("", "{}", '{"settings": {"digits": 1}}', '{"settings": {"colour": 1}}', "[]"):
        directory.config.write_text(text)
        with pytest.raises(DataError, match="is not the config of a run"):
            directory.read_settings()


def test_metrics_follow_the_checkpoint_and_are_plain_json(tmp_path):
    directory = RunDirectory(tmp_path, AdditionSettings)
    history = [{"epoch": 1, "log_evidence": float("-inf")}, {"epoch": 2, "log_evidence": -1.5}]
    for record in [*history, {"epoch": 3}]:
        directory.append_metrics(record)
    directory.rewrite_metrics(history)
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    assert lines == [{"epoch": 1, "log_evidence": None}, history[1]]


@pytest.mark.parametrize(("name", "weights"), [("lenet", 44_426), ("deep", 150_858)])
def test_nets_have_as_many_weights_as_they_say(name, weights):
    """That of LeNet is the number of the published nets."""
    net = BUILDERS[name]()
    assert sum(weight.numel() for weight in net.parameters()) == weights
    assert net(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_fused_pool_is_convolution_then_pool():
    images = torch.randn(3, 2, 13, 14, requires_grad=True)
    fused = ConvMaxPool(2, 5, kernel_size=5)
    plain = torch.nn.Conv2d(2, 5, kernel_size=5)
    plain.load_state_dict(fused.state_dict())
    results = []
    for output in (fused(images), F.max_pool2d(plain(images), 2)):
        net = fused if not results else plain
        results.append((output, *torch.autograd.grad(output.square().sum(), [images, *net.parameters()])))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_running_average_weighs_recent_steps():
    net = torch.nn.Linear(1, 1, bias=False)
    averaged = running_average(net)
    expected = 0.0
    for step in range(50):
        torch.nn.init.constant_(net.weight, step)
        averaged.update_parameters(net)
        expected += (step - expected) * (4 / (step + 4))
    assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_reader_warps_in_training_mode_only():
    pixels = sklearn_digits.load().train.pixels[:8].view(2, 2, 2, 28, 28)
    reader = ImageReader(lenet(), 0.1, 0.3, Warp(), torch.Generator().manual_seed(0))
    assert reader(pixels).shape == (2, 2, 2, 10)
    assert not torch.equal(reader(pixels), reader(pixels))
    reader.eval()
    assert torch.equal(reader(pixels), reader(pixels))
    plain = reader.net((pixels.view(-1, 1, 28, 28).float() / 255 - 0.1) / 0.3)
    torch.testing.assert_close(reader(pixels).view(-1, 10), plain)


def test_a_warp_of_no_strength_changes_nothing():
    image = torch.rand(5, 1, 28, 28)
    still = Warp().scaled(0)
    assert still == Warp(rotation=0, scale=0, shear=0, shift=0, elastic=0)
    torch.testing.assert_close(still(image, torch.Generator()), image, rtol=0, atol=1e-4)


def test_a_shift_moves_the_image_and_fills_with_zeros():
    image = torch.zeros(200, 1, 28, 28)
    image[:, :, 14, 14] = 1
    moved = Warp(rotation=0, scale=0, shear=0, shift=0.5, elastic=0)(image, torch.Generator().manual_seed(0))
    columns = (moved.sum(2).squeeze(1) * torch.arange(28)).sum(1) / moved.sum((1, 2, 3))
    assert columns.min() < 9
    assert columns.max() > 19
    assert columns.mean() == pytest.approx(14, abs=1)
    full = Warp(rotation=0, scale=0, shear=0, shift=0.5, elastic=0)(torch.ones(50, 1, 28, 28), torch.Generator())
    assert full.min() == 0


def test_each_image_has_its_own_elastic_warp_fixed_by_the_generator():
    image = sklearn_digits.load().train.pixels[:1].float().view(1, 1, 28, 28).expand(3, -1, -1, -1) / 255
    elastic = Warp(rotation=0, scale=0, shear=0, shift=0, elastic=0.1)
    first, second = (elastic(image, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=0.05)
    assert first.sum() == pytest.approx(float(image.sum()), rel=0.25)


@pytest.mark.parametrize("data_name", ["mnist", "digits"])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 4, 15, 40, 100, 500])
def test_every_number_of_digits_has_a_recipe(digits, augment, data_name):
    values = recipe(digits, augment, data_name)
    settings = AdditionSettings(digits=digits, data=data_name, augment=augment, **values)
    assert settings.epochs >= 1
    assert settings.batch >= 1
    assert 0 < settings.lr < 0.1


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_the_shortest_runs_have_a_schedule(data, epochs):
    """One step, two, and as many as make the rise of the schedule exactly one step."""
    settings = replace(SMALL, digits=40, batch=1000, epochs=epochs, warm_up=0.1, augment=False)
    training = AdditionTraining(settings, data)
    assert training.n_batches == 1
    while not training.finished:
        training.run_epoch()
    assert 0 < training.scheduler.get_last_lr()[0] <= settings.lr
