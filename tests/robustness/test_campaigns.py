"""Campaigns of ``reproduce``: killed with their workers, started twice, with files that are cut or no records."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from emnesy_gpu.reproduce import records
from emnesy_gpu.reproduce.campaign import Campaign, Clock
from emnesy_gpu.reproduce.protocol import Experiment
from emnesy_gpu.tasks.files.folder_lock import locked
from tests.robustness.runs import process, wait_for
from tests.train_runs import error_line, no_mnist_at_hand  # noqa: F401

EXPERIMENT = Experiment("training", "addition", 1, "exact", epochs=1, augment=False, data="digits")
RECORD = {
    **EXPERIMENT.to_dict(),
    "key": EXPERIMENT.key,
    "status": "done",
    "limit_minutes": 30.0,
    "figures": {"accuracy": 0.5},
    "epochs": 1,
    "cpu_minutes": 0.1,
    "seconds_e_per_epoch": 0.1,
    "seconds_m_per_epoch": 0.1,
    "history": [],
}


def arguments(out: Path) -> list[str]:
    words = ["reproduce", "addition", "--seeds", "1", "--method", "exact", "--size", "1", "--data-dir", "/work"]
    return [*words, "--out", str(out)]


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def workers_of(number: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def test_a_second_campaign_in_the_folder_is_refused(tmp_path: Path, capsys) -> None:
    with locked(tmp_path):
        assert f"{tmp_path} is in use by process {os.getpid()}" in error_line(arguments(tmp_path), capsys)
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_campaign(tmp_path: Path) -> None:
    out = tmp_path / "out"
    campaign = process(["reproduce", "formula", "--quick", "--size", "5", "--out", str(out)])
    try:
        logs = lambda: any("digits" in path.read_text() for path in out.rglob("log.txt"))  # noqa: E731
        wait_for(logs, campaign)
        found = [
            child
            for folder in Path(f"/proc/{campaign.pid}/task").iterdir()
            for child in map(int, (folder / "children").read_text().split())
        ]
        assert found
        assert all(map(is_alive, found))
    finally:
        campaign.send_signal(signal.SIGKILL)
        campaign.communicate()
    deadline = time.monotonic() + 20
    while any(map(is_alive, found)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("text", ["", "12", "1e", "nan", "-3", "[]", '"12"', "\0", "12.5"])
def test_cut_seconds_do_not_block_a_restart(text: str, tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    path.write_text(text)
    clock = Clock(path)
    assert clock.before == {"12": 12.0, "12.5": 12.5}.get(text, 0.0)
    with clock:
        pass
    assert json.loads(path.read_text()) >= clock.before


def test_a_last_line_that_was_cut_is_removed(tmp_path: Path) -> None:
    path, line = tmp_path / "results.jsonl", json.dumps(RECORD)
    for cut in (1, 10, len(line) - 1):
        path.write_text(line + "\n" + line[:cut])
        assert records.read(path, complete=True) == [RECORD]
        records.append(path, [RECORD])
        assert path.read_text() == 2 * (line + "\n")
    path.write_text(line)
    records.append(path, [RECORD])
    assert path.read_text() == 2 * (line + "\n")


def test_cut_lines_that_earlier_versions_left_inside_are_skipped(tmp_path: Path) -> None:
    path, line = tmp_path / "results.jsonl", json.dumps(RECORD)
    path.write_text(f"{line}\n{line[:-3]}\n{line}\n")
    assert Campaign([EXPERIMENT], tmp_path, 1.0).records() == [RECORD, RECORD]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3", "it must be an object, got int"),
        ("[]", "it must be an object, got list"),
        ("null", "it must be an object, got NoneType"),
        ("{}", "key must be str, got None"),
        ("what", "Expecting value"),
        ('{"key": "a", "status": "fine"}', "status must be one of done, timeout, "),
        (json.dumps({**RECORD, "kind": "walk"}), "kind must be one of training, e_step, got 'walk'"),
        (json.dumps({**RECORD, "task": []}), "task must be one of addition, "),
        (json.dumps({**RECORD, "size": "1"}), "size must be int, got '1'"),
        (json.dumps({**RECORD, "figures": {}}), "accuracy must be a number, got None"),
        (json.dumps({**RECORD, "history": 3}), "history must be list, got 3"),
        ("[" * 100000, "maximum recursion"),
    ],
)
def test_lines_that_are_no_records_are_one_line(line: str, message: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n" + json.dumps(RECORD) + "\n")
    error = error_line(arguments(tmp_path), capsys)
    assert f"{path}, line 1 is no record: {message}" in error
    assert path.read_text().startswith(line)
