"""The file of records, ``results.jsonl``: one JSON object a line, in the order in which experiments finished."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.registry import TASKS

NUMBER = (int, float)
STATES = ("done", "timeout", "out_of_memory", "diverged", "failed")
KINDS = ("training", "e_step")

CUT_OFF = object()

BASIC: dict[str, Any] = {"key": str, "status": STATES}
"""What tells which experiments are finished: field -> its types, or its values."""

COMPLETE: dict[str, dict[str, Any]] = {
    "": {"kind": KINDS, "task": tuple(TASKS), "size": int, "limit_minutes": NUMBER},
    "training": {"method": tuple(METHODS), "seed": int, "augment": bool},
    "training done": {
        "figures": dict,
        "epochs": int,
        "cpu_minutes": NUMBER,
        "seconds_e_per_epoch": NUMBER,
        "seconds_m_per_epoch": NUMBER,
        "history": list,
    },
    "e_step": {"batch": int},
    "e_step done": {"method": tuple(METHODS), "seconds": NUMBER},
}
"""What tables and figures need besides: of all records, of those of a kind, and of those that have a result."""


def read(path: Path, complete: bool = False) -> list[dict[str, Any]]:
    """Return the records; a line that a crash cut off counts as not written.

    complete: whether they must have all that tables and figures need. DataError names the line and the field.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = _parse(line, number == len(lines))
            if record is not CUT_OFF:
                _check(record, complete)
                found.append(record)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no record: {error}") from error
    return found


def append(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records, each on a line of its own; a last line that a crash cut off is removed."""
    with path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            kept = content.rpartition(b"\n")
            if _is_json(kept[2]):
                file.write(b"\n")
            else:
                file.truncate(len(kept[0] + kept[1]))
        file.write("".join(json.dumps(record) + "\n" for record in records).encode())


def _parse(line: str, last: bool) -> Any:
    """Return the value of a line, or CUT_OFF: earlier versions have left such lines inside."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        if last or (line.startswith("{") and not line.endswith("}")):
            return CUT_OFF
        raise


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _check(record: Any, complete: bool) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"it must be an object, got {type(record).__name__}")
    _check_fields(record, BASIC)
    if not complete:
        return
    _check_fields(record, COMPLETE[""])
    _check_fields(record, COMPLETE[record["kind"]])
    if record["status"] == "done":
        _check_fields(record, COMPLETE[f"{record['kind']} done"])
        if record["kind"] == "training":
            _check_fields(record["figures"], {"accuracy": NUMBER})


def _check_fields(record: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, expected in fields.items():
        value = record.get(name)
        types = expected if isinstance(expected, type) or expected is NUMBER else None
        if not isinstance(value, types) if types else value not in expected:
            words = getattr(types, "__name__", "a number") if types else f"one of {', '.join(expected)}"
            raise ValueError(f"{name} must be {words}, got {repr(value)[:60]}")
