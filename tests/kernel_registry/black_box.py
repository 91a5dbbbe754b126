"""Samples scored by a Triton function of the user: counts, equal to the bit."""

from __future__ import annotations

from typing import Any

import torch

from emnesy_gpu.inference.importance import thresholds
from tests.black_boxes import ADDITION, triton_equal_digits
from tests.kernel_registry.entry import Entry


def _draw() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 4, generator=generator)
    label = ADDITION.label(torch.randint(0, 4, (5, 2, 2), generator=generator))
    return thresholds(logits), label, triton_equal_digits, 3, 140, 7, 2**32 - 1


ENTRIES = [Entry("black_box", "histogram", "two digits", _draw, variants=True, interpreted=False)]
