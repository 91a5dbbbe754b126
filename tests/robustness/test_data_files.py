"""Files of data: of other kinds, cut, or made to harm. A DataError names the file and what is wrong."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.errors import CircuitFileError
from emnesy_gpu.tasks.files import checkpoint_file
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import idx_files, sklearn_digits
from emnesy_gpu.tasks.sudoku import files as board_files
from emnesy_gpu.tasks.sudoku.boards import regenerate
from emnesy_gpu.tasks.warcraft import files as map_files
from emnesy_gpu.tasks.warcraft import synthetic

SIZE = 12


@pytest.fixture(scope="module")
def map_contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = map_files.write(synthetic.generate(SIZE, 2, 0), tmp_path_factory.mktemp("maps"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def maps(map_contents: dict[str, bytes], tmp_path: Path) -> Path:
    for name, content in map_contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def archive(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, array)
    return buffer.getvalue()


def with_shape(shape: str) -> Callable[[np.ndarray], bytes]:
    def change(array: np.ndarray) -> bytes:
        content = saved(array)
        end = content.index(b"\n") + 1
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': %s, }" % shape.encode()
        return content[:8] + struct.pack("<H", len(header) + 1) + header + b"\n" + content[end:]

    return change


OTHER_FILES: dict[str, Callable[[np.ndarray], bytes]] = {
    "empty": lambda array: b"",
    "text": lambda array: b"not an array",
    "npz": archive,
    "cut npz": lambda array: archive(array)[:-30],
    "cut": lambda array: saved(array)[:-1],
    "negative shape": with_shape("(-2, 12, 12)"),
    "huge shape": with_shape("(99999999999, 12, 12)"),
    "shape of text": with_shape("('a', 'b')"),
    "no shape": with_shape("5"),
    "broken header": with_shape("(((((("),
    "words": lambda array: saved(np.full(array.shape, "a")),
    "dates": lambda array: saved(np.zeros(array.shape, "datetime64[s]")),
    "records": lambda array: saved(np.zeros(array.shape, [("a", "f4"), ("b", "i4")])),
    "complex": lambda array: saved(array.astype(np.complex64)),
    "objects": lambda array: saved(np.full(array.shape, None)),
    "booleans": lambda array: saved(np.ones(array.shape, np.bool_)),
    "NaN": lambda array: saved(np.full(array.shape, np.nan)),
    "infinite": lambda array: saved(np.full(array.shape, 1e300)),
    "floats": lambda array: saved(array.astype(np.float32) + 0.25),
}


@pytest.mark.parametrize("name", ["train_maps", "val_vertex_weights", "test_shortest_paths"])
@pytest.mark.parametrize("kind", OTHER_FILES)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_map_files_of_other_kinds_are_named(kind: str, name: str, maps: Path) -> None:
    path = maps / f"{name}.npy"
    path.write_bytes(OTHER_FILES[kind](np.load(path)))
    with pytest.raises(DataError) as caught:
        map_files.read(maps, SIZE)
    assert str(path) in str(caught.value)


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_pickle_is_executed(maps: Path) -> None:
    """Arrays, archives of circuits and checkpoints may hold pickles of anybody."""
    made, array = maps / "made", np.array([Hostile(maps / "made")])
    (maps / "train_maps.npy").write_bytes(saved(array))
    np.savez(maps / "circuit.npz", version=array, allow_pickle=True)
    checkpoint = io.BytesIO()
    torch.save({"history": [Hostile(made)]}, checkpoint)
    with pytest.raises(DataError):
        map_files.read(maps, SIZE)
    with pytest.raises(CircuitFileError):
        em.Circuit.load(maps / "circuit.npz")
    with pytest.raises(ValueError, match="Weights only load failed"):
        checkpoint_file.decode(checkpoint.getvalue())
    assert not made.exists()
    np.load(maps / "train_maps.npy", allow_pickle=True)
    assert made.exists()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_paths_may_be_any_integers(dtype: Any, maps: Path) -> None:
    path = maps / "train_shortest_paths.npy"
    before = map_files.read(maps, SIZE).train.paths
    path.write_bytes(saved(np.load(path).astype(dtype)))
    assert map_files.read(maps, SIZE).train.paths.equal(before)


def test_paths_that_are_floats_are_named(maps: Path) -> None:
    path = maps / "train_shortest_paths.npy"
    path.write_bytes(saved(np.load(path).astype(np.float32)))
    with pytest.raises(DataError, match="must hold integers, got float32"):
        map_files.read(maps, SIZE)


@pytest.fixture(scope="module")
def board_contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = board_files.write(regenerate(sklearn_digits.load(), 4, 1), tmp_path_factory.mktemp("boards"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("word", ["x", "nan", "1e400", "\0", "1", "1 0 0", "", "-1 0", "１ ０", "9" * 5000])
def test_wrong_labels_of_boards_are_named_with_their_line(word: str, board_contents, tmp_path: Path) -> None:
    for name, content in board_contents.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "valid_puzzle_labels.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], word, *lines[2:]]))
    with pytest.raises(DataError, match="line 2 must be 1 0") as caught:
        board_files.read(tmp_path, 4, 1)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["cell_labels", "puzzle_pixels", "puzzle_labels", "puzzle_notes"])
@pytest.mark.parametrize("content", [b"", b"\0\0\n", b"\xff\xfe\n", b"1e400\n", b"nan\n", b"mnist_%d\n" % 10**400])
def test_other_files_of_boards_are_named(content: bytes, name: str, board_contents, tmp_path: Path) -> None:
    for other, written in board_contents.items():
        (tmp_path / other).write_bytes(written)
    path = tmp_path / f"test_{name}.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        board_files.read(tmp_path, 4, 1)
    assert str(path) in str(caught.value)


STEM = "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 100) + bytes(100))[:-20], "ended before"),
        (b"no gzip at all", "Not a gzipped file"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 100) + bytes(99)), "has 99 bytes of values"),
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 100) + bytes(101)), "has more bytes of values"),
        (gzip.compress(b"\0\0\x08\xff" + b"\xff" * 1020), "its header promises"),
        (gzip.compress(b"\0\0\x08\x03" + bytes(5)), "is too short: 9 bytes"),
        (gzip.compress(b""), "is not an IDX file"),
    ],
    ids=["cut", "no archive", "too few", "too many", "large header", "short header", "empty"],  # archives hold the time
)
def test_wrong_archives_of_images_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"{STEM}.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        idx_files.read_idx(tmp_path, STEM)
    assert str(path) in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """One GiB in one MiB, read by a process that may take 64 MiB more than it has."""
    with gzip.open(tmp_path / f"{STEM}.gz", "wb", compresslevel=1) as file:
        file.write(b"\0\0\x08\x01" + struct.pack(">I", 1000))
        for _ in range(64):
            file.write(bytes(1 << 24))
    program = f"""
import resource
from pathlib import Path
from emnesy_gpu.tasks.mnist import idx_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    idx_files.read_idx(Path({str(tmp_path)!r}), {STEM!r})
except Exception as error:
    print(type(error).__name__, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    error, mebibytes = done.stdout.split()
    assert error == "DataError"
    assert int(mebibytes) < 64
