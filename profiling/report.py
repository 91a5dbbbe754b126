"""Collects what gpu_report.sh ran: outcomes of the steps, and their tables, as JSON and Markdown.

    python -m profiling.report folder                                      # prints gpu-name-date
    python -m profiling.report add DIR roofline 0 12 [--junit tests.xml]   # step, exit code, seconds
    python -m profiling.report write DIR

DIR is the folder of one run; the output of a step is in DIR/step.log.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.benchmarks.measure import machine
from emnesy_gpu.doctor import driver_version
from profiling.exports import Row, markdown
from profiling.requirements import MISSING, missing_gpu

STEPS = "steps.jsonl"
NOTHING_COLLECTED = 5  # exit code of pytest


def folder_name(day: datetime.date) -> str:
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no gpu"
    return f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}-{day.isoformat()}"


def outcome(code: int, log: str, junit: str | None = None) -> tuple[str, str]:
    """(ok, skipped or failed, one line of detail) from the exit code, the output and the test results of a step."""
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no output")
    if code == MISSING:
        return "skipped", last
    if code not in (0, NOTHING_COLLECTED):
        return "failed", f"exit code {code}: {last}"
    if junit is not None:
        return test_outcome(junit)
    return "ok", ""


def test_outcome(junit: str) -> tuple[str, str]:
    """A run of which every test was skipped counts as skipped, with the commonest reason."""
    cases = list(ElementTree.fromstring(junit).iter("testcase"))
    reasons = Counter(skip.get("message", "") for case in cases for skip in case.iter("skipped"))
    skipped = reasons.total()
    if skipped == len(cases):
        reason = reasons.most_common(1)[0][0] if reasons else "no test was collected"
        return "skipped", f"all {skipped} tests: {reason}"
    return "ok", f"{len(cases) - skipped} tests passed, {skipped} skipped"


def add(folder: Path, step: str, code: int, seconds: float, junit: Path | None) -> str:
    """Append the outcome of a step, whose output is in ``step``.log; returns it as a line."""
    log = (folder / f"{step}.log").read_text(errors="replace")
    status, detail = outcome(code, log, junit.read_text() if junit and junit.exists() else None)
    record = {"step": step, "status": status, "seconds": seconds, "detail": detail}
    with (folder / STEPS).open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    return f"{status:>8}  {step}  {detail}".rstrip()


def benchmark_rows(record: dict[str, Any]) -> list[Row]:
    """One row per benchmark of a pytest-benchmark JSON record, with the clocks that its extra_info holds."""
    extras = ("kernel_us", "operator_us", "host_us", "peak_mib")
    return [
        {"benchmark": bench["name"], "median us": bench["stats"]["median"] * 1e6}
        | {name: bench["extra_info"].get(name) for name in extras}
        for bench in record["benchmarks"]
    ]


def write(folder: Path) -> str:
    """report.json and report.md from the steps and the tables in the folder."""
    steps = [json.loads(line) for line in (folder / STEPS).read_text().splitlines()]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = machine(device) | {"driver": driver_version(), "gpu missing": missing_gpu()}
    facts = {name: value for name, value in facts.items() if value is not None}
    (folder / "report.json").write_text(json.dumps({"machine": facts, "steps": steps}, indent=1) + "\n")
    parts = ["# " + folder.name, "\n".join(f"- {name}: {value}" for name, value in facts.items()), markdown(steps)]
    benchmarks = folder / "benchmarks.json"
    if benchmarks.exists() and benchmarks.stat().st_size:
        parts += ["# Benchmarks", markdown(benchmark_rows(json.loads(benchmarks.read_text())))]
    tables = sorted(path for path in folder.rglob("*.md") if path.name != "report.md")
    parts += [f"# {path.relative_to(folder)}\n\n{_deeper(path.read_text())}" for path in tables]
    text = "\n\n".join(parts) + "\n"
    (folder / "report.md").write_text(text)
    return text


def _deeper(text: str) -> str:
    return re.sub(r"^(#+ )", r"#\1", text.strip(), flags=re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="report", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("folder")
    adder = commands.add_parser("add")
    adder.add_argument("folder", type=Path)
    adder.add_argument("step")
    adder.add_argument("code", type=int)
    adder.add_argument("seconds", type=float)
    adder.add_argument("--junit", type=Path)
    writer = commands.add_parser("write")
    writer.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "folder":
        print(folder_name(datetime.date.today()))
    elif options.command == "add":
        print(add(options.folder, options.step, options.code, options.seconds, options.junit))
    else:
        write(options.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
