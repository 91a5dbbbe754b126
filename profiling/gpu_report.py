"""Everything that a GPU can tell about this package, the most valuable first, in pieces that a time limit may cut.

    profiling/gpu_report.sh                                 540 seconds; the same command again goes on
    STEPS="doctor tests" profiling/gpu_report.sh            these steps alone
    profiling/gpu_report.sh --list                          the steps, and what each may take

    --seconds 540       of this call; no step runs longer (0: no limit)
    --steps NAME ...    these alone, or the names in STEPS; by default all but those on request
    --results DIR       where folders of results go, or RESULTS; by default profiling/results
    --jobs 12           processes for the tests, or JOBS
    --again             finished steps too

Results lie in RESULTS/<gpu>-<date>/: report.md and report.json, written after every step, and the records and logs of
the steps beside them; <gpu>-<date>.tgz holds all of it, or the smaller files of it up to 16 MiB. A step ends as ok,
skipped (with the reason), or failed (also at its own time limit); the next call keeps it. A step that the end of the
call cuts is unfinished, and the next call begins it anew. Exit code 1 if a step failed.
Without a GPU all but the doctor are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from profiling import report
from profiling.requirements import MISSING

ROOT = Path(__file__).parent.parent
ARCHIVE_BYTES = 16 << 20
LEAST_SECONDS = 10
"""A step begins only if the call has so much time left."""

CLOSING_SECONDS = 10
"""What a call keeps for the report and the archive."""

CUT_OFF = 124
ALONE = ("tests/test_cuda.py", "tests/test_profiling.py")
"""Tests of times and of memory: no other process may use the GPU."""

COUNTED = (
    ("posterior", "4", 65536), ("posterior", "15", 65536), ("posterior", "100", 65536), ("sudoku/fused", "9", 4096),
    ("sampling/fused", "1024", 256), ("sampling/Gibbs-8x20", "1024", 256), ("automaton/fused", "64", 4096),
    ("circuit/fused", "permutation-of-8", 4096), ("shortest_path/fused", "12", 256), ("em_gradient", "15", 65536),
    ("map", "15", 16384), ("sample", "15", 16384),
)  # fmt: skip
"""Work, size and batch whose kernels ncu counts."""


class Step(NamedTuple):
    """A command, and how many seconds it may take; ``out`` in its words stands for the folder of the results."""

    name: str
    seconds: int
    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    needs_gpu: bool = True
    on_request: bool = False

    @property
    def junit(self) -> bool:
        return "--junit-xml" in self.command


def every_step(jobs: int) -> list[Step]:
    """The most valuable first."""
    cuda, slow = _tests("cuda"), _tests("cuda and slow")
    spread = ("-n", str(jobs)) if importlib.util.find_spec("xdist") else ()
    apart = tuple(f"--ignore={path}" for path in ALONE)
    sanitizer = ("compute-sanitizer", "--print-limit", "5", "--error-exitcode", "1", "--tool")
    traced = (sys.executable, "-m", "profiling.trace", "run")
    return [
        Step("doctor", 120, (sys.executable, "-m", "emnesy_gpu.doctor", "--json"), needs_gpu=False),
        Step("tests", 330, (*cuda, "tests", *spread, *apart, "--maxfail=60", "--junit-xml", "out/tests.xml")),
        Step("tests-alone", 90, (*cuda, *ALONE, "--junit-xml", "out/tests-alone.xml")),
        Step("timings", 180, _script("profiling.timings", "timings")),
        Step("calibration", 150, _script("tests.kernel_calibration", "calibration")),
        *_counters(),
        Step("memory", 40, _script("profiling.memory", "memory")),
        Step("memcheck", 90, (*sanitizer, "memcheck", *traced, "sudoku/fused", "--batch", "64", "--repeat", "1")),
        Step("racecheck", 90, (*sanitizer, "racecheck", *traced, "posterior", "--batch", "64", "--repeat", "1")),
        Step("tests-slow", 330, (*slow, "tests", "--slow", *spread, *apart, "--junit-xml", "out/tests-slow.xml")),
        _nsight("nsys-op", "nsys.sh", 60, "posterior", "--size", "15", "--batch", "1024"),
        _nsight("nsys-step", "nsys.sh", 60, "step", "--size", "15", "--batch", "64"),
        Step("benchmarks", 1800, (*cuda, "--benchmark-only", "--benchmark-json", "out/benchmarks.json",
             "--junit-xml", "out/benchmarks.xml"), on_request=True),
    ]  # fmt: skip


def _tests(marked: str) -> tuple[str, ...]:
    return sys.executable, "-m", "pytest", "-m", marked, "-q", "-rfE", "--tb=short"


def _script(module: str, name: str) -> tuple[str, ...]:
    return sys.executable, "-m", module, "--json", f"out/{name}.json", "--markdown", f"out/{name}.md"


def _counters() -> Iterator[Step]:
    for work, size, batch in COUNTED:
        name = f"ncu-{work.replace('/', '-')}-{size}"
        yield _nsight(name, "ncu.sh", 60, work, "--size", size, "--batch", str(batch))


def _nsight(name: str, script: str, seconds: int, *work: str) -> Step:
    return Step(name, seconds, (f"profiling/{script}", *work), {"OUT": f"out/{name}"})


def run(step: Step, out: Path, seconds: float) -> int:
    """The exit code, CUT_OFF after so many seconds; the output goes to <step>.log."""
    in_folder = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    in_folder |= {name: _placed(value, out) for name, value in step.environment.items()}
    with (out / f"{step.name}.log").open("w") as log:
        try:
            process = subprocess.Popen(
                [_placed(word, out) for word in step.command],
                cwd=ROOT, env=os.environ | in_folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            log.write(f"{step.command[0]} is not on the PATH\n")
            return MISSING
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            _stop(process)
            return CUT_OFF


def _placed(word: str, out: Path) -> str:
    return re.sub(r"^out/", f"{out.resolve()}/", word)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, after which pytest still writes its results; then for good, with all of its children."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def record(step: Step, out: Path, facts: Mapping[str, Any], left: float) -> dict[str, Any]:
    """Run a step within what is left of the call, and append how it ended to the steps of the folder."""
    start = time.monotonic()
    if step.needs_gpu and "gpu missing" in facts:
        code, status, detail = MISSING, "skipped", str(facts["gpu missing"])
    else:
        code = run(step, out, min(step.seconds, left))
        junit = f"{out}/{step.name}.xml" if step.junit else None
        status, detail = report.outcome(code, (out / f"{step.name}.log").read_text(errors="replace"), junit)
    seconds = round(time.monotonic() - start, 1)
    if code == CUT_OFF:
        ended = "failed" if seconds >= step.seconds else "unfinished"
        status, detail = ended, f"cut off after {seconds:.0f} s; {detail}"
    return report.add(out, {"step": step.name, "status": status, "seconds": seconds, "detail": detail})


def archive(out: Path, most: int = ARCHIVE_BYTES) -> list[str]:
    """Pack the folder beside itself, smaller files first; the names of files that do not fit into ``most`` bytes."""
    files = sorted((path for path in out.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    left, dropped = most - (1 << 16), []
    with tarfile.open(out.with_name(f"{out.name}.tgz"), "w:gz") as packed:
        for path in files:
            size = 1024 + len(gzip.compress(path.read_bytes()))
            if size <= left:
                packed.add(path, path.relative_to(out.parent))
                left -= size
            else:
                dropped.append(str(path.relative_to(out)))
    return dropped


def folder_name(facts: Mapping[str, Any], day: datetime.date) -> str:
    gpu = str(facts.get("gpu", "no gpu")).lower()
    return f"{re.sub(r'[^a-z0-9]+', '-', gpu).strip('-')}-{day.isoformat()}"


def chosen(options: argparse.Namespace, finished: Mapping[str, Any]) -> list[Step]:
    steps = every_step(options.jobs)
    unknown = set(options.steps) - {step.name for step in steps}
    if unknown:
        raise SystemExit(f"no such steps: {' '.join(sorted(unknown))}; steps: {' '.join(step.name for step in steps)}")
    wanted = [step for step in steps if step.name in options.steps or not (options.steps or step.on_request)]
    return [step for step in wanted if options.again or step.name not in finished]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    given = os.environ
    parser = argparse.ArgumentParser(prog="gpu_report", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", nargs="+", default=given.get("STEPS", "").split(), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--results", type=Path, default=Path(given.get("RESULTS", ROOT / "profiling" / "results")))
    parser.add_argument("--jobs", type=int, default=int(given.get("JOBS", min(12, os.cpu_count() or 1))))
    parser.add_argument("--again", action="store_true", help="run finished steps too")
    parser.add_argument("--list", action="store_true", help="print the steps and their time limits")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    end = time.monotonic() + (options.seconds or float("inf")) - CLOSING_SECONDS
    if options.list:
        print("\n".join(f"{s.seconds:5} s  {s.name}{', on request' * s.on_request}" for s in every_step(options.jobs)))
        return 0
    facts = json.loads(subprocess.check_output([sys.executable, "-m", "profiling.machine"], cwd=ROOT, text=True))
    out = options.results / folder_name(facts, datetime.date.today())
    out.mkdir(parents=True, exist_ok=True)
    print(f"results: {out}", flush=True)
    for step in chosen(options, report.finished(out)):
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            print(f"no time is left for {step.name}: the same command goes on with it", flush=True)
            break
        print(report.line(record(step, out, facts, left)), flush=True)
        report.write(out, facts)
    dropped = archive(out)
    print(f"report: {out / 'report.md'}", *(f"not in the archive: {name}" for name in dropped), sep="\n")
    return 1 if any(row["status"] == "failed" for row in report.steps(out)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
