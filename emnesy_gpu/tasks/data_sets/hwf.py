"""Handwritten formulas (HWF): images of characters, and the values of formulas.

expr_train.json, expr_test.json hold a list of {"id", "expr": "1+2*3", "img_paths": ["1/a.jpg", "+/b.jpg", ...], "res"}.
Handwritten_Math_Symbols/ has a folder of images for each character: 0 to 9, +, -, times, div.

(Li et al., "Closed loop neural-symbolic learning via integrating neural perception, grammar parsing, and symbolic
reasoning", 2020.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emnesy_gpu.tasks.data_sets.json_files import read_json
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.files.extras import require

CHARACTERS = "0123456789+-*/"
"""The characters in the order of their classes, which is that of ``em.rules.formula(..., one_alphabet=True)``."""

FOLDERS = dict(zip(CHARACTERS, [*"0123456789", "+", "-", "times", "div"], strict=True))
BLANK = len(CHARACTERS)
"""The class of the black image behind shorter formulas."""

IMAGES = "Handwritten_Math_Symbols"
EXPRESSION = re.compile(r"[0-9](?:[-+*/][0-9]){0,49}")
LARGEST_SIDE = 512
"""Pixels along a side of an image; the published ones have 45."""

TOLERANCE = 1e-3
"""By which the value of a file may differ from the exact one, as a share of 1 + |value|."""


class Formulas(NamedTuple):
    """Formulas of images.

    pixels: uint8 [m, height, width], each image once, as in the files; the last one is black if lengths differ.
    classes: int64 [m], places in ``CHARACTERS``, and ``BLANK``. rows: int64 [n, longest], the images of each formula,
    and the black one behind shorter ones. lengths: int64 [n]. values: the exact value of each formula.
    """

    pixels: Tensor
    classes: Tensor
    rows: Tensor
    lengths: Tensor
    values: list[Fraction]


def read(folder: Path, part: str = "train") -> Formulas:
    """Read the formulas of a part of HWF, such as "train" or "test".

    Labels of ``rule = em.rules.formula(longest, range(10), "+-*/", one_alphabet=True, variable_length=True)`` are
    ``rule.encode(values)``, and its symbols are ``classes[rows]``.

    Raises DataError, with the file and the number of the formula, for what is missing or of another kind, for paths out
    of the folder, for images of several sizes, and where the value of a formula is not that of the file.
    """
    path = folder / f"expr_{part}.json"
    records = read_json(path, list, 'a list of {"expr", "img_paths", "res"}')
    if not records:
        raise DataError(f"{path} has no formula")
    names: dict[str, int] = {}
    values, rows = [], []
    for number, record in enumerate(records):
        paths, value = _checked(f"{path}, formula {number}", record)
        values.append(value)
        rows.append([names.setdefault(name, len(names)) for name in paths])
    return _assemble(folder / IMAGES, list(names), rows, values)


def value_of(expression: str) -> Fraction:
    """Return the exact value of digits and operators, * and / first; ZeroDivisionError where it has none.

    >>> value_of("1/2+3"), value_of("8-2*3")
    (Fraction(7, 2), Fraction(2, 1))
    """
    total, term = Fraction(0), Fraction(int(expression[0]))
    for operator, digit in zip(expression[1::2], expression[2::2], strict=True):
        number = int(digit)
        if operator in "+-":
            total, term = total + term, Fraction(number if operator == "+" else -number)
        else:
            term = term * number if operator == "*" else term / number
    return total + term


def _checked(where: str, record: Any) -> tuple[list[str], Fraction]:
    """Return the paths of the images and the value of a record that is sound."""
    if not isinstance(record, dict):
        raise DataError(f'{where} must be {{"expr", "img_paths", "res"}}, got {type(record).__name__}')
    expression, paths, result = (record.get(name) for name in ("expr", "img_paths", "res"))
    if not isinstance(expression, str) or not EXPRESSION.fullmatch(expression):
        raise DataError(f"{where}: expr must be digits and + - * / in turn, got {_short(expression)}")
    if not isinstance(paths, list) or len(paths) != len(expression):
        raise DataError(f"{where}: img_paths must have one path for each of {expression}, got {_short(paths)}")
    for character, name in zip(expression, paths, strict=True):
        parts = PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
        if len(parts) != 2 or parts[0] != FOLDERS[character] or parts[1] == "..":
            raise DataError(f"{where}: {character} must have an image {FOLDERS[character]}/FILE, got {_short(name)}")
    try:
        value = value_of(expression)
    except ZeroDivisionError as error:
        raise DataError(f"{where}: {expression} divides by 0") from error
    if not _is_close(result, value):
        raise DataError(f"{where}: res must be the value of {expression}, {float(value):g}, got {_short(result)}")
    return paths, value


def _is_close(result: object, value: Fraction) -> bool:
    """Whether what a file has is a number near a value; fractions compare exactly, however large it is."""
    if not isinstance(result, (int, float)) or isinstance(result, bool):
        return False
    if isinstance(result, float) and not math.isfinite(result):
        return False
    return abs(value - Fraction(result)) <= TOLERANCE * (1 + abs(value))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _assemble(folder: Path, names: list[str], rows: list[list[int]], values: list[Fraction]) -> Formulas:
    pixels = _read_images(folder, names)
    characters = {name: number for number, name in enumerate(FOLDERS.values())}
    classes = [characters[name.partition("/")[0]] for name in names]
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    if int(lengths.min()) < longest:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
        classes.append(BLANK)
    padded = torch.tensor([row + [len(classes) - 1] * (longest - len(row)) for row in rows])
    return Formulas(torch.from_numpy(pixels), torch.tensor(classes), padded, lengths, values)


def _read_images(folder: Path, names: Iterable[str]) -> NDArray[np.uint8]:
    """Return grey images of one size, uint8 [m, height, width]."""
    image, read, size = require("PIL.Image"), [], None
    for name in names:
        path = folder / name
        try:
            with image.open(path) as file:
                size = size or file.size
                if file.size != size or max(size) > LARGEST_SIDE:
                    raise DataError(
                        f"{path} must have the size of the other images, at most {LARGEST_SIDE} x {LARGEST_SIDE}: "
                        f"{size[0]} x {size[1]}, got {file.size[0]} x {file.size[1]}"
                    )
                read.append(np.asarray(file.convert("L")))
        except FileNotFoundError as error:
            raise DataError(f"{path} is missing") from error
        except DataError:
            raise
        except Exception as error:  # PIL raises errors of many kinds, one of its own for pictures that are too large
            raise DataError(f"{path} is no image: {error}") from error
    return np.stack(read)
