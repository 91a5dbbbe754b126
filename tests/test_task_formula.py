"""``python -m emnesy_gpu train formula``: drawn operators, formulas, small runs, resumption and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.formula.formulas import BLANK, N_DIGITS, automaton, lengths, write
from emnesy_gpu.tasks.formula.glyphs import GLYPHS_AT_A_TIME, OPERATORS, PEN, draw
from emnesy_gpu.tasks.formula.settings import SYMBOLS, FormulaSettings, recipe
from emnesy_gpu.tasks.formula.training import FormulaTraining, ReadsBlank
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.mnist.rows import Rows
from tests.train_runs import assert_same_run, error_line, figures, interrupt_in_epoch_2, no_mnist_at_hand  # noqa: F401

COMMAND = ["train", "formula"]
QUICK = [*COMMAND, "--data", "digits", "--threads", "1"]
DIGITS = choose.load("digits")
CHARACTERS = [*map(str, range(N_DIGITS)), *OPERATORS, ""]


def small(symbols: int = 3, **others) -> FormulaTraining:
    made = FormulaSettings(symbols=symbols, data="digits", **recipe(symbols, "digits"))
    return FormulaTraining(replace(made, **others), DIGITS)


def learned(training: FormulaTraining) -> dict[str, float]:
    while not training.finished:
        training.run_epoch()
    return training.history[-1]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(classes=st.lists(st.integers(0, len(OPERATORS) - 1), max_size=40), seed=st.integers(0, 2**63 - 1))
def test_operators_are_images_like_those_of_mnist_and_follow_from_the_seed(classes, seed):
    wanted = torch.tensor(classes, dtype=torch.int64)
    glyphs = draw(wanted, generator(seed))
    assert glyphs.dtype == torch.uint8
    assert glyphs.shape == (len(classes), 28, 28)
    assert torch.equal(glyphs, draw(wanted, generator(seed)))
    ink = glyphs.double() / 255
    # The centre of the nearest pixel is at most half a diagonal away from a stroke.
    assert bool((ink.amax((1, 2)) >= min(1, PEN[0] + 0.5 - 0.5**0.5) - 1 / 255).all())
    assert bool((ink.mean((1, 2)) > 0.01).all())
    assert bool((ink.mean((1, 2)) < 0.35).all())
    assert not glyphs[:, [0, -1]].any()


def test_a_drawing_does_not_depend_on_how_it_is_split():
    classes = torch.arange(GLYPHS_AT_A_TIME + 5) % len(OPERATORS)
    glyphs = draw(classes, generator(1))
    assert len(glyphs.flatten(1).unique(dim=0)) == len(classes)
    assert torch.equal(glyphs[:3], draw(classes, generator(1))[:3])


def test_operators_of_training_and_test_are_different_images():
    training, other = small(), small(seed=1)
    drawn = [rows.images[rows.images.classes >= N_DIGITS].pixels for rows in (training.train, training.test)]
    together = torch.cat(drawn).flatten(1)
    assert len(together.unique(dim=0)) == len(together)
    assert torch.equal(training.test.images.pixels, other.test.images.pixels)
    assert not torch.equal(training.train.images.pixels, other.train.images.pixels)


def text_of(rows: Rows) -> list[str]:
    return ["".join(CHARACTERS[v] for v in row) for row in rows.classes.tolist()]


@pytest.mark.parametrize(("n_symbols", "mixed"), [(3, False), (5, False), (5, True)])
def test_rows_are_formulas_that_use_every_digit_once_and_have_the_right_value(n_symbols, mixed):
    images = DIGITS.train
    rows = write(images, torch.randperm(len(images), generator=generator(2)), lengths(n_symbols, mixed), generator(3))
    problem, formulas = automaton(n_symbols, mixed), text_of(rows)
    assert {len(formula) for formula in formulas} == set(lengths(n_symbols, mixed))
    values = [eval("".join(f"Fraction({c})" if c.isdigit() else c for c in formula)) for formula in formulas]
    assert [problem.labels[code] for code in problem.label(rows.classes)] == values
    assert all(isinstance(value, Fraction) for value in values)
    used = rows.index.flatten().bincount(minlength=len(rows.images))
    used = used[rows.images.classes != BLANK]
    assert used.max() == 1
    assert (used == 0).sum() < sum(length // 2 + 1 for length in lengths(n_symbols, mixed))
    operators = rows.images.classes[(rows.images.classes >= N_DIGITS) & (rows.images.classes < BLANK)] - N_DIGITS
    assert operators.bincount(minlength=len(OPERATORS)).min() > 0.15 * len(operators)


@pytest.mark.parametrize("symbols", [3])
def test_no_swap_of_two_classes_keeps_all_values(symbols):
    problem = automaton(symbols, mixed=False)
    values = torch.arange(problem.cardinality)
    z = torch.cartesian_prod(values[:N_DIGITS], values[N_DIGITS:], values[:N_DIGITS])
    for one, other in torch.combinations(values).tolist():
        swapped = values.clone()
        swapped[[one, other]] = values[[other, one]]
        assert not torch.equal(problem.label(z), problem.label(swapped[z]))


def test_a_black_image_alone_is_read_as_blank():
    net = ReadsBlank(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, BLANK)))
    images = torch.full((3, 1, 28, 28), -0.4)
    images[1, 0, 5, 5] = 0.1
    logits = net(images)
    assert logits.argmax(-1)[[0, 2]].tolist() == [BLANK, BLANK]
    assert logits[1].isfinite().tolist() == [True] * BLANK + [False]
    assert logits.softmax(-1).isfinite().all()


@pytest.mark.parametrize(("symbols", "mixed"), [(3, False), (5, True)])
def test_a_small_run_learns_from_values_alone(symbols, mixed):
    training = small(symbols, mixed=mixed, epochs=8)
    last, first = learned(training), training.history[0]
    assert last["log_evidence"] > first["log_evidence"]
    assert last["symbol_accuracy"] > first["symbol_accuracy"]
    assert last["value_accuracy"] > 0.5


def test_supervised_training_reads_most_symbols_after_a_few_epochs():
    last = learned(small(supervised=True, epochs=6))
    assert last["digit_accuracy"] > 0.8
    assert last["operator_accuracy"] > 0.9


def test_training_sees_labels_and_no_classes():
    training = small(epochs=1)
    inputs, label = training.rows(torch.arange(4))
    assert inputs.shape == (4, 3, 28, 28)
    assert label.shape == (4,)
    assert training.trainer.engine is not training.known


@pytest.mark.parametrize("options", [{"engine": "abc"}, {"engine": "gibbs"}, {"engine": "map"}, {"hard": True}])
def test_other_engines_take_an_epoch(options):
    assert small(epochs=1, **options).run_epoch()["epoch"] == 1


def test_a_run_says_that_operators_are_generated_and_writes_its_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--symbols", "3", "--epochs", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "data: scikit-learn's bundled digits; operators: generated" in text
    assert "formulas of 3 symbols: 720 formulas to train on, 178 to test on; soft EM, 2 epochs" in text
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "curve.png",
        "summary.json",
    }
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["symbols"], summary["operators"], summary["test_formulas"]) == (3, "generated", 178)
    assert summary["symbol_accuracy"] == figures(out)[-1]["symbol_accuracy"]


@pytest.mark.parametrize("flags", [["--mixed"], ["--supervised"], ["--hard"]])
def test_an_interrupted_run_continues_to_the_bit(flags, tmp_path, capsys, monkeypatch):
    command = [*QUICK, "--symbols", "3", "--epochs", "2", *flags]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command, "--out", str(whole)]) == 0
    interrupt_in_epoch_2([*command, "--out", str(cut)], monkeypatch)
    assert f"train formula --resume {cut}" in capsys.readouterr().out
    assert main([*COMMAND, "--resume", str(cut)]) == 0
    assert_same_run(whole, cut)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*COMMAND, "--symbols", "4"], "--symbols"),
        ([*COMMAND, "--symbols", "9"], "--symbols"),
        ([*COMMAND, "--engine", "bp-std"], "--engine"),
        ([*QUICK, "--holdout", "1"], "needs 3 images, there are 1"),
        ([*QUICK, "--supervised", "--hard"], "supervised=True has no E-step"),
        ([*COMMAND, "--resume", "/nowhere"], "holds no run"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert message in error_line(arguments, capsys)


def test_the_help_names_what_is_generated(capsys):
    assert main([*COMMAND, "--help"]) == 0
    assert "Operators are generated" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("symbols", SYMBOLS)
@pytest.mark.parametrize("data", ["mnist", "digits"])
def test_every_length_has_a_recipe(symbols, data):
    values = recipe(symbols, data)
    assert values["epochs"] >= 1
    assert values["batch"] >= 1
