"""Finding, verifying and fetching the images of the benchmarks, and cutting them into sums."""

from __future__ import annotations

import email.message
import gzip
import hashlib
import io
import json
import urllib.request
import urllib.response
from pathlib import Path

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.tasks.addition.sums import mean_sum_accuracy
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.mnist import choose, idx_files, sklearn_digits
from emnesy_gpu.tasks.mnist.rows import cut, label_accuracy

N_TRAIN, N_TEST = 6, 4


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, np.ndarray]:
    """Four small arrays under the names of MNIST's files, whose md5 is taken for the right one."""
    draw = np.random.default_rng(0)
    sizes = {"train": N_TRAIN, "t10k": N_TEST}
    made = {f"{part}-images-idx3-ubyte": draw.integers(0, 256, (n, 28, 28), np.uint8) for part, n in sizes.items()}
    made |= {f"{part}-labels-idx1-ubyte": draw.integers(0, 10, n, np.uint8) for part, n in sizes.items()}
    digests = {}
    for stem, array in made.items():
        idx_files.write_idx(tmp_path / stem, array)
        digests[stem] = hashlib.md5((tmp_path / stem).read_bytes()).hexdigest()
        (tmp_path / stem).unlink()
    monkeypatch.setattr(idx_files, "MD5", digests)
    monkeypatch.setattr(idx_files, "N_TRAIN", N_TRAIN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EMNESY_DATA", raising=False)
    return made


def write_all(folder: Path, arrays: dict[str, np.ndarray], compressed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, array in arrays.items():
        idx_files.write_idx(folder / stem, array)
        if compressed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress((folder / stem).read_bytes()))
            (folder / stem).unlink()
    return folder


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_reads_plain_and_gzip_files_in_every_layout(arrays, tmp_path, compressed, below):
    write_all(tmp_path / "data" / below, arrays, compressed)
    data = choose.load("mnist", tmp_path / "data")
    assert data.name == "mnist"
    assert str(tmp_path / "data") in data.source
    np.testing.assert_array_equal(data.train.pixels.numpy(), arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.classes.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.classes.dtype == torch.int64


def test_environment_and_cache_are_searched_in_this_order(arrays, tmp_path, monkeypatch):
    assert idx_files.find() is None
    cached = write_all(tmp_path / "cache" / "emnesy_gpu" / "MNIST" / "raw", arrays)
    assert idx_files.find() == cached
    named = write_all(tmp_path / "named", arrays)
    monkeypatch.setenv("EMNESY_DATA", str(named))
    assert idx_files.find() == named
    given = write_all(tmp_path / "given", arrays)
    assert idx_files.find(given) == given


def test_auto_takes_mnist_where_it_is_at_hand_else_digits(arrays, tmp_path):
    assert choose.load("auto").name == "digits"
    write_all(tmp_path / "cache" / "emnesy_gpu" / "MNIST" / "raw", arrays)
    assert choose.load("auto").name == "mnist"


def test_a_named_folder_without_files_is_an_error(arrays, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"--data-dir=.*has no MNIST file"):
        choose.load("auto", tmp_path / "nowhere")
    monkeypatch.setenv("EMNESY_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"EMNESY_DATA=.*has no MNIST file"):
        choose.load("auto")


def test_one_missing_file_is_named(arrays, tmp_path):
    write_all(tmp_path / "data", arrays)
    (tmp_path / "data" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\[\.gz\] is missing"):
        choose.load("mnist", tmp_path / "data")


def flip_last(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (flip_last, "is corrupt: md5"),
        (lambda content: content[:-1], "its header promises"),
        (lambda content: content + b"\0", "its header promises"),
        (lambda content: content[:6], "too short: 6 bytes"),
        (lambda content: b"", "is not an IDX file"),
        (lambda content: b"\0\0\x0d" + content[3:], "is not an IDX file"),
    ],
    ids=["flipped bit", "one byte less", "one byte more", "half a header", "empty", "floats"],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_reported_with_file_and_cause(arrays, tmp_path, damage, cause, compressed):
    folder = write_all(tmp_path / "data", arrays)
    path = folder / "train-images-idx3-ubyte"
    content = damage(path.read_bytes())
    path.unlink()
    path = path.with_name(path.name + ".gz") if compressed else path
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=cause) as caught:
        choose.load("mnist", folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], flip_last, lambda content: b"text"])
def test_damaged_compression_is_reported(arrays, tmp_path, damage):
    folder = write_all(tmp_path / "data", arrays, compressed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        choose.load("mnist", folder)


def openml_answers(pixels: np.ndarray, classes: np.ndarray) -> dict[str, bytes]:
    """What OpenML answers about mnist_784 and its file, by the ends of the addresses."""
    names = [f"pixel{i + 1}" for i in range(pixels[0].size)]
    features = [{"name": name, "data_type": "numeric", "is_target": "false"} for name in names]
    digits = [str(digit) for digit in range(10)]
    features.append({"name": "class", "data_type": "nominal", "is_target": "true", "nominal_value": digits})
    for index, feature in enumerate(features):
        feature |= {
            "index": str(index),
            "is_ignore": "false",
            "is_row_identifier": "false",
            "number_of_missing_values": "0",
        }
    head = ["@RELATION mnist_784", *(f"@ATTRIBUTE {name} real" for name in names)]
    rows = [
        ",".join(map(str, [*image, digit]))
        for image, digit in zip(pixels.reshape(len(pixels), -1), classes, strict=True)
    ]
    file = "\n".join([*head, "@ATTRIBUTE class {" + ",".join(digits) + "}", "@DATA", *rows, ""]).encode()
    description = {
        "id": "554",
        "name": "mnist_784",
        "version": "1",
        "status": "active",
        "format": "ARFF",
        "description": "",
        "md5_checksum": hashlib.md5(file).hexdigest(),
        "url": "https://openml.example/data/v1/download/52667/mnist_784.arff",
    }
    answers = {
        "data/list/data_name/mnist_784/limit/2/data_version/1": {"data": {"dataset": [{"did": 554}]}},
        "data/554": {"data_set_description": description},
        "data/features/554": {"data_features": {"feature": features}},
        "data/qualities/554": {
            "data_qualities": {"quality": [{"name": "NumberOfInstances", "value": f"{len(rows)}.0"}]}
        },
    }
    return {end: json.dumps(answer).encode() for end, answer in answers.items()} | {"mnist_784.arff": file}


@pytest.fixture
def openml(arrays, tmp_path, monkeypatch) -> dict[str, bytes]:
    """scikit-learn's own loader in front of recorded answers, in place of the network."""
    loader = pytest.importorskip("sklearn.datasets._openml")
    pixels, classes = (
        np.concatenate([arrays[f"{part}-{kind}-ubyte"] for part in ("train", "t10k")])
        for kind in ("images-idx3", "labels-idx1")
    )
    answers = openml_answers(pixels, classes)

    def answer(request: urllib.request.Request) -> urllib.response.addinfourl:
        end = next(end for end in answers if request.full_url.endswith(end))
        return urllib.response.addinfourl(io.BytesIO(answers[end]), email.message.Message(), request.full_url, 200)

    monkeypatch.setattr(loader, "urlopen", answer)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "scikit_learn"))
    return answers


