"""Labels of several entries as rows of tables: codes int64 [batch, M], -1 for an entry that is not given."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.kernels.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """int32 [batch, M]: 0 where an entry is not given, -1 for codes that do not exist, else its row.

    codes: int32 [M, Q + 3], the row of each code of an entry in column code + 2: 0 for code -1, and -1 for codes that
    do not exist, as in the first and the last column.
    """
    columns = (label + 2).clamp_(0, codes.shape[1] - 1)
    if len(codes) == 1:
        return codes.take(columns)
    return codes.gather(1, columns.T).T.contiguous()


def raise_for_status(status: Tensor, logits: Tensor, label: Tensor, rows: Tensor) -> None:
    """Raise ValueError for the first row whose label or logits are not allowed (synchronises a GPU)."""
    highest = int(status.max()) if status.numel() else POSSIBLE
    if highest < INVALID_LOGITS:
        return
    if highest == INVALID_LABEL:
        row, entry = (rows < 0).nonzero()[0].tolist()
        raise ValueError(
            f"label[{row}, {entry}] must be the code of a label, see encode() and labels, or -1 for none, got "
            f"{int(label[row, entry])}"
        )
    checks.raise_for_status(status, logits, label, "the code of a label", 0)


def check_values(logits: Tensor, label: Tensor, codes: Tensor) -> None:
    """Raise for logits that are no prior and for codes that no label has (synchronises a GPU)."""
    rows = label_rows(label, codes)
    status = checks.row_status(logits, label, None)
    raise_for_status(torch.where((rows < 0).any(1), INVALID_LABEL, status), logits, label, rows)
