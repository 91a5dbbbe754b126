"""Warcraft maps: the layout of the published files, checksums, half precision, and the synthetic generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.warcraft import choose, synthetic
from emnesy_gpu.tasks.warcraft import files as warcraft_data
from emnesy_gpu.tasks.warcraft.files import FOLDER, PARTS
from emnesy_gpu.tasks.warcraft.maps import MapData, Maps
from emnesy_gpu.tasks.warcraft.windows import MARGIN, Windows, places

SIZE = 12


@pytest.fixture(scope="module")
def data() -> MapData:
    return synthetic.generate(SIZE, n_maps=12)


@pytest.fixture
def folder(data: MapData, tmp_path: Path) -> Path:
    return warcraft_data.write(data, tmp_path)


@pytest.fixture
def published(folder: Path) -> Path:
    """The same files without the note that they are synthetic."""
    (folder / "options.json").unlink()
    return folder


def same_maps(left: Maps, right: Maps) -> bool:
    return all(torch.equal(getattr(left, name), getattr(right, name)) for name in ("pixels", "classes", "paths"))


def parts(data: MapData) -> list[Maps]:
    return [data.train, data.valid, data.test]


def test_synthetic_maps_say_so(data):
    assert data.origin == "synthetic"
    assert "synthetic" in data.source


def test_synthetic_maps_have_the_published_layout(data):
    for maps in parts(data):
        assert maps.pixels.shape == (12, 8 * SIZE, 8 * SIZE, 3)
        assert maps.pixels.dtype == maps.classes.dtype == maps.paths.dtype == torch.uint8
        assert torch.equal(maps.paths, em.ShortestPath(SIZE).label(maps.classes))
        assert int(maps.classes.max()) <= 4


def test_synthetic_maps_follow_their_seed(data):
    assert same_maps(data.train, synthetic.generate(SIZE, n_maps=12).train)
    assert not torch.equal(data.train.classes, synthetic.generate(SIZE, n_maps=12, seed=1).train.classes)


def test_a_synthetic_map_does_not_depend_on_the_number_of_maps(data):
    fewer = synthetic.generate(SIZE, n_maps=3)
    for some, all_of_them in zip(parts(fewer), parts(data), strict=True):
        assert same_maps(some, Maps(*(tensor[:3] for tensor in vars(all_of_them).values())))


def test_the_parts_are_disjoint(data):
    seen = [maps.classes[row].numpy().tobytes() for maps in parts(data) for row in range(len(maps))]
    assert len(set(seen)) == len(seen)


def test_every_class_is_frequent_and_distinguishable_by_colour():
    maps = synthetic.generate(SIZE, n_maps=40).train
    shares = torch.bincount(maps.classes.flatten().long(), minlength=5) / maps.classes.numel()
    assert float(shares.min()) > 0.08
    tiles = maps.pixels.unflatten(2, (SIZE, 8)).unflatten(1, (SIZE, 8)).movedim(2, 3).flatten(3, 4).float().mean(3)
    means = torch.stack([tiles[maps.classes == value].mean(0) for value in range(5)])
    distances = torch.cdist(means, means) + 1e3 * torch.eye(5)
    assert float(distances.min()) > 5, "a cell's mean colour tells its class on average"


def test_moments_are_those_of_the_training_pixels(data):
    mean, deviation = data.moments()
    pixels = data.train.pixels.double() / 255
    torch.testing.assert_close(mean, pixels.mean((0, 1, 2)).float())
    torch.testing.assert_close(deviation, pixels.std((0, 1, 2), correction=0).float())


def test_files_give_back_what_was_written(data, folder):
    found = choose.load(SIZE, "files", folder.parent.parent)
    assert found.origin == "synthetic"
    assert "synthetic" in found.source
    assert all(same_maps(left, right) for left, right in zip(parts(found), parts(data), strict=True))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_folder_may_be_named_at_any_level(folder, depth):
    assert warcraft_data.find(SIZE, [folder, *folder.parents][depth]) == folder


def test_costs_are_stored_in_half_precision_and_snapped(data, folder):
    weights = np.load(folder / "train_vertex_weights.npy")
    assert weights.dtype == np.float16
    assert 9.2 not in weights.astype(np.float64)
    assert torch.equal(warcraft_data.read(folder, SIZE).train.classes, data.train.classes)


def test_training_arrays_may_come_in_halves(data, folder):
    for name in ("maps", "vertex_weights", "shortest_paths"):
        whole = np.load(folder / f"train_{name}.npy")
        (folder / f"train_{name}.npy").unlink()
        for part, rows in enumerate((whole[:7], whole[7:])):
            np.save(folder / f"train_{name}_part{part}.npy", rows)
    assert same_maps(warcraft_data.read(folder, SIZE).train, data.train)
    assert same_maps(warcraft_data.read(folder, SIZE, 9).train, Maps(*(t[:9] for t in vars(data.train).values())))
    assert len(warcraft_data.read(folder, SIZE, 3).train) == 3


def test_files_that_differ_from_the_published_ones_are_unverified(published):
    assert warcraft_data.read(published, SIZE).origin == "unverified"


def test_files_with_the_published_checksums_are_original(published, monkeypatch):
    digests = {
        (SIZE, path.name): warcraft_data.file_digest(path) for path in published.iterdir() if path.name[:3] != "val"
    }
    monkeypatch.setattr(warcraft_data, "MD5", digests)
    assert warcraft_data.read(published, SIZE).origin == "original"


def test_the_checksums_name_every_array_of_training_and_test():
    names = {
        f"{part}_{name}.npy" for part in ("train", "test") for name in ("maps", "vertex_weights", "shortest_paths")
    }
    assert {name for _, name in warcraft_data.MD5} == names
    assert all(len(digest) == 32 and int(digest, 16) >= 0 for digest in warcraft_data.MD5.values())


def broken_weights(array):
    array[0, 0, 0] = 3.0
    return array


def open_path(array):
    array[0, 0, 0] = 0
    return array


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train_vertex_weights", broken_weights, "must hold the costs"),
        ("val_shortest_paths", open_path, "both corners"),
        ("test_maps", lambda array: array.astype(np.float32), "must hold bytes"),
        ("test_maps", lambda array: array[:, :-8], "expected"),
        ("test_maps", lambda array: array[:-1], "11 maps, 12 weights"),
    ],
)
def test_bad_files_are_named(folder, name, change, words):
    np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))
    with pytest.raises(DataError, match=words):
        warcraft_data.read(folder, SIZE)


@pytest.mark.parametrize("name", [f"{part}_maps" for part in PARTS])
def test_missing_and_truncated_files_are_named(folder, name):
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=name):
        warcraft_data.read(folder, SIZE)
    path.unlink()
    with pytest.raises(DataError, match=name):
        warcraft_data.read(folder, SIZE)


def test_a_foreign_note_is_not_taken_for_ours(folder):
    (folder / "options.json").write_text(json.dumps(["emnesy_gpu"]))
    assert warcraft_data.read(folder, SIZE).origin == "unverified"


def test_auto_takes_synthetic_maps_where_there_are_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EMNESY_DATA", raising=False)
    assert choose.load(SIZE, "auto", n_maps=2).data == "synthetic"
    with pytest.raises(DataError, match=FOLDER):
        choose.load(SIZE, "files")
    with pytest.raises(DataError, match="--data-dir"):
        choose.load(SIZE, "auto", tmp_path)


def test_unknown_sizes_and_data_are_refused():
    with pytest.raises(DataError, match="size"):
        choose.load(13, "auto")
    with pytest.raises(DataError, match="choose"):
        choose.load(12, "mnist")


def test_places_number_the_cells_of_a_path():
    path = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    assert places(path[None])[0].tolist() == [[0, -1, -1], [1, -1, -1], [-1, 2, 3]]


def test_a_window_shows_a_cheapest_path_between_its_own_ends(data):
    size = 9
    windows, generator = Windows(data.train, size), torch.Generator().manual_seed(0)
    pixels, classes, masks, starts, goals = windows.draw(torch.arange(12).repeat(5), generator)
    problem = em.ShortestPath(size)
    assert pixels.shape == (60, 8 * size, 8 * size, 3)
    found = problem.label(classes.long(), starts, goals)
    own_cost = problem.path_cost(problem.with_ends(masks, starts, goals), classes.long())
    assert torch.equal(own_cost, problem.path_cost(found, classes.long()))
    rows = masks.amax(2).sum(1)
    assert int(rows.max()) <= size - MARGIN
    assert int(masks.flatten(1).sum(1).min()) >= 2


def test_windows_cover_the_whole_path_in_the_long_run(data):
    size = 9
    seen = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    windows, generator = Windows(data.train, size), torch.Generator().manual_seed(0)
    for _ in range(60):
        pixels, _, mask, _, _ = windows.draw(torch.tensor([0]), generator)
        corner = _position_of(data.train.pixels[0], pixels[0])
        seen[corner[0] : corner[0] + size, corner[1] : corner[1] + size] |= mask[0] > 0
    assert torch.equal(seen, data.train.paths[0] > 0)


@pytest.mark.parametrize("size", [3, SIZE + 1])
def test_windows_that_do_not_fit_are_refused(data, size):
    with pytest.raises(ValueError, match=r"4\.\.12"):
        Windows(data.train, size)


def test_maps_are_written_by_a_command(tmp_path, capsys):
    assert main(["data", "warcraft", "--maps", "2", "--seed", "3", "--to", str(tmp_path)]) == 0
    assert "synthetic" in capsys.readouterr().out
    found = choose.load(SIZE, "files", tmp_path)
    assert same_maps(found.train, synthetic.generate(SIZE, 2, 3).train)


def _position_of(whole, window):
    """The cell at which a window is the same as the picture."""
    n_shifts = (whole.shape[0] - window.shape[0]) // 8 + 1
    side = window.shape[0]
    for row in range(n_shifts):
        for column in range(n_shifts):
            if torch.equal(whole[8 * row : 8 * row + side, 8 * column : 8 * column + side], window):
                return row, column
    raise AssertionError("the window is no part of the map")