def test_fetch_converts_openml_and_keeps_the_files(arrays, openml):
    fetched = choose.load("mnist")
    openml.clear()
    kept = choose.load("mnist")
    for data in (fetched, kept):
        np.testing.assert_array_equal(data.train.pixels.numpy(), arrays["train-images-idx3-ubyte"])
        np.testing.assert_array_equal(data.train.classes.numpy(), arrays["train-labels-idx1-ubyte"])
        np.testing.assert_array_equal(data.test.pixels.numpy(), arrays["t10k-images-idx3-ubyte"])
        np.testing.assert_array_equal(data.test.classes.numpy(), arrays["t10k-labels-idx1-ubyte"])


@pytest.mark.filterwarnings("ignore:Invalid cache")
def test_a_file_of_openml_that_is_not_what_it_promises_is_reported(openml):
    openml["mnist_784.arff"] = flip_last(openml["mnist_784.arff"][:-1])
    with pytest.raises(DataError, match=r"could not be fetched from OpenML.*md5 checksum"):
        choose.load("mnist")


def test_images_of_openml_in_another_order_are_reported(arrays, openml):
    pixels = np.concatenate([arrays["t10k-images-idx3-ubyte"], arrays["train-images-idx3-ubyte"]])
    classes = np.concatenate([arrays["t10k-labels-idx1-ubyte"], arrays["train-labels-idx1-ubyte"]])
    openml |= openml_answers(pixels, classes)
    with pytest.raises(DataError, match=r"OpenML sent something else than MNIST.*is corrupt: md5"):
        choose.load("mnist")
    assert idx_files.find() is None, "the next call fetches again"


