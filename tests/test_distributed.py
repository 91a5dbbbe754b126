"""Train commands on several ranks: the run of one process, one writer, signals, and other numbers of ranks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emnesy_gpu.cli import main
from emnesy_gpu.tasks.core.distributed import Part, Ranks, joined
from emnesy_gpu.tasks.files.errors import DataError
from tests import ranks
from tests.rank_checks import BATCH_OF_SIGNAL, MORE, RUNS, STOPPED, signal_in_batch, train
from tests.robustness.runs import wait_for
from tests.train_runs import assert_same_run, figures, weights

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")
TRAIN = ("rank_checks.train_all", "rank_checks.stop_by_a_signal_to_one_rank", "rank_checks.go_on", "rank_checks.refuse")
DTENSORS = ("dtensor_checks.dtensors_of_logits", "dtensor_checks.fully_sharded_net")
"""What two ranks check at one go, as starting them costs most of the time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks have made, from a run that one process had begun."""
    folder = tmp_path_factory.mktemp("two")
    with signal_in_batch(BATCH_OF_SIGNAL, only_rank=0):
        assert train(*STOPPED, "--out", str(folder / "begun_by_one"))[0] == 143
    ranks.start(2, folder, (*TRAIN, *DTENSORS))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    folder = tmp_path_factory.mktemp("one")
    for name, words in {**RUNS, "stopped": STOPPED}.items():
        assert main(["train", *words, "--out", str(folder / name)]) == 0
    return folder


def assert_nearly_the_same(one: Path, other: Path) -> None:
    """Losses to 1e-4, and weights to a hundredth of the largest: gradients are added up in another order."""
    for record, expected in zip(figures(other), figures(one), strict=True):
        assert record.keys() == expected.keys()
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-4)
        assert record["log_evidence"] == pytest.approx(expected["log_evidence"], abs=1e-4)
        assert record["possible"] == pytest.approx(expected["possible"], abs=1e-9)
    for name, weight in weights(one).items():
        assert (weights(other)[name] - weight).abs().max() < 0.01 * weight.abs().max(), name


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_make_the_run_of_one_process(name: str, folder: Path, alone: Path) -> None:
    assert_nearly_the_same(alone / name, folder / name)
    assert {path.name for path in (folder / name).iterdir()} == {path.name for path in (alone / name).iterdir()}


def test_a_signal_to_one_rank_saves_the_same_batch_of_all(folder: Path, alone: Path, capsys) -> None:
    """What two ranks have saved goes on with one process."""
    progress = torch.load(folder / "stopped" / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["batches"] == BATCH_OF_SIGNAL - 6
    assert main(["train", "addition", "--resume", str(folder / "stopped")]) == 0
    assert "resuming" in capsys.readouterr().out
    assert_nearly_the_same(alone / "stopped", folder / "stopped")


def test_two_ranks_go_on_with_what_one_process_has_begun(folder: Path, alone: Path) -> None:
    assert_nearly_the_same(alone / "stopped", folder / "begun_by_one")


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n_rows", [1, 2, 7, 64])
def test_parts_cover_a_batch_once(size: int, n_rows: int) -> None:
    parts = [Ranks(rank, size).part(n_rows) for rank in range(size)]
    assert sum(part.weight for part in parts) == pytest.approx(1)
    taken = torch.cat([part.of(torch.arange(n_rows)) for part in parts if part.weight > 0])
    assert torch.equal(taken, torch.arange(n_rows))
    assert all(part.size > 0 for part in parts)


def test_images_of_a_part_are_found_among_those_of_a_batch() -> None:
    assert Part(2, 3, 5).among(12) == (8, 20)


class Joined(Exception):
    """What a test raises in place of waiting for other ranks."""


def test_tensors_on_gpus_travel_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those on CPUs by gloo, in the same group; a rank takes the GPU with its number on its machine."""

    def join(backend: str) -> None:
        raise Joined(backend)

    chosen: list[int] = []
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", join)
    with pytest.raises(Joined) as raised, joined():
        pass
    backends = torch.distributed.BackendConfig(str(raised.value)).get_device_backend_map()
    assert backends == {"cpu": "gloo", "cuda": "nccl"}
    assert Ranks(5, 8).device("cuda") == torch.device("cuda", 1)
    assert chosen == [1]
    with pytest.raises(DataError, match="8 processes need --device cuda and a GPU each, got cuda:0 and 2 GPUs"):
        Ranks(5, 8).device("cuda:0")


