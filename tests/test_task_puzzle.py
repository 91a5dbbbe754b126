"""``python -m emnesy_gpu train puzzle``: the puzzles, their clues, small runs, resumption and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.mnist.images import Images
from emnesy_gpu.tasks.puzzle.boards import deal, solved
from emnesy_gpu.tasks.puzzle.kinds import KAKURO, KINDS, Groups, Puzzle, latin_squares, lines, make, packed
from emnesy_gpu.tasks.puzzle.problem import PuzzleProblem
from emnesy_gpu.tasks.puzzle.settings import PuzzleSettings, recipe
from emnesy_gpu.tasks.puzzle.training import PuzzleTraining
from tests.train_runs import assert_same_run, error_line, figures, interrupt_in_epoch_2, no_mnist_at_hand  # noqa: F401

COMMAND = ["train", "puzzle"]
QUICK = [*COMMAND, "--data", "digits", "--threads", "1"]
EVERY = [(kind, size) for kind, found in KINDS.items() for size in found.sizes]
DIGITS = choose.load("digits")


def small(kind: str, size: int | None = None, **others) -> PuzzleTraining:
    settings = PuzzleSettings(kind=kind, data="digits", **recipe(kind, size, "digits"))
    return PuzzleTraining(replace(settings, **others), DIGITS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boards(kind: str, size: int, n: int = 20) -> tuple[Puzzle, PuzzleProblem, torch.Tensor]:
    puzzle = make(kind, size)
    problem = PuzzleProblem(puzzle)
    return puzzle, problem, solved(puzzle, problem, n, generator())


def test_the_clue_of_a_line_tells_its_runs_and_no_places():
    for line in product(range(2), repeat=6):
        runs = [len(run) for run in "".join(map(str, line)).split("0") if run]
        clue = packed(line)
        assert [len(run) for run in "".join(map(str, clue)).split("0") if run] == runs
        assert packed(clue) == clue
        assert line <= clue


def test_runs_of_kakuro_end_at_black_squares():
    rows, columns = lines(KAKURO)[:4], lines(KAKURO)[4:]
    assert rows == [(0, 1), (2, 3, 4), (5, 6, 7), (8, 9)]
    assert columns == [(0, 2), (1, 3, 5), (4, 6, 8), (7, 9)]


@pytest.mark.parametrize("size", [4, 5])
def test_squares_are_latin(size):
    squares = latin_squares(50, size, generator()).view(50, size, size)
    for axis in (1, 2):
        assert (squares.sort(axis).values == torch.arange(size).view(-1, *[1] * (2 - axis))).all()
    assert len(squares.unique(dim=0)) > 30


def label_by_hand(puzzle: Puzzle, z: tuple[int, ...]) -> list[int]:
    """The label, clue by clue."""
    found = [(g.clue(tuple(z[cell] for cell in cells)), g) for g in puzzle.groups for cells in g.cells]
    lengths = {id(g): max(len(clue) for clue, other in found if other is g and clue is not None) for _, g in found}
    symbols = [value for clue, g in found for value in (clue if clue is not None else (0,) * lengths[id(g)])]
    return [int(all(clue is not None for clue, _ in found)), *symbols]


@pytest.mark.parametrize(("kind", "size"), EVERY)
def test_generated_boards_are_valid_and_have_the_clues_of_their_cells(kind, size):
    puzzle, problem, z = boards(kind, size)
    labels = problem.label(z)
    assert bool((labels[:, 0] == 1).all())
    assert labels.shape == (20, *problem.label_shape)
    for cells, label in zip(z.tolist(), labels.tolist(), strict=True):
        assert label_by_hand(puzzle, tuple(cells)) == label


@pytest.mark.parametrize(("kind", "size"), [("kakuro", 4), ("futoshiki", 4)])
def test_boards_that_break_a_rule_are_not_valid(kind, size):
    puzzle, problem, z = boards(kind, size)
    cells = puzzle.groups[0].cells[0]
    z[:, cells[0]] = z[:, cells[1]]
    assert not problem.label(z)[:, 0].any()


def test_the_posterior_of_a_tree_of_groups_is_that_of_enumeration():
    """A board whose two groups share one cell: belief propagation is exact."""
    whole = make("kakuro", 4)
    puzzle = Puzzle(("..", ".#"), whole.digits, (Groups([(0, 1), (0, 2)], whole.groups[0].clue),), whole.solutions)
    problem = PuzzleProblem(puzzle)
    logits = torch.randn(3, 3, 9, generator=generator())
    label = problem.label(torch.tensor([[0, 1, 2], [8, 2, 4], [6, 0, 1]]))
    post = em.posterior(problem, logits, label, em.BeliefPropagation(2))
    z = torch.cartesian_prod(*[torch.arange(9)] * 3)
    log_joint = logits.log_softmax(-1)[:, torch.arange(3), z].sum(-1)
    fits = (problem.label(z) == label[:, None]).all(-1)
    weights = log_joint.masked_fill(~fits, -torch.inf)
    expected = torch.einsum("bn,niv->biv", weights.softmax(-1), torch.nn.functional.one_hot(z, 9).float())
    torch.testing.assert_close(post.marginals, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(post.log_evidence, weights.logsumexp(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "size"), EVERY)
def test_no_swap_of_two_digits_keeps_all_clues(kind, size):
    _, problem, z = boards(kind, size, 100)
    values = torch.arange(problem.cardinality)
    for one, other in torch.combinations(values).tolist():
        swapped = values.clone()
        swapped[[one, other]] = values[[other, one]]
        assert not torch.equal(problem.label(z), problem.label(swapped[z]))


def test_every_image_is_used_once_at_most_and_shows_the_value_of_its_cell():
    puzzle, _, z = boards("kakuro", 4, 500)
    images = DIGITS.of_classes(puzzle.digits).train
    rows = deal(images, torch.randperm(len(images), generator=generator()), z)
    assert torch.equal(rows.classes, z[: len(rows)])
    assert rows.index.flatten().bincount().max() == 1
    assert 100 < len(rows) < 500


def test_too_few_images_for_a_board_are_an_error():
    images = Images(torch.zeros(3, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 1]))
    with pytest.raises(DataError, match="3 images are too few"):
        deal(images, torch.arange(3), torch.tensor([[0, 0], [0, 1]]))


def test_labels_of_boards_that_are_not_valid_are_refused():
    _, problem, z = boards("futoshiki", 4, 2)
    label = problem.label(z)
    label[1, 0] = 0
    with pytest.raises(ValueError, match=r"label\[1\] must be that of a valid board"):
        em.posterior(problem, torch.zeros(2, 16, 4), label)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_run_learns_from_clues_alone(kind):
    training = small(kind, epochs=6)
    while not training.finished:
        training.run_epoch()
    last = training.history[-1]
    assert last["log_evidence"] > training.history[0]["log_evidence"]
    assert last["digit_accuracy"] > 0.8
    assert last["solved_accuracy"] > 0.8


def test_training_sees_clues_and_no_classes():
    training = small("kakuro", epochs=1)
    inputs, label = training.rows(torch.arange(4))
    assert inputs.shape == (4, 10, 28, 28)
    assert label.shape == (4, *training.problem.label_shape)
    assert training.trainer.engine is not training.known


@pytest.mark.parametrize("options", [{"engine": "map"}, {"hard": True}, {"supervised": True}])
def test_other_ways_to_train_take_an_epoch(options):
    assert small("futoshiki", epochs=1, **options).run_epoch()["epoch"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_says_that_puzzles_are_generated_and_writes_its_files(kind, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--kind", kind, "--epochs", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    size = KINDS[kind].sizes[0]
    assert f"{kind} {size}x{size}, generated: " in text
    names = {".lock", "config.json", "metrics.jsonl", "checkpoint.pt", "curve.png", "summary.json", "boards.png"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["kind"], summary["size"], summary["boards"]) == (kind, size, "generated")
    assert summary["digit_accuracy"] == figures(out)[-1]["digit_accuracy"]


def test_an_interrupted_run_continues_to_the_bit(tmp_path, capsys, monkeypatch):
    command = [*QUICK, "--kind", "futoshiki", "--epochs", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command, "--out", str(whole)]) == 0
    interrupt_in_epoch_2([*command, "--out", str(cut)], monkeypatch)
    assert f"train puzzle --resume {cut}" in capsys.readouterr().out
    assert main([*COMMAND, "--resume", str(cut)]) == 0
    assert_same_run(whole, cut)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*COMMAND, "--kind", "magic"], "--kind"),
        ([*QUICK, "--kind", "nonogram", "--size", "7"], "nonogram has size 5 or 10, got 7"),
        ([*QUICK, "--holdout", "20"], "images are too few for a board of 25 cells"),
        ([*COMMAND, "--engine", "exact"], "--engine"),
        ([*QUICK, "--supervised", "--hard"], "supervised=True has no E-step"),
        ([*QUICK, "--hard", "--engine", "bp"], "hard=True"),
        ([*COMMAND, "--resume", "/nowhere"], "holds no run"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert message in error_line(arguments, capsys)


def test_the_help_says_that_puzzles_are_generated(capsys):
    assert main([*COMMAND, "--help"]) == 0
    assert "The puzzles are generated" in " ".join(capsys.readouterr().out.split())
