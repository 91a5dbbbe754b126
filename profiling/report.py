"""How the steps of gpu_report.py ended, and their tables, as JSON and Markdown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiling.exports import Row, markdown
from profiling.requirements import MISSING

STEPS = "steps.jsonl"
NOTHING_COLLECTED = 5  # exit code of pytest


def outcome(code: int, log: str, junit: str | None = None) -> tuple[str, str]:
    """(ok, skipped or failed, one line of detail) from the exit code, the output and the file of test results.

    pytest leaves with MISSING too, where it was interrupted: a step with tests never fails to find what it needs.
    """
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no output")
    if code == MISSING and junit is None:
        return "skipped", last
    if code not in (0, NOTHING_COLLECTED):
        return "failed", f"exit code {code}: {last}"
    if junit is not None:
        return test_outcome(Path(junit).read_text())
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


def add(folder: Path, step: dict[str, Any]) -> dict[str, Any]:
    """Append a record with the keys step, status, seconds and detail; returns it."""
    with (folder / STEPS).open("a") as stream:
        stream.write(json.dumps(step) + "\n")
    return step


def line(step: Mapping[str, Any]) -> str:
    return f"{step['status']:>10}  {step['step']}  {step['seconds']:.0f} s  {step['detail']}".rstrip()


def steps(folder: Path) -> list[dict[str, Any]]:
    """The last record of every step, in the order in which they first ran."""
    path = folder / STEPS
    records = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    return list({record["step"]: record for record in records}.values())


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """Steps that need not run again."""
    return {step["step"]: step for step in steps(folder) if step["status"] != "unfinished"}


def benchmark_rows(record: dict[str, Any]) -> list[Row]:
    """One row per benchmark of a pytest-benchmark JSON record, with the clocks that its extra_info holds."""
    extras = ("kernel_us", "operator_us", "host_us", "peak_mib")
    return [
        {"benchmark": bench["name"], "median us": bench["stats"]["median"] * 1e6}
        | {name: bench["extra_info"].get(name) for name in extras}
        for bench in record["benchmarks"]
    ]


def write(folder: Path, facts: Mapping[str, Any]) -> str:
    """report.json and report.md from the facts of the machine, the steps and the tables in the folder."""
    rows = steps(folder)
    (folder / "report.json").write_text(json.dumps({"machine": facts, "steps": rows}, indent=1) + "\n")
    parts = ["# " + folder.name, "\n".join(f"- {name}: {value}" for name, value in facts.items()), markdown(rows)]
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
