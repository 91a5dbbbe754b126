"""Formulas and road scenes are read as published; files here are synthetic, in their formats. Wrong ones are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.data_sets import hwf, road
from emnesy_gpu.tasks.files.errors import DataError
from tests.robustness.test_data_files import OTHER_FILES
from tests.test_saved_runs import HUGE_PICTURE, picture

pytest.importorskip("PIL")
SIDE = 9


@pytest.fixture
def formulas(tmp_path: Path) -> Path:
    """Synthetic: every character is one image of one shade."""
    image = pytest.importorskip("PIL.Image")
    for shade, folder in enumerate(hwf.FOLDERS.values(), 1):
        (tmp_path / hwf.IMAGES / folder).mkdir(parents=True)
        image.new("L", (SIDE, SIDE), 10 * shade).save(tmp_path / hwf.IMAGES / folder / "a.png")
    records = [record("3"), record("1/2+3"), record("8-2*3")]
    (tmp_path / "expr_train.json").write_text(json.dumps(records))
    return tmp_path


def record(expression: str) -> dict[str, Any]:
    paths = [f"{hwf.FOLDERS[character]}/a.png" for character in expression]
    return {"id": "0", "expr": expression, "img_paths": paths, "res": float(hwf.value_of(expression))}


def test_formulas_have_the_values_that_the_rule_gives_them(formulas: Path) -> None:
    data = hwf.read(formulas)
    assert data.values == [3, Fraction(7, 2), 2]
    assert data.lengths.tolist() == [1, 5, 5]
    assert data.classes[data.rows].tolist() == [[3, 14, 14, 14, 14], [1, 13, 2, 10, 3], [8, 11, 2, 12, 3]]
    assert data.pixels[data.rows][..., 0, 0].tolist() == [
        [40, 0, 0, 0, 0],
        [20, 140, 30, 110, 40],
        [90, 120, 30, 130, 40],
    ]
    rule = em.rules.formula(5, range(10), "+-*/", one_alphabet=True, variable_length=True)
    assert rule.label(data.classes[data.rows]).equal(rule.encode(data.values))


WRONG_FORMULAS: dict[str, tuple[Any, str]] = {
    "no object": ("1+1", "formula 1 must be"),
    "no expression": ({}, "expr must be digits"),
    "other characters": (record("3") | {"expr": "x"}, "expr must be digits"),
    "a long number": (record("3") | {"expr": "12"}, "expr must be digits"),
    "an endless one": (record("3") | {"expr": "1+" * 10**6 + "1"}, "expr must be digits"),
    "too few images": (record("1+2") | {"img_paths": ["1/a.png"]}, "one path for each"),
    "another image": (record("3") | {"img_paths": ["4/a.png"]}, "must have an image 3/FILE"),
    "a path out": (record("3") | {"img_paths": ["3/../../a.png"]}, "must have an image 3/FILE"),
    "the folder above": (record("3") | {"img_paths": ["3/.."]}, "must have an image 3/FILE"),
    "an absolute path": (record("3") | {"img_paths": ["/3/a.png"]}, "must have an image 3/FILE"),
    "no path": (record("3") | {"img_paths": [7]}, "must have an image 3/FILE"),
    "a missing image": (record("3") | {"img_paths": ["3/b.png"]}, "is missing"),
    "division by 0": (record("3") | {"expr": "3/0", "img_paths": ["3/a.png", "div/a.png", "0/a.png"]}, "divides by 0"),
    "another value": (record("1/2") | {"res": 0.6}, "res must be the value of 1/2, 0.5"),
    "NaN": (record("1/2") | {"res": float("nan")}, "res must be"),
    "infinity": (record("1/2") | {"res": float("inf")}, "res must be"),
    "a huge number": (record("1/2") | {"res": 10**400}, "res must be"),
    "words": (record("1/2") | {"res": "0.5"}, "res must be"),
}


@pytest.mark.parametrize("kind", WRONG_FORMULAS)
def test_wrong_formulas_are_named(kind: str, formulas: Path) -> None:
    wrong, message = WRONG_FORMULAS[kind]
    path = formulas / "expr_train.json"
    path.write_text(json.dumps([record("3"), wrong]))
    with pytest.raises(DataError, match=message) as caught:
        hwf.read(formulas)
    assert str(formulas) in str(caught.value)
    assert len(str(caught.value)) < 400 + 2 * len(str(formulas))


@pytest.mark.parametrize("content", [b"", b"not an image", HUGE_PICTURE, picture((8, 9)), picture((600, 600), "L")])
def test_wrong_images_of_formulas_are_named(content: bytes, formulas: Path) -> None:
    path = formulas / hwf.IMAGES / "+" / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        hwf.read(formulas)
    assert str(path) in str(caught.value)


def scene() -> dict[str, Any]:
    """Synthetic: one video of three frames, one of them without a box, with labels of which one is not used."""
    first = {"box": [0, 0.1, 0.5, 1.0], "agent_ids": [0], "action_ids": [1, 2], "loc_ids": [0], "tube_uid": "t"}
    second = {"box": [0.2, 0.2, 0.3, 0.3], "agent_ids": [1], "action_ids": [0], "loc_ids": []}
    frames = {
        "1": {"annotated": 1, "annos": {"b1": first, "b2": second}},
        "2": {"annotated": 0, "annos": {}},
        "3": {"annotated": 1, "width": 1280, "height": 960},
    }
    return {
        "agent_labels": ["Ped", "Car"],
        "all_agent_labels": ["Ped", "Car"],
        "action_labels": ["Mov", "Stop"],
        "all_action_labels": ["Stop", "Mov", "Unused"],
        "loc_labels": ["Pav"],
        "all_loc_labels": ["Pav"],
        "db": {"video": {"split_ids": ["all", "train_1"], "frames": frames}},
    }


def test_boxes_and_requirements_share_their_labels(tmp_path: Path) -> None:
    (tmp_path / "road.json").write_text(json.dumps(scene()))
    (tmp_path / "requirements.txt").write_text("p cnf 5 3\n-1 -2 0\n1 2 0\n-2 5 0 \n")
    boxes = road.read_annotations(tmp_path / "road.json", "train_1")
    assert boxes.labels == ("Ped", "Car", "Mov", "Stop", "Pav")
    assert boxes.truth.tolist() == [[True, False, True, False, True], [False, True, False, True, False]]
    assert boxes.corners[0].tolist() == pytest.approx([0, 0.1, 0.5, 1])
    assert boxes.places == [("video", "1", "b1"), ("video", "1", "b2")]
    requirements = road.read_requirements(tmp_path / "requirements.txt")
    assert requirements == (5, [[-1, -2], [1, 2], [-2, 5]])
    assert requirements.violated(boxes.truth).tolist() == [[False, False, False], [False, False, True]]
    with pytest.raises(DataError, match="no box in an annotated frame of split 'val_1'"):
        road.read_annotations(tmp_path / "road.json", "val_1")
    with pytest.raises(ValueError, match=r"truth must be bool \[n, 5\]"):
        requirements.violated(boxes.truth[:, :4])


def test_requirements_become_a_rule() -> None:
    pytest.importorskip("pysdd")
    requirements = road.Requirements(3, [[-1, -2], [1, 2]])
    rule = em.Circuit.from_cnf(requirements.clauses, n_symbols=requirements.n_labels, compiler="sdd")
    every = torch.cartesian_prod(*[torch.arange(2)] * 3)
    assert rule.label(every).bool().equal(~requirements.violated(every.bool()).any(1))


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = scene()
    change(content)
    return content


def box_of(content: dict[str, Any]) -> dict[str, Any]:
    return content["db"]["video"]["frames"]["1"]["annos"]["b1"]


WRONG_SCENES: dict[str, tuple[Any, str]] = {
    "a list": ([], "must hold an object"),
    "no labels": (changed(lambda c: c.pop("agent_labels")), "agent_labels must be a list of names"),
    "labels of numbers": (changed(lambda c: c.update(loc_labels=[1])), "loc_labels must be a list of names"),
    "labels twice": (changed(lambda c: c.update(all_loc_labels=["a", "a"])), "has a name twice"),
    "no videos": (changed(lambda c: c.pop("db")), "db must be an object"),
    "a video of text": (changed(lambda c: c["db"].update(video="x")), "video video must be an object with frames"),
    "a frame of text": (changed(lambda c: c["db"]["video"]["frames"].update({"1": 3})), "frame 1 must be an object"),
    "a box of text": (changed(lambda c: box_of(c).update(box="1234")), "box b1: box must be a list"),
    "too few corners": (changed(lambda c: box_of(c).update(box=[0, 1])), "must be xmin, ymin, xmax, ymax"),
    "NaN": (changed(lambda c: box_of(c).update(box=[0, 0, 1, float("nan")])), "must be xmin, ymin, xmax, ymax"),
    "a huge corner": (changed(lambda c: box_of(c).update(box=[0, 0, 1, 10**400])), "must be xmin, ymin, xmax, ymax"),
    "a negative id": (changed(lambda c: box_of(c).update(agent_ids=[-1])), "agent_ids must lie in 0..1, got -1"),
    "a high id": (changed(lambda c: box_of(c).update(action_ids=[3])), "action_ids must lie in 0..2, got 3"),
    "an id of text": (changed(lambda c: box_of(c).update(loc_ids=["0"])), "loc_ids must lie in 0..0, got '0'"),
    "no ids": (changed(lambda c: box_of(c).pop("loc_ids")), "must be an object with loc_ids"),
    "no boxes": (changed(lambda c: c["db"].clear()), "no box in an annotated frame"),
}


@pytest.mark.parametrize("kind", WRONG_SCENES)
def test_wrong_scenes_are_named(kind: str, tmp_path: Path) -> None:
    content, message = WRONG_SCENES[kind]
    path = tmp_path / "road.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        road.read_annotations(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("read", [road.read_annotations, road.read_requirements, lambda path: hwf.read(path.parent)])
@pytest.mark.parametrize(
    "content", [*(make(torch.zeros(2).numpy()) for make in OTHER_FILES.values()), b"[" * 10**5, None]
)
def test_files_of_other_kinds_are_named(read: Callable[[Path], object], content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "expr_train.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["p cnf 2 1\n1 3 0\n", "p cnf 2 2\n1 0\n", "1 2 0\n", "p cnf 2 1\n1 x 0\n"])
def test_wrong_requirements_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"requirements\.txt"):
        road.read_requirements(path)
