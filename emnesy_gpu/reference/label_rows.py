"""Labels of several entries as rows of tables."""

from __future__ import annotations

from torch import Tensor


def label_rows(label: Tensor, codes: Tensor) -> Tensor:
    """int32 [batch, M]: 0 where an entry is not given, -1 for codes that do not exist, else its row.

    label: int64 [batch, M], -1 for an entry that is not given.
    codes: int32 [M, Q + 3], the row of each code of an entry in column code + 2: 0 for code -1, and -1 for codes that
    do not exist, as in the first and the last column.
    """
    columns = (label + 2).clamp_(0, codes.shape[1] - 1)
    if len(codes) == 1:
        return codes.take(columns)
    return codes.gather(1, columns.T).T.contiguous()
