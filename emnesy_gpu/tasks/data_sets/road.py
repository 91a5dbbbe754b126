"""Road scenes with requirements: the annotations of ROAD and ROAD-Waymo, and the clauses of ROAD-R.

    road_trainval_v1.0.json         labels of agents, actions and locations for boxes in frames of videos
    requirements_dimacs.txt         clauses over these labels, variable 1 for the first agent

(Singh et al., "ROAD: the road event awareness dataset for autonomous driving", 2022; Giunchiglia et al., "ROAD-R: the
autonomous driving dataset with logical requirements", 2023.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.circuits.dimacs import read_clauses
from emnesy_gpu.errors import CircuitFileError
from emnesy_gpu.tasks.data_sets.json_files import read_json
from emnesy_gpu.tasks.files.errors import DataError

KINDS = ("agent", "action", "loc")
"""The kinds of labels in the order of their variables."""


class Requirements(NamedTuple):
    """Clauses over labels: v says that label v - 1 is there, -v that it is not; one literal of each clause holds."""

    n_labels: int
    clauses: list[list[int]]

    def violated(self, truth: Tensor) -> Tensor:
        """Return which clauses fail: bool [n, n_labels] -> bool [n, clauses]. Raises ValueError for another shape."""
        if truth.dtype != torch.bool or truth.dim() != 2 or truth.shape[1] != self.n_labels:
            raise ValueError(f"truth must be bool [n, {self.n_labels}], got {truth.dtype} {list(truth.shape)}")
        columns = []
        for clause in self.clauses:
            index = torch.tensor(clause, dtype=torch.long, device=truth.device)
            columns.append((truth[:, index.abs() - 1] != (index > 0)).all(1))
        return torch.stack(columns, 1) if columns else truth.new_zeros(len(truth), 0)


class Boxes(NamedTuple):
    """Labelled boxes of frames.

    labels: the names of agents, actions and locations; label i is variable i + 1 of the requirements. truth: bool [n,
    labels]. corners: float32 [n, 4], xmin, ymin, xmax and ymax as shares of the frame. places: video, frame and box.
    """

    labels: tuple[str, ...]
    truth: Tensor
    corners: Tensor
    places: list[tuple[str, str, str]]


def read_requirements(path: Path) -> Requirements:
    """Read clauses in the format of DIMACS; DataError names the file, the line and what is wrong.

    ``em.Circuit.from_cnf(requirements.clauses, n_symbols=requirements.n_labels)`` is the rule that all of them hold.
    """
    try:
        return Requirements(*read_clauses(path))
    except CircuitFileError as error:
        raise DataError(str(error)) from error


def read_annotations(path: Path, split: str | None = None) -> Boxes:
    """Read the labels of all boxes in annotated frames, of videos of a split such as "train_1"; None takes all videos.

    Labels that a file lists among ``all_agent_labels`` and the like, but not among ``agent_labels``, are left out, as
    the evaluation of ROAD does. Raises DataError, with the file and the place in it, for what is missing or of another
    kind, and for a split that no video has.
    """
    content = read_json(path, dict, "an object with labels and db")
    names = {kind: _names(path, content, f"{kind}_labels") for kind in KINDS}
    labels = tuple(name for kind in KINDS for name in names[kind])
    columns = {
        f"{kind}_ids": [_column(labels, names, kind, name) for name in _names(path, content, f"all_{kind}_labels")]
        for kind in KINDS
    }
    rows, corners, places = [], [], []
    for place, box in _boxes(path, content, split):
        where = f"{path}, video {place[0]}, frame {place[1]}, box {place[2]}"
        rows.append(_truth(where, box, columns, len(labels)))
        corners.append(_corners(where, box))
        places.append(place)
    if not places:
        raise DataError(f"{path} has no box in an annotated frame" + ("" if split is None else f" of split {split!r}"))
    return Boxes(labels, torch.tensor(rows), torch.tensor(corners), places)


def _names(path: Path, content: dict[str, Any], field: str) -> list[str]:
    names = content.get(field)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: {field} must be a list of names, got {type(names).__name__}")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: {field} has a name twice")
    return names


def _column(labels: tuple[str, ...], names: dict[str, list[str]], kind: str, name: str) -> int | None:
    """Return the column of a label of a kind; None where it is not used."""
    before = sum(len(names[other]) for other in KINDS[: KINDS.index(kind)])
    return before + names[kind].index(name) if name in names[kind] else None


def _boxes(path: Path, content: dict[str, Any], split: str | None) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield the place of each box in annotated frames, and the box."""
    for video, record in _items(f"{path}: db", content.get("db")):
        where = f"{path}, video {video}"
        if split is not None and split not in _list(f"{where}: split_ids", _field(where, record, "split_ids")):
            continue
        for frame, annotation in _items(f"{where}: frames", _field(where, record, "frames")):
            spot = f"{where}, frame {frame}"
            if _field(spot, annotation, "annotated"):  # a frame in which nothing was seen may have no annos
                for key, box in _items(f"{spot}: annos", annotation.get("annos", {})):
                    yield (video, frame, key), box


def _truth(where: str, box: Any, columns: dict[str, list[int | None]], n_labels: int) -> list[bool]:
    truth = [False] * n_labels
    for field, places in columns.items():
        for number in _list(f"{where}: {field}", _field(where, box, field)):
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(places):
                raise DataError(f"{where}: {field} must lie in 0..{len(places) - 1}, got {number!r:.40}")
            column = places[number]
            if column is not None:
                truth[column] = True
    return truth


def _corners(where: str, box: Any) -> list[float]:
    corners = _list(f"{where}: box", _field(where, box, "box"))
    numbers = [isinstance(corner, (int, float)) and not isinstance(corner, bool) for corner in corners]
    if (
        len(corners) != 4
        or not all(numbers)
        or not all(abs(corner) <= 2 and math.isfinite(corner) for corner in corners)
    ):
        raise DataError(f"{where}: box must be xmin, ymin, xmax, ymax as shares of the frame, got {corners!r:.60}")
    return [float(corner) for corner in corners]


def _field(where: str, record: Any, name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise DataError(f"{where} must be an object with {name}")
    return record[name]


def _items(where: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise DataError(f"{where} must be an object, got {type(value).__name__}")
    return value.items()


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where} must be a list, got {type(value).__name__}")
    return value
