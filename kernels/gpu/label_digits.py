"""Writes the labels of factors as symbols, on CUDA tensors; contract as in emnesy_gpu.reference.label_digits."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from emnesy_gpu.kernels.factor_graph_tables import LabelDigits
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.results import row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE

BLOCK = 256
NOT_GIVEN = tl.constexpr(-1)


@triton.jit
def _digit_logits(label_ptr, entry_ptr, n_labels_ptr, power_ptr, digit, value, K, inside):
    """The logits of values of digits."""
    entry = tl.load(entry_ptr + digit, mask=inside, other=0)
    found = tl.load(label_ptr + entry, mask=inside, other=0)
    known = (found >= NOT_GIVEN) & (found < tl.load(n_labels_ptr + digit, mask=inside, other=1))
    own = tl.maximum(found, 0) // tl.load(power_ptr + digit, mask=inside, other=1) % K
    certain = (own == value) | (found == NOT_GIVEN)
    return tl.where(known, tl.where(certain, 0.0, float("-inf")), float("nan"))


@triton.jit(do_not_specialize=["n", "n_entries", "n_digits", "k"])
def with_digits_kernel(
    logits_ptr, label_ptr, entry_ptr, n_labels_ptr, power_ptr, out_ptr, held_ptr, share_ptr, n, n_entries, n_digits, k,
    log_high, log_low, BLOCK: tl.constexpr,
):  # fmt: skip
    """A row of the batch. Grid (batch,). logits [batch, n, k], label [batch, n_entries], out [batch, n + n_digits, k]."""
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * n * k
    label_ptr += row * n_entries
    out_ptr += row * (n + n_digits) * k
    for start in range(0, (n + n_digits) * k, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < (n + n_digits) * k
        is_digit = inside & (at >= n * k)
        digit = tl.maximum(at - n * k, 0) // k
        own = _digit_logits(label_ptr, entry_ptr, n_labels_ptr, power_ptr, digit, at % k, k, is_digit)
        logits = tl.load(logits_ptr + at, mask=inside & ~is_digit, other=0.0)
        tl.store(out_ptr + at, tl.where(is_digit, own.to(logits.dtype), logits), mask=inside)
    missing = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, n_digits, BLOCK):
        digit = start + tl.arange(0, BLOCK)
        entry = tl.load(entry_ptr + digit, mask=digit < n_digits, other=0)
        label = tl.load(label_ptr + entry, mask=digit < n_digits, other=0)
        missing += (label == NOT_GIVEN).to(tl.int32)
    logarithm = tl.full((), 0, tl.float64) + log_high + log_low
    share = tl.sum(missing, 0).to(tl.float64) * logarithm
    tl.store(share_ptr + row, share.to(share_ptr.dtype.element_ty))
    tl.store(held_ptr + row, tl.full((), 1, tl.int64))


@triton.jit
def without_digits_kernel(evidence_ptr, status_ptr, share_ptr, out_ptr, possible_ptr, batch, BLOCK: tl.constexpr):
    """Grid (ceil(batch / BLOCK),)."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < batch
    evidence = tl.load(evidence_ptr + row, mask=inside, other=0.0)
    tl.store(out_ptr + row, evidence - tl.load(share_ptr + row, mask=inside, other=0.0), mask=inside)
    tl.store(possible_ptr + row, tl.load(status_ptr + row, mask=inside, other=0) == POSSIBLE, mask=inside)


def with_digits(
    logits: torch.Tensor, label: torch.Tensor, digits: LabelDigits
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [batch, n + E, K] of logits [batch, n, K], ones int64 [batch] and log_share [batch]."""
    (batch, n, k), n_digits = logits.shape, len(digits.entry)
    logits, label = logits.contiguous(), label.contiguous()
    symbols = logits.new_empty(batch, n + n_digits, k)
    log_share, _ = row_results(logits)
    held = label.new_empty(batch)
    if batch > 0:
        with torch.cuda.device_of(logits):
            with_digits_kernel[(batch,)](
                logits, label, digits.entry, digits.n_labels, digits.power, symbols, held, log_share, n, label.shape[1],
                n_digits, k, *high_and_low(-math.log(digits.base)), BLOCK=BLOCK, **rounded_once(4),
            )  # fmt: skip
    return symbols, held, log_share


def without_digits(
    log_evidence: torch.Tensor, status: torch.Tensor, log_share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """log_evidence - log_share, and where the status is POSSIBLE, bool: all [batch]."""
    batch, out = len(status), torch.empty_like(log_evidence)
    possible = torch.empty_like(status, dtype=torch.bool)
    if batch > 0:
        with torch.cuda.device_of(status):
            without_digits_kernel[(triton.cdiv(batch, BLOCK),)](
                log_evidence, status, log_share, out, possible, batch, BLOCK=BLOCK, **rounded_once(4)
            )
    return out, possible
