"""Measures the rates of a GPU and every launch of tests/kernel_registry on it, beside their modelled times.

    python -m tests.kernel_calibration [STEM ...] --json calibration.json --markdown calibration.md
    python -m tests.kernel_calibration --from calibration.json

profiling/calibrate.py says what the figures are. Entries that are slow to compile are left out without --slow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from emnesy_gpu.benchmarks.clocks import kernel_seconds
from emnesy_gpu.benchmarks.measure import machine
from profiling import calibrate
from profiling.exports import Row
from profiling.requirements import leave, missing_gpu
from tests import kernel_budgets
from tests.backends import move
from tests.kernel_registry import ENTRIES, Entry

FILLED = 1e-3
"""Seconds that all rows would take by the model: enough blocks that the last of them count little."""

MOST_ROWS, MOST_BYTES = 1 << 16, 1 << 31


def filled(entry: Entry, nanoseconds: float) -> tuple[Any, ...]:
    """The arguments with the rows repeated until they would take FILLED seconds, within MOST_ROWS and MOST_BYTES."""
    arguments = entry.draw()
    batch = arguments[: entry.n_row_arguments]
    row_bytes = max(sum(argument.nbytes for argument in batch) // entry.rows, 1)
    rows = max(entry.rows, min(round(FILLED * 1e9 / nanoseconds), MOST_ROWS, MOST_BYTES // row_bytes))
    chosen = torch.arange(rows) % entry.rows
    return *(argument[chosen].contiguous() for argument in batch), *arguments[entry.n_row_arguments :]


def measured(entries: Sequence[Entry], device: torch.device) -> Iterator[Row]:
    """Nanoseconds of kernels a row; an entry that fails says why, and the others follow."""
    budgets = kernel_budgets.read()["budgets"]
    for entry in entries:
        row: Row = {"entry": str(entry), "rows": None, "ns a row": None, "error": None}
        try:
            arguments = move(filled(entry, budgets[str(entry)][kernel_budgets.MODELLED]["nanoseconds"]), str(device))
            rows = len(arguments[0])
            entry.run("kernels.gpu", arguments)
            seconds = kernel_seconds(lambda: entry.run("kernels.gpu", arguments), device, calls=5)  # noqa: B023
            yield row | {"rows": float(rows), "ns a row": None if seconds is None else seconds * 1e9 / rows}
        except Exception as error:
            yield row | {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def tables(record: dict[str, Any]) -> str:
    budgets = kernel_budgets.read()["budgets"]
    modelled = {name: budget[kernel_budgets.MODELLED] for name, budget in budgets.items()}
    rows = calibrate.calibrated(record["entries"], record["rates"], modelled)
    return calibrate.report(record["gpu"], record["rates"], rows)


def publish(record: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(tables(record))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kernel_calibration", description=__doc__.partition("\n")[0])
    parser.add_argument("stems", nargs="*", metavar="STEM", help="default: all")
    parser.add_argument("--slow", action="store_true", help="also entries that are slow to compile")
    parser.add_argument("--from", dest="recorded", type=Path, metavar="FILE", help="recorded figures, no GPU needed")
    for name in ("json", "markdown"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    record = json.loads(options.recorded.read_text()) if options.recorded else measure(options)
    print(tables(record))
    publish(record, options)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    reason = missing_gpu()
    if reason is not None:
        leave("kernel_calibration", reason)
    device = torch.device("cuda")
    facts = machine(device)
    record = {"gpu": facts["gpu"], "machine": facts, "rates": calibrate.measure_rates(device), "entries": []}
    entries = [e for e in ENTRIES if e.stem in (options.stems or {e.stem}) and (options.slow or not e.slow)]
    for row in measured(entries, device):
        record["entries"].append(row)
        print(json.dumps(row), flush=True)
        publish(record, options)
    return record


if __name__ == "__main__":
    raise SystemExit(main())
