"""What a file says beside the circuit itself: the shape of the symbols and the labels, as JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from math import prod
from os import PathLike
from typing import Any

from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.errors import CircuitFileError

Notes = tuple[tuple[int, ...], list[list[Hashable]], bool]
"""latent_shape, the labels of the values of each entry, and whether the label is a sequence of entries."""


def write_notes(latent_shape: tuple[int, ...], labels: Sequence[Sequence[Hashable]], has_entries: bool) -> str:
    """Raise TypeError for labels that are not integers, bools, text, None or tuples of these."""
    for entry in labels:
        for label in entry:
            _check_label(label)
    return json.dumps({"latent_shape": latent_shape, "labels": labels, "has_entries": has_entries})


def _check_label(label: Any) -> None:
    if isinstance(label, tuple):
        for part in label:
            _check_label(part)
    elif not (label is None or type(label) in (bool, int, str)):
        raise TypeError(f"labels in files must be integers, bools, text, None or tuples of these, got {label!r}")


def read_notes(notes: str, graph: Graph, path: str | PathLike[str]) -> Notes:
    """Raise CircuitFileError for notes that do not belong to the circuit."""
    try:
        found = json.loads(notes)
        shape = tuple(int(size) for size in found["latent_shape"])
        labels: list[list[Hashable]] = [[_as_label(label) for label in entry] for entry in found["labels"]]
        has_entries = bool(found["has_entries"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CircuitFileError(f"{path} is no circuit with labels: {type(error).__name__}") from error
    different = tuple(len(set(entry)) for entry in labels)
    if prod(shape) != graph.n_symbols or different != graph.given or different != tuple(map(len, labels)):
        raise CircuitFileError(f"{path} is no circuit with labels: its shape and labels do not fit the circuit")
    if len(labels) != 1 and not has_entries:
        raise CircuitFileError(f"{path} is no circuit with labels: {len(labels)} entries for one label")
    return shape, labels, has_entries


def _as_label(label: Any) -> Hashable:
    if isinstance(label, list):
        return tuple(map(_as_label, label))
    if label is None or type(label) in (bool, int, str):
        return label
    raise TypeError(f"{label!r} is no label")
