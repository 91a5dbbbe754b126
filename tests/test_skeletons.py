"""``emnesy new`` writes rules and problems that pass their own tests, which fail where the rule is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emnesy_gpu.cli import main
from tests.train_runs import error_line

ROOT = Path(__file__).parent.parent


def test_new_files_pass_their_tests_and_wrong_rules_fail_them(tmp_path: Path) -> None:
    for kind, name in (("rule", "traffic_light"), ("problem", "weather"), ("problem", "wrong")):
        assert main(["new", kind, name, "--out", str(tmp_path)]) == 0
    wrong = tmp_path / "wrong.py"
    wrong.write_text(wrong.read_text().replace("1 - zero", "0.9 - zero"))
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    passed = re.findall(r"^PASSED test_(\w+)\.py", done.stdout, re.MULTILINE)
    failed = set(re.findall(r"^FAILED test_(\w+)\.py", done.stdout, re.MULTILINE))
    assert (passed.count("traffic_light"), passed.count("weather"), failed) == (8, 8, {"wrong"}), done.stdout


@pytest.mark.parametrize("name", ["Weather", "2x", "class", "a-b", ""])
def test_a_name_that_is_no_module_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no name of a module" in error_line(["new", "rule", name], capsys)


def test_files_are_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_weather.py").write_text("mine")
    assert "exists" in error_line(["new", "rule", "weather", "--out", str(tmp_path)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["test_weather.py"]


def test_new_files_are_in_the_style_of_the_house(tmp_path: Path) -> None:
    for kind, name in (("rule", "traffic_light"), ("problem", "weather")):
        assert main(["new", kind, name, "--out", str(tmp_path)]) == 0
    checks = (["check", "--isolated", "--select", "E,F,I,UP,B,SIM"], ["format", "--isolated", "--check"])
    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--line-length", "120", str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout
