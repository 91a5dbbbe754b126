"""Boards of visual Sudoku: the rules of the generator, and the text files of ViSudo-PC."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.mnist.images import DataSet, Images
from emnesy_gpu.tasks.sudoku import choose
from emnesy_gpu.tasks.sudoku import files as visudo_data
from emnesy_gpu.tasks.sudoku.boards import PARTS, Boards, Split, is_valid, random_grids, regenerate


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return sklearn_digits.load()


@pytest.fixture(scope="module")
def small(digits: DataSet) -> Split:
    return regenerate(digits, 4, 1)


def parts(split: Split) -> list[Boards]:
    return [getattr(split, part) for part in PARTS]


def images_of(boards: Boards) -> set[bytes]:
    return {image.numpy().tobytes() for image in boards.pixels.flatten(0, 2)}


def numbered_images(per_class: int) -> DataSet:
    """Images whose first two bytes are their own number, so that each can be recognised."""
    classes = torch.arange(10).repeat(per_class)
    pixels = torch.zeros(len(classes), 28, 28, dtype=torch.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = torch.arange(len(classes)) // 256, torch.arange(len(classes)) % 256
    everything = Images(pixels, classes)
    return DataSet("numbered", "numbers", everything[:-10], everything[-10:])


@pytest.mark.parametrize("size", [4, 9])
def test_the_label_says_whether_the_grid_is_valid(digits, size):
    for boards in parts(regenerate(digits, size, 3)):
        assert boards.labels.tolist() == [1, 0] * (len(boards) // 2)
        for grid, label in zip(boards.cells, boards.labels, strict=True):
            assert is_valid(grid.flatten().numpy(), size) == bool(label)


def test_a_full_split_has_100_valid_boards_a_part_and_uses_every_image_once():
    data = numbered_images(per_class=1250)
    split = regenerate(data, 4, 1)
    pools = []
    for boards in parts(split):
        assert len(boards) == 200
        solved = boards.pixels[::2]
        numbers = (solved[..., 0, 0].int() * 256 + solved[..., 0, 1]).flatten()
        assert len(numbers.unique()) == 1600
        assert torch.equal(numbers % 10, boards.cells[::2].flatten().int())
        pools.append(set(numbers.tolist()))
        changed = boards.pixels[1::2]
        assert set((changed[..., 0, 0].int() * 256 + changed[..., 0, 1]).flatten().tolist()) <= pools[-1]
    assert all(left.isdisjoint(right) for left, right in pairwise([*pools, pools[0]]))


def test_the_images_show_the_cells(small, digits):
    known = dict(
        zip(
            (image.numpy().tobytes() for image in torch.cat([digits.train.pixels, digits.test.pixels])),
            torch.cat([digits.train.classes, digits.test.classes]).tolist(),
            strict=True,
        )
    )
    for boards in parts(small):
        shown = [known[image.numpy().tobytes()] for image in boards.pixels.flatten(0, 2)]
        assert shown == boards.cells.flatten().tolist()


def test_notes_tell_the_changes(small):
    for boards in parts(small):
        assert boards.notes[::2] == ["solved"] * (len(boards) // 2)
        for i, note in enumerate(boards.notes[1::2]):
            kind, count = re.fullmatch(r"(replace|swap)\((\d+)\)", note).groups()
            solved, changed = boards.cells[2 * i], boards.cells[2 * i + 1]
            assert 1 <= int((solved != changed).sum()) <= int(count) * (2 if kind == "swap" else 1)
            if kind == "swap":
                assert torch.equal(solved.flatten().sort().values, changed.flatten().sort().values)


def test_one_change_is_as_likely_as_the_rules_say():
    """Half of all corruptions stop after one change; a second try after a change that left the grid valid is rare."""
    notes = [note for boards in parts(regenerate(numbered_images(2000), 4, 5)) for note in boards.notes[1::2]]
    single = sum(note.endswith("(1)") for note in notes) / len(notes)
    swaps = sum(note.startswith("swap") for note in notes) / len(notes)
    assert single == pytest.approx(0.5, abs=0.1), "300 boards: three standard deviations are 0.087"
    assert swaps == pytest.approx(0.5, abs=0.1)


def test_random_grids_are_valid_and_different():
    grids = random_grids(9, 50, np.random.default_rng(0))
    assert grids.shape == (50, 81)
    assert all(is_valid(grid, 9) for grid in grids)
    assert len(np.unique(grids, axis=0)) == 50


def test_filling_in_reading_order_gives_all_grids_of_size_4():
    grids = random_grids(4, 20_000, np.random.default_rng(1))
    assert len(np.unique(grids, axis=0)) == 288


def test_a_grid_with_a_repeated_value_is_not_valid():
    grid = random_grids(4, 1, np.random.default_rng(2))[0]
    for cell in range(16):
        wrong = grid.copy()
        wrong[cell] = (wrong[cell] + 1) % 4
        assert not is_valid(wrong, 4)


def test_the_split_number_is_the_seed(digits, small):
    again, other = regenerate(digits, 4, 1), regenerate(digits, 4, 2)
    assert torch.equal(small.train.pixels, again.train.pixels)
    assert small.test.notes == again.test.notes
    assert not torch.equal(small.train.cells, other.train.cells)


def test_moments_of_the_training_pixels(small):
    mean, deviation = small.moments()
    pixels = small.train.pixels.double() / 255
    assert mean == pytest.approx(float(pixels.mean()), rel=1e-5)
    assert deviation == pytest.approx(float(pixels.std()), rel=1e-5)


def test_written_boards_read_back_the_same(small, tmp_path):
    folder = visudo_data.write(small, tmp_path)
    assert folder.relative_to(tmp_path).parts[-2:] == ("overlap::0.00", "split::01")
    back = visudo_data.read(folder, 4, 1)
    assert "regenerated files in" in back.source
    assert back.origin == "regenerated"
    for written, read in zip(parts(small), parts(back), strict=True):
        assert torch.equal(written.pixels, read.pixels)
        assert torch.equal(written.labels, read.labels)
        assert torch.equal(written.cells, read.cells)
        assert written.notes == read.notes


def test_the_files_look_like_the_published_ones(small, tmp_path):
    folder = visudo_data.write(small, tmp_path)
    first = (folder / "train_puzzle_pixels.txt").read_text().splitlines()[0].split("\t")
    assert len(first) == 4 * 4 * 784
    assert set(first) <= {str(round(value / 255, 4)) for value in range(256)}
    assert (folder / "train_puzzle_labels.txt").read_text().startswith("1\t0\n0\t1\n")
    names = (folder / "train_cell_labels.txt").read_text().splitlines()[0].split("\t")
    assert names == [f"mnist_{value}" for value in small.train.cells[0].flatten().tolist()]


def test_original_files_are_found_below_a_prefix_and_called_original(small, tmp_path):
    folder = visudo_data.write(small, tmp_path / "made")
    home = tmp_path / "archive" / "ViSudo-PC_dimension::4" / "datasets::mnist" / "strategy::simple" / "strategy::simple"
    tail = ("numTrain::00100", "numTest::00100", "numValid::00100", "corruptChance::0.50", "overlap::0.00")
    place = home.joinpath(*tail, "split::01")
    place.parent.mkdir(parents=True)
    folder.rename(place)
    (place / "options.json").write_text(json.dumps({"generator": "generate-split.py", "splitId": "01"}))
    split = choose.load(4, 1, "auto", visudo_dir=tmp_path / "archive")
    assert split.origin == "original"
    assert torch.equal(split.valid.pixels, small.valid.pixels)
    with pytest.raises(DataError, match="has 0 folders such as"):
        choose.load(4, 2, "auto", visudo_dir=tmp_path / "archive")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_puzzle_pixels.txt", "0.0\tmuch\n", "cannot be read"),
        ("train_puzzle_pixels.txt", "0.0\t1.0\n", "rows and columns, expected"),
        ("test_puzzle_labels.txt", "1\t1\n", "line 1 must be 1 0"),
        ("valid_cell_labels.txt", "mnist_1\n", "must hold 16 names"),
        ("valid_cell_labels.txt", "\t".join(["mnist_7"] * 16) + "\n", "with the classes 0..3"),
        ("options.json", "{", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(small, tmp_path, name, text, message):
    folder = visudo_data.write(small, tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        visudo_data.read(folder, 4, 1)
    assert name in str(caught.value)


def test_a_missing_file_is_named(small, tmp_path):
    folder = visudo_data.write(small, tmp_path)
    (folder / "test_puzzle_labels.txt").unlink()
    with pytest.raises(DataError, match=r"test_puzzle_labels\.txt cannot be read"):
        visudo_data.read(folder, 4, 1)


def test_pixels_outside_the_unit_interval(small, tmp_path):
    folder = visudo_data.write(small, tmp_path)
    path = folder / "train_puzzle_pixels.txt"
    path.write_text(path.read_text().replace("1.0", "7.0"))
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        visudo_data.read(folder, 4, 1)


def test_sizes_and_data_that_do_not_fit(digits):
    with pytest.raises(DataError, match="size 4 or 9, not 16"):
        regenerate(digits, 16, 1)
    with pytest.raises(DataError, match="too few images"):
        regenerate(numbered_images(20), 9, 1)
    with pytest.raises(DataError, match="--visudo-dir"):
        choose.load(4, 1, "files")


def test_the_command_writes_the_files(tmp_path, capsys):
    arguments = ["data", "visudo", "--size", "4", "--split", "11", "--data", "digits", "--to", str(tmp_path)]
    assert main(arguments) == 0
    assert "regenerated from scikit-learn's bundled digits" in capsys.readouterr().out
    (folder,) = {path.parent for path in Path(tmp_path).rglob("train_puzzle_pixels.txt")}
    assert visudo_data.read(folder, 4, 11).number == 11
