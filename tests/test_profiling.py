"""The profiling scripts: parsers, samplers, clocks, the model, and what they say where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from emnesy_gpu.benchmarks import clocks
from profiling import exports, memory, opcodes, peaks, roofline, timings, trace

ROOT = Path(__file__).parent.parent
RECORDINGS = Path(__file__).parent / "recordings"
CPU = torch.device("cpu")
SLOW = pytest.mark.slow  # a kernel that was not compiled before takes ten seconds and more
NEEDS_NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")


def recording(name: str) -> str:
    return (RECORDINGS / f"synthetic_{name}.csv").read_text()


def test_nsys_stats_hold_three_exports_between_messages() -> None:
    kernels, ranges, projected = exports.read(recording("nsys_stats"))
    assert [kernels.kind, ranges.kind, projected.kind] == ["nsys kernels", "nsys ranges", "nsys projected ranges"]
    assert exports.columns(kernels)[0] == {"name": "pair_kernel", "instances": 20, "total us": 3000, "median us": 148}
    fill = exports.columns(kernels)[1]
    assert str(fill["name"]).endswith("(int, float)")
    assert fill["total us"] == 1000
    assert [row["name"] for row in exports.columns(ranges)] == ["step", "E-step", "M-step"]
    assert exports.columns(projected) == [{"name": "E-step", "instances": 20, "total us": 3200, "median us": 158}]


def test_ncu_raw_page() -> None:
    (export,) = exports.read(recording("ncu_raw"))
    assert export.kind == "ncu raw"
    assert [row["ID"] for row in export.rows] == ["0", "1"]
    assert export.rows[0]["unsupported__metric.sum"] is None
    first = exports.columns(export)[0]
    assert first["duration us"] == pytest.approx(50)
    assert (first["dram read MB"], first["dram written MB"]) == (80, 70)
    assert (first["L1 sectors read"], first["L2 sectors read"], first["warp instructions"]) == (5e6, 2.5e6, 1.2e7)
    assert (first["registers"], first["SM %"], first["occupancy %"]) == (64, 41.5, None)


def test_ncu_details_page() -> None:
    (export,) = exports.read(recording("ncu_details"))
    (launch,) = exports.columns(export)
    assert launch["name"] == "pair_kernel"
    assert launch["duration us"] == pytest.approx(50)
    assert (launch["memory %"], launch["SM %"], launch["occupancy %"], launch["registers"]) == (81.25, 41.5, 48.75, 64)
    assert launch["L1 sectors read"] is None


def test_a_text_without_an_export_is_an_error() -> None:
    with pytest.raises(ValueError, match="no export of nsys kernels"):
        exports.read(recording("nsys_empty"))


def test_units_are_brought_to_seconds_and_bytes() -> None:
    assert exports.number("1,234.5", "usecond") == pytest.approx(1234.5e-6)
    assert exports.number("2", "Mbyte") == 2e6
    assert exports.number("n/a", "byte") is None
    assert exports.number("pair_kernel") == "pair_kernel"


def test_trace_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("nsys_stats", "ncu_raw", "ncu_details")
    files = [str(RECORDINGS / f"synthetic_{name}.csv") for name in names]
    assert trace.main(["table", *files, "--json", str(tmp_path / "table.json")]) == 0
    printed = capsys.readouterr().out
    assert "| pair_kernel | 20 | 3000 | 148 |" in printed
    assert "unsupported" not in printed
    kinds = [table["kind"] for table in json.loads((tmp_path / "table.json").read_text())]
    assert kinds == ["nsys kernels", "nsys ranges", "nsys projected ranges", "ncu raw", "ncu details"]


@pytest.mark.parametrize("work", trace.ADDITION)
def test_traced_work_runs(work: str) -> None:
    trace.run(trace.call_of(work, "2", 3, CPU), work, repeat=1, device=CPU)


TRACED = (
    "sudoku/fused",
    "sampling/fused",
    "sampling/Gibbs-1x20",
    "shortest_path/fused",
    "automaton/fused",
    "circuit/fused",
)


@pytest.mark.parametrize("work", TRACED)
def test_methods_of_benchmarks_can_be_traced(work: str) -> None:
    trace.run(trace.call_of(work, None, 1, CPU), work, repeat=1, device=CPU)


def test_work_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="size must be one of 4, 9, got 5"):
        trace.call_of("sudoku/fused", "5", 1, CPU)
    with pytest.raises(ValueError, match="exact does not exist for size 9"):
        trace.call_of("sudoku/exact", "9", 1, CPU)


@NEEDS_NO_GPU
@pytest.mark.parametrize("script", ["nsys.sh", "ncu.sh"])
def test_nsight_scripts_say_what_is_missing(script: str) -> None:
    result = subprocess.run(
        [ROOT / "profiling" / script], env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "NVIDIA GPU" in result.stderr


def test_nsight_scripts_without_the_tools(tmp_path: Path) -> None:
    """With a GPU but without Nsight: a Python that reports no problem stands in for the GPU."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": str(python)}
    for script, tool in (("nsys.sh", "nsys"), ("ncu.sh", "ncu")):
        result = subprocess.run([ROOT / "profiling" / script], env=environment, capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr.startswith(f"{script}: {tool} (Nsight")
        assert "https://developer.nvidia.com/" in result.stderr
        assert len(result.stderr.splitlines()) == 1


NSYS = """#!/bin/sh
echo "$@" >> "$CALLS"
if [ "$1" = stats ]; then
    while [ "$1" != --output ]; do shift; done
    cp "$RECORDING" "$2_cuda_gpu_kern_sum.csv"
fi
"""

NCU = """#!/bin/sh
echo "$@" >> "$CALLS"
if [ -n "$REFUSED" ]; then echo "==ERROR== ERR_NVGPUCTRPERM"; exit 1; fi
case "$*" in *--csv*) cat "$RECORDING" ;; esac
"""

# Says that there is a GPU; otherwise the Python of this test.
PYTHON = """#!/bin/sh
if [ "$3" = check ]; then exit 0; fi
exec "$REAL_PYTHON" "$@"
"""


def with_fake_tools(script: str, folder: Path, record: str, refused: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script with stand-ins for the GPU and for Nsight, which write down their arguments in calls."""
    for name, text in {"nsys": NSYS, "ncu": NCU, "python": PYTHON}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(folder / "python"), "REAL_PYTHON": sys.executable,
        "CALLS": str(folder / "calls"), "OUT": str(folder / "out"), "REFUSED": refused,
        "RECORDING": str(RECORDINGS / f"synthetic_{record}.csv"),
    }  # fmt: skip
    command = [ROOT / "profiling" / script, "posterior", "--digits", "4"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_nsys_script_from_the_run_to_the_tables(tmp_path: Path) -> None:
    result = with_fake_tools("nsys.sh", tmp_path, "nsys_stats")
    assert result.returncode == 0, result.stderr
    profile, stats = (tmp_path / "calls").read_text().splitlines()
    assert "--capture-range=cudaProfilerApi" in profile
    assert profile.endswith("-m profiling.trace run posterior --digits 4")
    assert "--report nvtx_gpu_proj_sum" in stats
    assert "| pair_kernel | 20 |" in (tmp_path / "out" / "tables.md").read_text()
    assert json.loads((tmp_path / "out" / "tables.json").read_text())[0]["kind"] == "nsys kernels"


def test_ncu_script_from_the_run_to_the_tables(tmp_path: Path) -> None:
    result = with_fake_tools("ncu.sh", tmp_path, "ncu_raw")
    assert result.returncode == 0, result.stderr
    profile, raw, details = (tmp_path / "calls").read_text().splitlines()
    assert "--section SpeedOfLight " in profile
    assert "--clock-control none " in profile
    assert profile.endswith("-m profiling.trace run posterior --digits 4 --repeat 2")
    assert "--page raw --print-units base" in raw
    assert "--page details" in details
    assert "| pair_kernel | 50 | 80 | 70 |" in (tmp_path / "out" / "tables.md").read_text()


def test_ncu_script_without_permission(tmp_path: Path) -> None:
    result = with_fake_tools("ncu.sh", tmp_path, "ncu_raw", refused="yes")
    assert result.returncode == 2
    assert result.stderr.startswith("ncu.sh: this user may not read the GPU's performance counters")


class FakeNvml:
    """A device that draws 100 W, and no energy counter if it is an old one."""

    class NVMLError(Exception):
        pass

    def __init__(self, old: bool = False) -> None:
        self.old, self.reads = old, 0

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:  # noqa: N802
        self.reads += 1
        return SimpleNamespace(used=self.reads * 2**20)

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:  # noqa: N802
        return 100_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        if self.old:
            raise self.NVMLError
        return 5_000 + 2_000 * bool(self.reads)


def test_sampler_reads_until_the_end() -> None:
    with memory.Sampler(FakeNvml(), handle=None, interval=0.001) as samples:
        time.sleep(0.05)
    assert len(samples.used) > 3
    assert samples.joules == 2.0
    row = memory.summary(samples, calls=10, elapsed=0.5)
    assert row == {
        "NVML used MiB, most": float(len(samples.used)),
        "utilisation %, median": 50.0,
        "power W, median": 100.0,
        "energy mJ per call": 200.0,
        "us per call": 50_000.0,
    }


def test_sampler_without_an_energy_counter() -> None:
    with memory.Sampler(FakeNvml(old=True), handle=None) as samples:
        pass
    assert len(samples.used) == 1
    assert memory.summary(samples, 1, 1.0)["energy mJ per call"] is None


def test_memory_on_a_cpu(tmp_path: Path) -> None:
    """In a process of its own: the peak of this one is that of other tests."""
    command = [sys.executable, "-m", "profiling.memory", "--device", "cpu", "--method", "softmax", "--batch", "4096"]
    out = tmp_path / "memory.json"
    subprocess.run([*command, "--json", out, "--markdown", tmp_path / "memory.md"], cwd=ROOT, check=True, timeout=60)
    (row,) = json.loads(out.read_text())["rows"]
    written = 4096 * 2 * 15 * 10 * 4 / 2**20
    assert 0.9 * written <= row["peak MiB above inputs"] < 1.5 * written
    assert row["process peak MiB"] > written


def test_clocks_on_a_cpu_see_a_wait() -> None:
    found = clocks.read_clocks(lambda: time.sleep(0.002), CPU, budget=0.02)
    assert found.kernel is None
    assert 0.002 <= found.operator < 0.02
    assert 0.002 <= found.host < 0.02


def test_kernel_clock_adds_up_the_events_of_the_device() -> None:
    kinds = torch.autograd.DeviceType
    on_device = [SimpleNamespace(device_type=kinds.CUDA, self_device_time_total=t) for t in (30.0, 10.0)]
    launch = SimpleNamespace(device_type=kinds.CPU, self_device_time_total=99.0)
    assert clocks.mean_device_seconds([*on_device, launch], calls=4) == pytest.approx(10e-6)
    assert clocks.mean_device_seconds([launch], calls=4) is None


def test_extra_info_of_a_benchmark() -> None:
    info = clocks.extra_info(lambda: None, CPU, budget=0.01)
    assert {"kernel_us", "operator_us", "host_us", "peak_mib", "driver", "torch", "cpu"} <= set(info)
    json.dumps(info)


@pytest.mark.parametrize(("seconds", "traced"), [(1e-4, 20), (2e-3, 2)])
def test_long_calls_are_traced_twice(seconds: float, traced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(clocks, "median_seconds", lambda *_: seconds)
    monkeypatch.setattr(clocks, "host_seconds", lambda *_: seconds)
    monkeypatch.setattr(clocks, "kernel_seconds", lambda call, device, calls: found.append(calls))
    clocks.read_clocks(lambda: None, torch.device("cuda"))
    assert found == [traced]


@pytest.mark.cuda
def test_clocks_on_a_gpu() -> None:
    device = torch.device("cuda")
    large, small = (torch.zeros(n, device=device) for n in (2**28, 1))
    slow = clocks.read_clocks(lambda: large.add_(1), device, budget=0.1)
    quick = clocks.read_clocks(lambda: small.add_(1), device, budget=0.1)
    assert slow.kernel is not None
    assert quick.kernel is not None
    assert slow.host < slow.kernel < 1.5 * slow.operator
    assert quick.kernel < quick.operator
    assert quick.kernel < slow.kernel


@pytest.mark.cuda
def test_memory_on_a_gpu() -> None:
    (row,) = memory.measure(["softmax"], n_digits=15, batch=4096, seconds=0.3, device=torch.device("cuda"))
    assert row["allocator peak MiB"] == pytest.approx(4096 * 2 * 15 * 10 * 4 / 2**20, rel=0.1)
    assert row["NVML used MiB, most"] > row["allocator peak MiB"]
    assert row["us per call"] > 0


def test_timings_have_a_line_for_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = timings.Point("addition", (1,), (2, 10**6), ("softmax", "no such method", "copy"))
    monkeypatch.setattr(timings, "POINTS", (point,))
    files = ("--json", str(tmp_path / "timings.json"), "--markdown", str(tmp_path / "timings.md"))
    assert timings.main(["--device", "cpu", "--seconds", "0.001", "--most-rows", "1000", *files]) == 0
    rows = json.loads((tmp_path / "timings.json").read_text())["rows"]
    assert [row["method"] for row in rows] == list(point.methods)
    assert [row["error"] for row in rows] == [None, "KeyError: 'no such method'", None]
    assert all(row["operator us"] > 0 for row in rows[::2])
    assert "| addition, digits 1 | 2 | softmax |" in (tmp_path / "timings.md").read_text()


def test_methods_of_the_timings_exist() -> None:
    for point in timings.POINTS:
        suite = trace.SUITES[point.suite]
        assert set(point.sizes) <= set(suite.sizes)
        assert point.methods == timings.EXACT or set(point.methods) <= set(suite.methods)


def test_opcodes_by_unit() -> None:
    counted = opcodes.by_pipe(
        {"fma.rn.f32": 3, "add.f32x2": 1, "add.f64": 2, "lg2.approx.f32": 4, "div.full.f32": 1, "setp.lt.s64": 1}
        | {"div.s32": 1, "shfl.sync.up.b32": 6, "mov.b32": 7, "st.shared.b32": 8, "max.f32": 1}
    )
    assert counted == {"fp32": 5, "fp64": 2, "special": 5, "alu": 4, "shuffle": 6, "move": 7, "other": 8}


def counts(**changes: object) -> roofline.Counts:
    """A made-up kernel: 320 bytes, 10 requested and 5 unique sectors, 32 warp instructions of fp32."""
    values = {
        "op": "posterior", "unit": "one row", "arch": 90, "least_bytes": 160.0, "requested_sectors": 10.0,
        "unique_sectors": 5.0, "warp_instructions": 40.0, "thread_instructions": 1280.0, "shared_wavefronts": 0.0,
        "pipes": {"fp32": 32.0, "move": 8.0},
    }  # fmt: skip
    return roofline.Counts(**(values | changes))  # type: ignore[arg-type]


def test_bounds_follow_from_peaks() -> None:
    gpu = peaks.GPUS["A100"]
    limits = roofline.bounds(counts(), gpu)
    assert limits["memory"] == pytest.approx(160 / gpu.bandwidth)
    assert limits["fp32"] == pytest.approx(32 * 32 / 64 / gpu.cycles)
    assert limits["issue"] == pytest.approx(32 / 4 / gpu.cycles)
    assert limits["L1"] == pytest.approx(10 * 32 / 128 / gpu.cycles)
    line = roofline.model(counts(pipes={"special": 40.0}), gpu)
    assert line["limit"] == "special"
    assert line["x memory bound"] == pytest.approx((40 * 32 / 16 / gpu.cycles) / (160 / gpu.bandwidth))


def test_every_line_of_the_roofline_is_labelled() -> None:
    lines = [roofline.model(counts(), gpu) for gpu in peaks.GPUS.values()]
    assert all(gpu.source for gpu in peaks.GPUS.values())
    rows = roofline.table(lines).splitlines()[2:]
    assert len(rows) == len(peaks.GPUS)
    assert all(row.startswith("| modelled |") for row in rows)
    assert "nothing measured" in roofline.report(lines)


@pytest.mark.parametrize("n_digits", [pytest.param(4, marks=SLOW), pytest.param(15, marks=SLOW), 100])
def test_addition_is_near_the_least_traffic_and_near_the_memory_bound(n_digits: int, tmp_path: Path) -> None:
    """The promise: each byte of logits and marginals moves once, and on an H100 memory is nearly the only limit."""
    pytest.importorskip("triton")
    found = roofline.simulate("posterior", n_digits, peaks.GPUS["H100"].arch)
    assert found.least_bytes > 160 * n_digits
    assert found.least_bytes <= found.unique_bytes <= 1.1 * 160 * n_digits
    assert found.unique_sectors <= found.requested_sectors
    assert found.thread_instructions > found.warp_instructions > 0
    line = roofline.model(found, peaks.GPUS["H100"])
    assert 1.0 <= line["x memory bound"] <= 1.5
    roofline.write_plot(tmp_path / "plot.png", [(found, peaks.GPUS["H100"])])
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_launches_of_the_registry_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    from tests import kernel_roofline

    (entry,) = [
        e for e in kernel_roofline.entries_of(["carry_chain"]) if str(e).endswith("map_assignment n=4 base=5 addends=2")
    ]
    found = roofline.simulate_launch(entry, 80)
    assert found.least_bytes <= found.unique_bytes
    line = roofline.model(found, peaks.GPUS["A100"])
    assert (line["label"], line["op"], line["unit"]) == ("modelled", str(entry), "one row")
    with pytest.raises(SystemExit, match=r"stems: .*carry_chain"):
        kernel_roofline.main(["no_such_stem"])


def test_every_script_explains_itself() -> None:
    for script in ("roofline", "trace", "memory", "machine", "timings"):
        text = (ROOT / "profiling" / f"{script}.py").read_text()
        assert text.startswith('"""')
        assert f"python -m profiling.{script}" in text.partition('"""\n\nfrom')[0]
    for path in (ROOT / "profiling").glob("*.sh"):
        text = path.read_text()
        assert text.startswith("#!/usr/bin/env bash\n# ")
        assert "set -euo pipefail" in text
        assert f"profiling/{path.name}" in text
        subprocess.run(["bash", "-n", path], check=True)
