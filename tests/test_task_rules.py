"""``python -m emnesy_gpu train rules``: the rules, small runs, resumption and errors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.mnist import choose
from emnesy_gpu.tasks.rules.automata import KNOWN_RULES, automaton
from emnesy_gpu.tasks.rules.settings import RulesSettings, recipe
from emnesy_gpu.tasks.rules.training import RulesTraining
from tests.train_runs import assert_same_run, error_line, figures, interrupt_in_epoch_2, no_mnist_at_hand  # noqa: F401

COMMAND = ["train", "rules"]
QUICK = [*COMMAND, "--data", "digits", "--threads", "1"]


def small(rule: str, **others) -> RulesTraining:
    settings = RulesSettings(rule=rule, data="digits", **recipe(rule, None, "digits"))
    return RulesTraining(replace(settings, **others), choose.load("digits"))


def test_the_label_of_sort_is_the_digits_in_ascending_order():
    rule = automaton("sort", 3)
    z = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert [rule.labels[code] for code in rule.label(z)] == list(map(tuple, z.sort().values.tolist()))


def test_the_label_of_multiply_add_is_the_number():
    z = torch.cartesian_prod(*[torch.arange(10)] * 3)
    assert torch.equal(automaton("multiply-add", 3).label(z), z[:, 0] * z[:, 1] + z[:, 2])


@pytest.mark.parametrize("rule", KNOWN_RULES)
def test_no_swap_of_two_classes_keeps_all_labels(rule):
    problem = automaton(rule, KNOWN_RULES[rule].symbols)
    values = torch.arange(problem.cardinality)
    z = torch.cartesian_prod(*[values] * KNOWN_RULES[rule].symbols)
    for one, other in torch.combinations(values).tolist():
        swapped = values.clone()
        swapped[[one, other]] = values[[other, one]]
        assert not torch.equal(problem.label(z), problem.label(swapped[z]))


def test_parity_of_an_even_number_is_the_same_when_zero_and_one_are_swapped():
    problem = automaton("parity", 4)
    z = torch.cartesian_prod(*[torch.arange(2)] * 4)
    assert torch.equal(problem.label(z), problem.label(1 - z))


@pytest.mark.parametrize(("rule", "epochs"), [("parity", 8), ("maximum", 8), ("sort", 8), ("multiply-add", 8)])
def test_a_small_run_learns_from_labels_alone(rule, epochs):
    training = small(rule, epochs=epochs)
    while not training.finished:
        training.run_epoch()
    first, last = training.history[0], training.history[-1]
    assert last["log_evidence"] > first["log_evidence"]
    assert last["label_accuracy"] > first["label_accuracy"]


def test_parity_reads_images_of_zero_and_one_alone():
    training = small("parity")
    assert training.train_classes.unique().tolist() == training.test.classes.unique().tolist() == [0, 1]


def test_supervised_training_reads_most_digits_after_a_few_epochs():
    training = small("multiply-add", supervised=True, epochs=8)
    while not training.finished:
        training.run_epoch()
    assert training.history[-1]["digit_accuracy"] > 0.8


@pytest.mark.parametrize("engine", ["abc", "gibbs", "rejection", "map"])
def test_other_engines_take_a_step(engine):
    training = small("maximum", engine=engine, epochs=1)
    assert training.run_epoch()["epoch"] == 1


def test_a_run_reports_plain_lines_and_writes_its_files(tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*QUICK, "--rule", "sort", "--symbols", "3", "--epochs", "2", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "sort of 3 digits: 480 rows to train on, 119 to test on; soft EM, 2 epochs" in text
    assert f"written to {out}" in text
    names = {".lock", "config.json", "metrics.jsonl", "checkpoint.pt", "curve.png", "summary.json"}
    assert {path.name for path in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rule"], summary["symbols"], summary["test_rows"]) == ("sort", 3, 119)
    assert summary["digit_accuracy"] == figures(out)[-1]["digit_accuracy"]


@pytest.mark.parametrize("flags", [[], ["--supervised"]])
def test_an_interrupted_run_continues_to_the_bit(flags, tmp_path, capsys, monkeypatch):
    command = [*QUICK, "--rule", "maximum", "--epochs", "2", *flags]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command, "--out", str(whole)]) == 0
    interrupt_in_epoch_2([*command, "--out", str(cut)], monkeypatch)
    assert f"train rules --resume {cut}" in capsys.readouterr().out
    assert main([*COMMAND, "--resume", str(cut)]) == 0
    assert_same_run(whole, cut)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*COMMAND, "--rule", "magic"], "--rule"),
        ([*COMMAND, "--symbols", "0"], "--symbols"),
        ([*COMMAND, "--engine", "bp-std"], "--engine"),
        ([*QUICK, "--rule", "multiply-add", "--symbols", "4"], "rule multiply-add needs 3 symbols, got 4"),
        (
            [*QUICK, "--rule", "parity", "--symbols", "1000"],
            "needs 1000 images",
        ),
        ([*QUICK, "--supervised", "--hard"], "supervised=True has no E-step"),
        ([*QUICK, "--supervised", "--engine", "exact"], "supervised=True has no E-step"),
        ([*QUICK, "--hard", "--engine", "exact"], "hard=True"),
        ([*COMMAND, "--resume", "/nowhere"], "holds no run"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert message in error_line(arguments, capsys)


def test_every_rule_is_exact():
    for rule, found in KNOWN_RULES.items():
        assert em.Exact().supports(automaton(rule, found.symbols))
