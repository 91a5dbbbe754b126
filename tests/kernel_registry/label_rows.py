"""Rows of tables for the codes of labels, also of codes that do not exist."""

from __future__ import annotations

from typing import Any

import torch

from tests.kernel_registry.entry import Entry


def _draw() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(-4, 12, (101, 3), generator=generator)
    codes = torch.randint(1, 9, (3, 10), generator=generator, dtype=torch.int32)
    codes[:, 0], codes[:, 1], codes[:, -1] = -1, 0, -1
    return label, codes


ENTRIES = [Entry("label_rows", "label_rows", "3 entries", _draw, n_row_arguments=1, variants=True)]