def test_a_failed_fetch_says_what_to_do(arrays, monkeypatch):
    import sklearn.datasets

    def no_network(*args: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", no_network)
    with pytest.raises(DataError, match=r"no route to host.*--data digits"):
        choose.load("mnist")


def test_digits_split_and_layout():
    data = sklearn_digits.load()
    assert (len(data.train), len(data.test)) == (1440, 357)
    assert data.train.pixels.shape == (1440, 28, 28)
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.classes.bincount().min() > 100
    assert data.test.classes.bincount().min() > 20
    assert data.train.pixels[:, :4].max() == 0
    assert data.train.pixels[:, :, -4:].max() == 0
    assert data.train.pixels.max() > 200


def test_holdout_takes_the_last_training_images_and_leaves_the_test_images_alone():
    data = sklearn_digits.load()
    held = data.hold_out(40)
    assert torch.equal(held.train.pixels, data.train.pixels[:1400])
    assert torch.equal(held.test.pixels, data.train.pixels[1400:])
    with pytest.raises(DataError, match="cannot hold out"):
        data.hold_out(1440)


def test_moments_are_those_of_the_training_pixels():
    data = sklearn_digits.load()
    scaled = data.train.pixels.double() / 255
    mean, deviation = data.moments()
    assert mean == pytest.approx(float(scaled.mean()), rel=1e-9)
    assert deviation == pytest.approx(float(scaled.std(correction=0)), rel=1e-9)


@pytest.mark.parametrize(
    ("n_digits", "train_sums", "test_sums"),
    [(1, 30000, 5000), (2, 15000, 2500), (4, 7500, 1250), (15, 2000, 333), (100, 300, 50)],
)
def test_every_image_is_in_at_most_one_sum(n_digits, train_sums, test_sums):
    for n_images, n_sums in ((60000, train_sums), (10000, test_sums)):
        sums = cut(torch.randperm(n_images), (2, n_digits))
        assert sums.shape == (n_sums, 2, n_digits)
        assert sums.flatten().bincount().max() == 1


def test_sums_are_most_significant_digit_first():
    assert cut(torch.arange(9), (2, 2)).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_label_accuracy_counts_whole_sums():
    problem = em.Addition(n_digits=2)
    true = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    sums = cut(torch.arange(8), (2, 2))
    one_wrong, cancelling = true.clone(), true.clone()
    one_wrong[0] = 9
    cancelling[[0, 2]] += torch.tensor([1, -1])
    assert label_accuracy(problem, true, true, sums) == 1
    assert label_accuracy(problem, one_wrong, true, sums) == 0.5
    assert label_accuracy(problem, cancelling, true, sums) == 1


def test_mean_over_groupings_is_fixed_and_between_0_and_1():
    problem = em.Addition(n_digits=2)
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(10, (4000,), generator=generator)
    wrong = torch.rand(4000, generator=generator) < 0.05
    predicted = torch.where(wrong, (true + 1) % 10, true)
    accuracy = mean_sum_accuracy(problem, predicted, true)
    assert accuracy == mean_sum_accuracy(problem, predicted, true)
    assert accuracy == pytest.approx(0.95**4, abs=0.02)
