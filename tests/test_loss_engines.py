"""Training by the losses of other systems: it runs, has their gradient, and resumes to the bit."""

from __future__ import annotations

import math
from dataclasses import replace
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

SUMS = AdditionSettings(digits=1, data="digits", epochs=2, batch=200, lr=4e-3, seed=1)
BOARDS = SudokuSettings(size=4, split=1, data="digits", boards="regenerated", epochs=2, batch=7, lr=4e-3, seed=1)


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


@pytest.mark.parametrize("engine", OF_SUMS)
def test_sums_train_by_every_loss(data: DataSet, engine: str) -> None:
    record = AdditionTraining(replace(SUMS, engine=engine), data).run_epoch()
    assert record["possible"] == 1
    assert math.isfinite(record["loss"])


@pytest.mark.parametrize("engine", OF_BOARDS)
def test_boards_train_by_every_loss(split: Split, engine: str) -> None:
    record = SudokuTraining(replace(BOARDS, engine=engine), split).run_epoch()
    assert record["possible"] == 1
    assert math.isfinite(record["loss"])


@pytest.mark.parametrize("engine", ["exal", "a-nesi", "rloo"])
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
