"""The label of a factor graph: 1, all factors hold, or -1, not given, which mean the same."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common import symbol_rows
from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.factor_graph_tables import BROKEN


@lane_function
def row_status(logits, label):
    """INVALID_LABEL, INVALID_LOGITS or POSSIBLE (so far), for one row [n, K] and its label."""
    return symbol_rows.row_status(logits, 1 if label == 1 or label == -1 else BROKEN)
