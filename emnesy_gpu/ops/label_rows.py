"""Labels of several entries as rows of tables: codes int64 [batch, M], -1 for an entry that is not given."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.row_parts import status_of_rows
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """int32 [batch, M] of labels with M entries on any axes, see ``emnesy_gpu.reference.label_rows``."""
    entries = label.reshape(label.shape[0], codes.shape[0])
    rows: Tensor = kernels_for("label_rows", label.device).label_rows(entries, codes)
    return rows


def raise_for_status(status: Tensor, logits: Tensor, label: Tensor, rows: Tensor) -> None:
    """Raise ValueError for the first row whose label or logits are not allowed (synchronises a GPU)."""
    highest = checks.highest(status)
    if highest < INVALID_LOGITS:
        return
    if highest == INVALID_LABEL:
        row, entry = (rows < 0).nonzero()[0].tolist()
        raise ValueError(
            f"label[{row}, {entry}] must be the code of a label, see encode() and labels, or -1 for none, got "
            f"{int(label.reshape(rows.shape)[row, entry])}"
        )
    checks.raise_for_status(status, logits, label, "the code of a label", 0)


def check_values(logits: Tensor, label: Tensor, codes: Tensor) -> None:
    """Raise for logits that are no prior and for codes that no label has (synchronises a GPU)."""
    rows = label_rows(label, codes)
    status = status_of_rows(logits, label, None)
    raise_for_status(torch.where((rows < 0).any(1), INVALID_LABEL, status), logits, label, rows)
