"""The scripts in examples/ run, stay short, and print what they promise."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
LONGEST = 50


def output(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_own_rule_is_exact_and_sampled(capsys) -> None:
    printed = output("own_rule.py", capsys)
    assert "cell 1: 1 0.99" in printed
    assert printed.count(": 2 0.50, 4 0.50") == 2  # 7 = 1 + 2 + 4, and the first cell is a 1
    assert float(re.search(r"differ by at most (\S+)", printed)[1]) < 0.1


def test_train_addition_learns_digits_from_sums(capsys) -> None:
    printed = output("train_addition.py", capsys)
    evidence = [float(value) for value in re.findall(r"log evidence of a sum +(\S+)", printed)]
    assert evidence[-1] > evidence[0]
    assert float(re.search(r"right: (\S+) %", printed)[1]) > 90


def test_sudoku_beliefs_fill_the_unread_box(capsys) -> None:
    printed = output("sudoku_beliefs.py", capsys)
    read, filled = (board.splitlines() for board in printed.split("\n\n")[:2])
    assert [line[:5] for line in read[:3]] == [". . ."] * 3
    assert all(sorted(line.split()) == list("123456789") for line in filled)
    assert "all symbols are right" in printed


def test_path_layer_predicts_paths_alone(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["path_layer.py", "5", "200", "4"])
    figures = re.findall(r": (\S+)% paths, (\S+)% right", output("path_layer.py", capsys))
    paths, right = zip(*[map(float, line) for line in figures], strict=True)
    assert paths[0] < paths[1] == paths[2] == 100.0
    assert right[2] > right[0]


def test_the_decoder_corrects_nearly_all_words_of_a_good_channel(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ldpc_decoder.py", "200"])
    printed = output("ldpc_decoder.py", capsys)
    wrong = [float(value) for value in re.findall(r"wrong words (\S+),", printed)]
    assert wrong == sorted(wrong, reverse=True)
    # About 0.3 and 0.005 in longer runs, for this code and decoder.
    assert 0.15 < wrong[1] < 0.45
    assert wrong[-1] < 0.04


def test_the_ising_model_removes_most_of_the_noise(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["denoise_image.py"])
    noisy, cleaned = map(float, re.findall(r"(\S+)% of the pixels", output("denoise_image.py", capsys)))
    assert noisy > 18
    assert cleaned < 3


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
