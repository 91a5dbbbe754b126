"""Fashion-MNIST is found where torchvision and Debian have it, verified, and trained on like digits."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import choose, fashion, idx_files
from tests.train_runs import no_mnist_at_hand  # noqa: F401


def write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write four small files, compressed as Debian has them, with their checksums in place of the true ones."""
    folder.mkdir(parents=True)
    digests = {}
    for part, n in (("train", 60), ("t10k", 20)):
        images = np.random.default_rng(n).integers(0, 256, (n, 28, 28)).astype(np.uint8)
        classes = (np.arange(n) % 10).astype(np.uint8)
        for stem, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", classes)):
            idx_files.write_idx(folder / stem, array)
            content = (folder / stem).read_bytes()
            digests[stem] = hashlib.md5(content, usedforsecurity=False).hexdigest()
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
            (folder / stem).unlink()
    monkeypatch.setattr(fashion, "MD5", digests)


@pytest.mark.parametrize("below", [*fashion.BELOW, ""])
def test_files_are_found_in_the_layouts_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    write(tmp_path / "data" / below, monkeypatch)
    data = choose.load("fashion", tmp_path / "data")
    assert (data.name, len(data.train), len(data.test)) == ("fashion", 60, 20)
    assert data.test.classes.tolist() == [*range(10)] * 2
    assert "Fashion-MNIST files in" in data.source


def test_the_environment_and_the_package_of_debian_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "debian", monkeypatch)
    monkeypatch.setattr(fashion, "OF_DEBIAN", tmp_path / "debian")
    assert len(choose.load("fashion").train) == 60
    monkeypatch.setenv("EMNESY_DATA", str(tmp_path / "nothing"))
    assert len(choose.load("fashion").train) == 60


def test_missing_and_corrupt_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "OF_DEBIAN", tmp_path / "debian")
    with pytest.raises(DataError, match="install Debian's dataset-fashion-mnist"):
        choose.load("fashion")
    write(tmp_path / "data", monkeypatch)
    monkeypatch.setitem(fashion.MD5, "t10k-labels-idx1-ubyte", "0" * 32)
    with pytest.raises(DataError, match=r"is corrupt: md5 of the content is \w+, expected 0+$"):
        choose.load("fashion", tmp_path / "data")
    (tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\[\.gz\] is missing"):
        choose.load("fashion", tmp_path / "data")
