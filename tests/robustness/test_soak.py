"""A short soak: the same random calls, kills and damage as ``make soak``, with fixed seeds and small counts."""

from __future__ import annotations

import pytest

from tests.robustness.soak import Soak


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    soak = Soak(16, tmp_path_factory.mktemp("soak"))
    soak.prepare()
    return soak


def test_valid_and_wrong_calls(run: Soak) -> None:
    run.calls(300, 300)
    assert run.losses == []
    assert run.counts["valid calls"] == run.counts["wrong calls"] == 300
    assert run.counts["wrong calls: refused"] > 200


def test_valid_calls_in_threads(run: Soak) -> None:
    run.threads(40)
    assert run.losses == []


def test_killed_runs_resume_to_the_bit(run: Soak) -> None:
    run.kills(3)
    assert run.losses == []
    assert run.counts["kills"] + run.counts["full disks"] >= 3


def test_write_faults_lose_nothing(run: Soak) -> None:
    run.write_faults(2)
    assert run.losses == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_valid_calls_in_processes(run: Soak, method: str) -> None:
    run.processes(method, 20)
    assert run.losses == []


def test_damaged_files_are_refused_or_do_no_harm(run: Soak) -> None:
    run.damages(24)
    assert run.losses == []
    assert all(run.counts[f"damaged files of {kind}: refused"] for kind in ("runs", "maps", "circuits", "kernels"))