@pytest.mark.cuda
def test_a_rank_for_each_gpu_makes_the_run_of_one_process(tmp_path: Path) -> None:
    n_gpus = torch.cuda.device_count()
    if n_gpus == 1:
        pytest.skip("needs two GPUs")
    words = (*RUNS["addition"], "--device", "cuda")
    assert train(*words, "--out", str(tmp_path / "alone"))[0] == 0
    agent = torchrun("-m", "emnesy_gpu", "train", *words, "--out", str(tmp_path / "ranks"), n_ranks=n_gpus)
    _, errors = agent.communicate(timeout=ranks.SECONDS)
    assert agent.returncode == 0, errors
    assert_nearly_the_same(tmp_path / "alone", tmp_path / "ranks")


@pytest.mark.slow
def test_four_ranks_make_every_run_of_one_process(tmp_path: Path, alone: Path) -> None:
    """Gibbs has a last batch of one row for four ranks."""
    ranks.start(4, tmp_path, ["rank_checks.train_all", "rank_checks.train_more", *DTENSORS])
    for name, words in {**RUNS, **MORE}.items():
        if name in MORE:
            assert train(*words, "--out", str(alone / name))[0] == 0
        assert_nearly_the_same(alone / name, tmp_path / name)


LONG = (*RUNS["addition"], "--epochs", "20")


def torchrun(*words: str, n_ranks: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers(agent: subprocess.Popen[str]) -> list[int]:
    """The processes of a torchrun, which need not be up yet."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return [int(child) for child in children if b"emnesy_gpu" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    agent = torchrun("-m", "emnesy_gpu", "train", *LONG, "--out", str(out))
    assert agent.communicate(timeout=ranks.SECONDS)[0]
    assert agent.returncode == 0
    return out


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_is_restarted_from_the_last_checkpoint(victim: int, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    agent = torchrun("--max-restarts=1", "-m", "emnesy_gpu", "train", *LONG, "--out", str(out))
    try:
        wait_for(lambda: (out / "metrics.jsonl").exists(), agent, ranks.SECONDS)
        os.kill(workers(agent)[victim], signal.SIGKILL)
        text, errors = agent.communicate(timeout=ranks.SECONDS)
    finally:
        agent.kill()
    assert agent.returncode == 0, errors
    assert re.search(r"resuming .* after [1-9]\d* of 20 epochs", text)
    assert_same_run(whole, out)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_threads_of_ranks_that_fail_end_before_their_processes() -> None:
    ranks.start_module(2, "tests.failed_ranks")


@pytest.mark.slow
def test_restarted_ranks_wait_for_each_other_and_not_for_those_before() -> None:
    agent = torchrun("--max-restarts=1", "-m", "tests.restarted_ranks")
    _, errors = agent.communicate(timeout=ranks.SECONDS)
    assert agent.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_the_run(number: signal.Signals, tmp_path: Path) -> None:
    agent = torchrun("-m", "emnesy_gpu", "train", *LONG, "--out", str(tmp_path / "out"))
    try:
        wait_for(lambda: (tmp_path / "out" / "metrics.jsonl").exists(), agent, ranks.SECONDS)
        agent.send_signal(number)
        text, _ = agent.communicate(timeout=ranks.SECONDS)
    finally:
        agent.kill()
    assert agent.returncode != 0
    assert "continue with: python -m emnesy_gpu train addition --resume" in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["operators", "methods"])
def test_every_operator_works_on_shards_of_a_batch(kind: str, tmp_path: Path) -> None:
    ranks.start(2, tmp_path, [f"dtensor_checks.{kind}_on_shards"])
