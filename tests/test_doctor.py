"""The doctor: what it reports, and that it notices a back end which is wrong."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu import doctor
from emnesy_gpu.backends import PACKAGES, kernels_for
from emnesy_gpu.kernels.cpu import carry_chain as cpu_kernels
from emnesy_gpu.kernels.cpu.common import kernel_cache
from tests.robustness.kernel_programs import Program

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")


def verdicts(report: doctor.Report) -> dict[str, str]:
    return {check["backend"]: check["verdict"] for check in report["checks"]}


@NO_GPU
def test_without_a_gpu_the_others_agree(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    assert list(verdicts(report)) == list(PACKAGES)
    assert verdicts(report) == {"reference": "agrees", "cpu": "agrees", "triton": "unavailable"}
    assert report["versions"]["emnesy_gpu"] == em.__version__
    assert report["versions"]["torch"] == torch.__version__
    assert {"python", "numpy", "numba", "triton", "cupy", "cuda of torch", "nvidia driver"} <= set(report["versions"])


@pytest.mark.cuda
def test_on_a_gpu_every_back_end_agrees() -> None:
    report = doctor.examine()
    assert set(verdicts(report).values()) == {"agrees"}
    assert report["versions"]["nvidia driver"] != "none found"
    assert report["devices"][1].startswith("cuda:0: ")


@pytest.mark.skipif(doctor.interpreter_obstacle() is not None, reason=str(doctor.interpreter_obstacle()))
def test_under_the_interpreter_triton_is_checked() -> None:
    """The interpreter must be chosen before Triton is imported, so in a new process."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "emnesy_gpu.doctor", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert verdicts(report)["triton"] == "agrees"
    assert report["variables"]["TRITON_INTERPRET"] == "1"


def test_the_report_names_vectors_and_the_kernel_cache() -> None:
    kernels = doctor.cpu_kernels()
    assert kernels["vector bits"] in (128, 256, 512)
    assert kernels["cache"]["writable"]
    assert kernels["cache"]["files"] > 0
    assert kernels["cache"]["damaged"] == 0


def test_damaged_machine_code_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.run()
    program.files()[0].write_bytes(b"garbage")
    monkeypatch.setattr(kernel_cache, "_caches", lambda: [program.imported().total._cache])
    assert kernel_cache.cache_state()[1:3] == (True, 2)
    assert kernel_cache.cache_state().damaged == 1
    assert " 1 damaged: " in str(doctor._cpu_kernel_rows(doctor.cpu_kernels()))


def test_every_op_has_a_route_for_every_device() -> None:
    report = doctor.routes()
    ops = {row["op"] for row in report}
    assert {"carry_chain_posterior", "carry_chain_em_gradient", "carry_chain_map", "carry_chain_sample"} <= ops
    by_key = {(row["op"], row["tensors"]): row for row in report}
    assert by_key["carry_chain_posterior", "cpu"]["backend"] == "cpu"
    assert "the default for cpu tensors" in by_key["carry_chain_posterior", "cpu"]["why"]
    assert by_key["carry_chain_posterior", "cuda"]["backend"] == "triton"
    with em.backend("reference"):
        forced = doctor.routes()[0]
    assert forced["backend"] == "reference"
    assert "chosen with em.backend" in forced["why"]


def wrong_marginals(logits, label):
    marginals, log_evidence, status = kernels_for("carry_chain", logits.device).correct(logits, label)
    return marginals.roll(1, -1), log_evidence, status


def evidence_nan(logits, label):
    marginals, log_evidence, status = kernels_for("carry_chain", logits.device).correct(logits, label)
    return marginals, log_evidence + float("nan"), status


def all_possible(logits, label):
    marginals, log_evidence, status = kernels_for("carry_chain", logits.device).correct(logits, label)
    return marginals, log_evidence, torch.zeros_like(status)


def broken(logits, label):
    raise RuntimeError("no such instruction")


@pytest.mark.parametrize(
    ("posterior", "verdict"),
    [(wrong_marginals, "differs"), (evidence_nan, "differs"), (all_possible, "differs"), (broken, "fails")],
)
def test_a_wrong_back_end_is_found(
    posterior, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_kernels, "correct", cpu_kernels.posterior, raising=False)
    monkeypatch.setattr(cpu_kernels, "posterior", posterior)
    assert doctor.check_backend("cpu")["verdict"] == verdict
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert verdict in printed
    assert "A back end does not work" in printed


def test_plain_output_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find_spec, load = importlib.util.find_spec, builtins.__import__

    def no_rich(name, *arguments, **keywords):
        if name.split(".")[0] == "rich":
            raise ModuleNotFoundError(name="rich")
        return load(name, *arguments, **keywords)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find_spec(name))
    monkeypatch.setattr(builtins, "__import__", no_rich)
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    for title in ("Versions", "Devices", "Ops", "Self-check"):
        assert f"{title}\n" in printed
    assert "  reference  agrees" in printed


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else find_spec(name))
    check = doctor.check_backend("cpu")
    assert (check["verdict"], check["detail"]) == ("unavailable", "numba is not installed: pip install numba")


def test_driver_version_is_what_nvidia_smi_says(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver_version() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.65.06\necho 580.65.06\n")
    tool.chmod(0o755)
    assert doctor.driver_version() == "580.65.06"


def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        doctor.main(["--jsn"])
    assert capsys.readouterr().err == "emnesy: error: Unrecognized arguments: --jsn. See emnesy doctor --help.\n"
