"""Gives kernels the row status codes of emnesy_gpu.kernels.status; of two codes that apply, the larger is reported."""

import triton.language as tl

from emnesy_gpu.kernels import status

POSSIBLE = tl.constexpr(status.POSSIBLE)
IMPOSSIBLE = tl.constexpr(status.IMPOSSIBLE)
INVALID_LOGITS = tl.constexpr(status.INVALID_LOGITS)
INVALID_LABEL = tl.constexpr(status.INVALID_LABEL)
