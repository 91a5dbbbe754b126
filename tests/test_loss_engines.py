"""Training by the losses of other systems: it runs, has their gradient, and resumes to the bit."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.addition.settings import AdditionSettings
from emnesy_gpu.tasks.addition.training import AdditionTraining
from emnesy_gpu.tasks.core.loss_engines import LOSSES, OF_BOARDS, OF_SUMS, LossEngine
from emnesy_gpu.tasks.files.run_directory import RunDirectory
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.mnist.images import DataSet
from emnesy_gpu.tasks.sudoku.boards import Split, regenerate
from emnesy_gpu.tasks.sudoku.settings import SudokuSettings
from emnesy_gpu.tasks.sudoku.training import SudokuTraining
from emnesy_gpu.tasks.warcraft import synthetic
from emnesy_gpu.tasks.warcraft.maps import MapData
from emnesy_gpu.tasks.warcraft.path_losses import COST_LOSSES, PATH_LOSSES, PathLayer, costs_of, path_loss_engine
from emnesy_gpu.tasks.warcraft.settings import WarcraftSettings
from emnesy_gpu.tasks.warcraft.training import WarcraftTraining

SUMS = AdditionSettings(digits=1, data="digits", epochs=2, batch=200, lr=4e-3, seed=1)
BOARDS = SudokuSettings(size=4, split=1, data="digits", boards="regenerated", epochs=2, batch=7, lr=4e-3, seed=1)

MAPS = WarcraftSettings(size=12, data="synthetic", origin="synthetic", maps=40, epochs=2, batch=20, lr=4e-3)


WITHOUT_A_GRADIENT = "a-nesi", "rloo", "indecater"
"""In the first epoch on boards, where the predictor learns alone, and random boards are all invalid."""


@pytest.fixture(scope="module")
def maps() -> MapData:
    return synthetic.generate(12, 40, 0)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return sklearn_digits.load()


@pytest.fixture(scope="module")
def split(data: DataSet) -> Split:
    return regenerate(data, 4, 1)


def test_the_m_step_has_the_gradient_of_the_loss() -> None:
    problem, logits = em.Sudoku(4), torch.randn(3, 4, 4, 4).double().requires_grad_()
    label = torch.tensor([1, 0, 1])
    post = em.posterior(problem, logits, label, LossEngine(LOSSES["pairwise-loss"](problem)))
    (found,) = torch.autograd.grad(em.em_loss(logits, post), logits)
    loss = em.baselines.pairwise_loss(problem, logits, label)
    torch.testing.assert_close(found, torch.autograd.grad(loss, logits)[0])
    torch.testing.assert_close(-post.log_evidence.mean(), loss.detach())


def test_the_net_keeps_still_while_a_predictor_learns_alone() -> None:
    problem, logits = em.Sudoku(4), torch.randn(3, 4, 4, 4, requires_grad=True)
    engine = LossEngine(em.baselines.ANeSI(problem, samples=10, first_calls=1))
    for learns in (False, True):
        post = em.posterior(problem, logits, torch.tensor([1, 0, 1]), engine)
        assert post.possible.tolist() == [learns] * 3
        (gradient,) = torch.autograd.grad(em.em_loss(logits, post), logits)
        assert gradient.any() == learns


@pytest.mark.parametrize("engine", OF_SUMS)
def test_sums_train_by_every_loss(data: DataSet, engine: str) -> None:
    record = AdditionTraining(replace(SUMS, engine=engine, epochs=1), data).run_epoch()
    assert record["possible"] == 1
    assert math.isfinite(record["loss"])
    assert ("sum_accuracy_own" in record) == (engine == "a-nesi")


@pytest.mark.parametrize("engine", OF_BOARDS)
def test_boards_train_by_every_loss(split: Split, engine: str) -> None:
    record = SudokuTraining(replace(BOARDS, engine=engine, epochs=1), split).run_epoch()
    assert record["possible"] == (0 if engine in WITHOUT_A_GRADIENT else 1)
    assert math.isfinite(record["loss"])
    assert ("board_accuracy_own" in record) == (engine == "a-nesi")


@pytest.mark.parametrize("engine", ["exal", "exal-by-posterior", "a-nesi", "rloo", "nesydm"])
def test_a_loss_that_learns_or_draws_resumes_to_the_bit(data: DataSet, tmp_path: Path, engine: str) -> None:
    settings = replace(SUMS, engine=engine, augment=False)
    whole = AdditionTraining(settings, data)
    directory = RunDirectory(tmp_path, AdditionSettings)
    whole.run_epoch()
    directory.save_checkpoint(whole.state_dict())
    whole.run_epoch()

    torch.manual_seed(99)
    continued = AdditionTraining(settings, data)
    continued.load_state_dict(directory.load_checkpoint())
    continued.run_epoch()
    first, second = whole.state_dict(), continued.state_dict()
    for name in ("net", "engine", "torch_rng"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


@pytest.mark.parametrize("engine", PATH_LOSSES)
def test_maps_train_by_every_loss(maps: MapData, engine: str) -> None:
    training = WarcraftTraining(replace(MAPS, engine=engine), maps)
    before = [weight.clone() for weight in training.model.net.parameters()]
    record = training.run_epoch()
    assert 0 < -record["log_evidence"] < 144  # cells that differ, or nats
    assert any(not torch.equal(*pair) for pair in zip(before, training.model.net.parameters(), strict=True))


def test_the_layer_of_paths_takes_small_whole_maps_alone(maps: MapData) -> None:
    with pytest.raises(ValueError, match="at most 12x12, got size=12 and window=8"):
        WarcraftTraining(replace(MAPS, engine="spl", window=8), maps)


def test_the_layer_of_paths_is_normalised_over_all_chordless_paths() -> None:
    problem, paths = em.ShortestPath(3), em.SimplePaths(3, 3, over="cells", neighbours=8)
    masks = torch.tensor(list(itertools.product((0, 1), repeat=9))).view(-1, 3, 3)
    masks = masks[paths.label(masks) == 1].to(torch.uint8)
    costs = torch.rand(1, 3, 3).double().expand(len(masks), -1, -1).clone().requires_grad_()
    loss = PathLayer(problem)(problem, costs, masks, "none")
    expected = -(-(costs * masks).flatten(1).sum(1)).log_softmax(0)
    torch.testing.assert_close(loss, expected)
    assert loss.neg().exp().sum().item() == pytest.approx(1)
    assert (problem.cheapest_path(costs[0].detach()) == masks[loss.argmin()]).all()
    (found,) = torch.autograd.grad(loss[0], costs, retain_graph=True)
    of_masks = (costs[0] * masks).flatten(1).sum(1)
    reference = of_masks[0] + (-of_masks).logsumexp(0)
    torch.testing.assert_close(found, torch.autograd.grad(reference, costs)[0])


@pytest.mark.parametrize("engine", COST_LOSSES)
def test_costs_do_not_change_with_all_logits_of_a_cell(engine: str) -> None:
    """An M-step takes the gradients of such losses alone."""
    logits = torch.randn(2, 3, 3, 5)
    torch.testing.assert_close(costs_of(engine, logits + torch.randn(2, 3, 3, 1)), costs_of(engine, logits))


def test_true_costs_are_the_target_of_one_loss_alone(maps: MapData) -> None:
    problem, classes = em.ShortestPath(12), maps.train.classes[:4].long()
    label, logits = maps.train.paths[:4], torch.randn(4, 12, 12, 5).requires_grad_()
    gradients = {}
    for name in ("imle", "imle-true-costs"):
        torch.manual_seed(5)
        post = em.posterior(problem, logits, label, path_loss_engine(name, problem, lambda: classes))
        (gradients[name],) = torch.autograd.grad(em.em_loss(logits, post), logits)
    torch.manual_seed(5)
    true = torch.tensor(problem.costs)[classes]
    true = true / true.mean((1, 2), keepdim=True)
    of_costs = partial(em.imle_loss, noise="sum_of_gamma", interpolation=10 / 70, true_costs=true)
    loss = of_costs(problem, costs_of("imle", logits), label)
    torch.testing.assert_close(gradients["imle-true-costs"], torch.autograd.grad(loss, logits)[0])
    assert not torch.allclose(gradients["imle"], gradients["imle-true-costs"])
