"""Writes the posterior of hard EM on a GPU; contract as in emnesy_gpu.reference.map_marginals."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.results import float_dtype


@triton.jit
def _prior_of(logits_ptr, offset, wanted, k, COMPUTE: tl.constexpr, WIDTH: tl.constexpr):
    """The largest logit, 0 if there is none, and the sum of exp(logit - largest) of wanted symbols [SYMBOLS, 1]."""
    high = tl.full(offset.shape, float("-inf"), COMPUTE)
    for first in range(0, k, WIDTH):
        value = first + tl.arange(0, WIDTH)[None, :]
        logits = tl.load(logits_ptr + offset + value, mask=wanted & (value < k), other=float("-inf"))
        high = tl.maximum(high, tl.max(bounded(logits).to(COMPUTE), 1, keep_dims=True))
    high = tl.where(high > float("-inf"), high, 0.0)
    total = tl.zeros(offset.shape, COMPUTE)
    for first in range(0, k, WIDTH):
        value = first + tl.arange(0, WIDTH)[None, :]
        logits = tl.load(logits_ptr + offset + value, mask=wanted & (value < k), other=float("-inf"))
        total += tl.sum(exp2((bounded(logits).to(COMPUTE) - high) * LOG2_E), 1, keep_dims=True)
    return high, total


@triton.jit(do_not_specialize=["size", "n", "k", "chosen_step"])
def map_marginals_kernel(
    logits_ptr, chosen_ptr, possible_ptr, out_ptr, size, n, k, chosen_step, SYMBOLS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """Some symbols of the batch. Grid (ceil(size / SYMBOLS),), where size is batch * n.

    logits and out [size, k], chosen int64 [batch, n] of rows chosen_step apart, possible uint8 [batch].
    """
    COMPUTE: tl.constexpr = out_ptr.dtype.element_ty
    symbol = tl.program_id(0).to(tl.int64) * SYMBOLS + tl.arange(0, SYMBOLS)[:, None]
    exists = symbol < size
    chosen = tl.load(chosen_ptr + symbol // n * chosen_step + symbol % n, mask=exists, other=0)
    others = exists & (tl.load(possible_ptr + symbol // n, mask=exists, other=1) == 0)
    high = tl.zeros((SYMBOLS, 1), COMPUTE)
    total = tl.zeros((SYMBOLS, 1), COMPUTE) + 1.0
    if tl.max(others.to(tl.int32)) > 0:
        high, total = _prior_of(logits_ptr, symbol * k, others, k, COMPUTE, WIDTH)
    for first in range(0, k, WIDTH):
        value = first + tl.arange(0, WIDTH)[None, :]
        out = tl.where(value == chosen, 1.0, 0.0).to(COMPUTE)
        logits = tl.load(logits_ptr + symbol * k + value, mask=others & (value < k), other=0.0)
        prior = exp2((bounded(logits).to(COMPUTE) - high) * LOG2_E) * (1.0 / total)
        tl.store(out_ptr + symbol * k + value, tl.where(others, prior, out), mask=exists & (value < k))


def map_marginals(logits: torch.Tensor, assignment: torch.Tensor, possible: torch.Tensor) -> torch.Tensor:
    """The posterior [batch, n, k] of logits [batch, n, k], an assignment [batch, n] and possible rows [batch]."""
    batch, n, k = logits.shape
    logits = logits.contiguous()
    chosen = assignment if assignment.stride(1) == 1 else assignment.contiguous()
    out = torch.empty_like(logits, dtype=float_dtype(logits))
    symbols, width = launch_config.map_marginals(k)
    if batch * n > 0:
        with torch.cuda.device_of(logits):
            map_marginals_kernel[(triton.cdiv(batch * n, symbols),)](
                logits, chosen, possible.view(torch.uint8), out, batch * n, n, k, chosen.stride(0), SYMBOLS=symbols, WIDTH=width,
                **rounded_once(4),
            )  # fmt: skip
    return out
