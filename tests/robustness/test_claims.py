"""Campaigns that share a folder: none runs what another one runs, and what a dead one has left is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emnesy_gpu.cli import main
from emnesy_gpu.reproduce import claims as claims_module
from emnesy_gpu.reproduce.campaign import UNCOLLECTED, Campaign, Children
from emnesy_gpu.reproduce.claims import DEAD_AFTER, RELEASED, Claims
from emnesy_gpu.reproduce.protocol import Experiment, protocol
from tests.robustness.runs import process
from tests.robustness.test_campaigns import EXPERIMENT
from tests.train_runs import no_mnist_at_hand  # noqa: F401

ELSEWHERE = json.dumps({"place": "another machine", "process": 1})


@pytest.fixture
def claims() -> Iterator[Claims]:
    with Claims() as held:
        yield held


def test_one_of_many_takes_a_folder(tmp_path: Path) -> None:
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            taken = [claim for claim in pool.map(lambda _: Claims().take(tmp_path), range(8)) if claim is not None]
        assert len(taken) == 1
        taken[0].write_text(RELEASED)
    assert len(list(tmp_path.glob("claim-*"))) == 20


def test_a_claim_ends_with_its_process_or_when_it_is_released(claims: Claims, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    first = claims.take(tmp_path)
    assert first is not None
    assert claims.take(tmp_path) is None
    first.write_text(json.dumps({**json.loads(first.read_text()), "process": child.pid}))
    child.wait()
    second = claims.take(tmp_path)
    assert second is not None
    assert not claims.holds(first)
    assert claims.holds(second)
    claims.release(second)
    assert claims.take(tmp_path) is not None


@pytest.mark.parametrize("text", [ELSEWHERE, "", "{"])
def test_an_owner_elsewhere_is_dead_after_a_while(text: str, claims: Claims, tmp_path: Path) -> None:
    claim = tmp_path / "claim-7"
    claim.write_text(text)
    assert claims.take(tmp_path) is None
    then = claim.stat().st_mtime - DEAD_AFTER - 1
    os.utime(claim, (then, then))
    assert claims.take(tmp_path) == tmp_path / "claim-8"
    assert {path.name for path in tmp_path.iterdir()} == {"claim-7", "claim-8"}


def test_a_living_owner_touches_its_claims(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(claims_module, "HEARTBEAT", 0.01)
    with Claims() as claims:
        claim = claims.take(tmp_path)
        assert claim is not None
        os.utime(claim, (0, 0))
        while claim.stat().st_mtime == 0:
            pass
    assert claim.read_text() == RELEASED


class Pretended(Children):
    """Write the result of a child at once, and count them."""

    count = 0

    def run(self, command: list[str], log: Any, seconds: float) -> int:
        type(self).count += 1
        Path(command[-1]).write_text(json.dumps([{"status": "done", "figures": {}}]))
        return 0


EXPERIMENTS = [replace(EXPERIMENT, seed=seed) for seed in range(4)]


def campaign(out: Path, experiments: list[Experiment] = EXPERIMENTS, **others: Any) -> Campaign:
    return Campaign(experiments, out, 5.0, commit="none", **{"children": Pretended, "sharded": True, **others})


def test_what_another_process_runs_is_left_to_it(claims: Claims, tmp_path: Path) -> None:
    mine = campaign(tmp_path)
    theirs = claims.take(mine.folder(EXPERIMENTS[1]))
    assert theirs is not None
    done = [experiment for experiment, _ in mine.run()]
    assert done == [EXPERIMENTS[0], *EXPERIMENTS[2:]]
    assert mine.remaining() == [EXPERIMENTS[1]]
    claims.release(theirs)
    assert [experiment for experiment, _ in mine.run()] == [EXPERIMENTS[1]]
    assert mine.remaining() == []


def test_what_another_process_has_just_finished_is_not_run_again(tmp_path: Path) -> None:
    one, other = campaign(tmp_path), campaign(tmp_path)
    Pretended.count = 0
    begun = one.run()
    next(begun)
    assert len(list(other.run())) == 3
    assert list(begun) == []
    assert Pretended.count == 4


def test_a_process_that_was_taken_for_dead_writes_no_records(tmp_path: Path) -> None:
    class Slow(Pretended):
        def run(self, command: list[str], log: Any, seconds: float) -> int:
            folder = Path(command[-1]).parent
            (folder / "claim-2").write_text(ELSEWHERE)
            return super().run(command, log, seconds)

    late = campaign(tmp_path, EXPERIMENTS[:1], children=Slow)
    assert len(list(late.run())) == 1
    assert late.remaining() == EXPERIMENTS[:1]


def test_records_of_shards_are_collected_once(tmp_path: Path) -> None:
    for shard in range(2):
        assert len(list(campaign(tmp_path, EXPERIMENTS[shard::2]).run())) == 2
    whole = campaign(tmp_path, sharded=False)
    assert not whole.results.exists()
    assert whole.remaining() == []
    left = next(tmp_path.glob(f"runs/*/{UNCOLLECTED}"))
    text = left.read_text()
    whole.collect()
    left.write_text(text)  # a crash had kept it
    whole.collect()
    assert sorted(record["seed"] for record in whole.records()) == [0, 1, 2, 3]
    assert not left.exists()
    assert list(whole.run()) == []


def test_shards_share_the_protocol(capsys) -> None:
    keys = []
    for shard in ("1/3", "2/3", "3/3"):
        assert main(["reproduce", "addition", "--dry-run", "--shard", shard]) == 0
        keys += [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert sorted(keys) == sorted(experiment.key for experiment in protocol("addition"))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/", "-1/2"])
def test_wrong_shards_are_one_line(shard: str, capsys) -> None:
    assert main(["reproduce", "addition", "--dry-run", "--shard", shard]) == 2
    assert f"must be I/N with 1 <= I <= N, such as 1/4, got {shard!r}" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    words = ["reproduce", "addition", "--quick", "--method", "exact", "--method", "hard", "--out", str(tmp_path)]
    children = [process([*words, "--shard", f"{shard}/2"]) for shard in (1, 2)]
    assert [child.communicate(timeout=300) and child.returncode for child in children] == [0, 0]
    child = process(words)
    text, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    keys = [json.loads(line)["key"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 2
    assert "tables.md" in text
