"""A warning, once for a problem and an engine, where samples say nothing about the label."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from emnesy_gpu.errors import InferenceWarning
from emnesy_gpu.inference.results import Weighted

SHARE_OF_ROWS = 0.5
"""A batch is doubtful from this share of doubtful rows on: single rows may be hopeless."""

FLAT_ESS = 0.95
"""From this share of the samples on, an effective sample size says that all weigh nearly the same."""

LOW_ACCEPTANCE = 0.5
"""Where more samples than that have the label, flat weights are right."""


def warn_about_samples(problem: object, engine: object, weighted: Weighted, samples: int, check: bool) -> None:
    """Warn where, in half of the rows or more, no sample counts or all of them count nearly alike.

    check: whether a GPU may be synchronised. There only the first batch of a problem is looked at.
    """
    if not check or torch.compiler.is_compiling() or weighted.acceptance.numel() == 0:
        return
    seen = vars(problem).setdefault("_looked_at_by", set())
    if type(engine).__name__ in seen:
        return
    none = ~weighted.marginals.possible
    flat = (weighted.ess >= FLAT_ESS * samples) & (weighted.acceptance < LOW_ACCEPTANCE) & ~none
    reasons = {"no sample counts": none, f"nearly all of {samples} samples weigh the same": flat}
    said = [f"{reason} in {_count(rows)} of {len(rows)} rows" for reason, rows in reasons.items() if rows.any()]
    doubtful = _count(none | flat) >= SHARE_OF_ROWS * len(none)
    if doubtful:
        warnings.warn(
            f"{engine!r} learned next to nothing from the labels of {problem!r}: {', '.join(said)}. The marginals are "
            "close to the prior. Take an engine that is exact, more samples, ABC with target_ess, or Gibbs; check that "
            "labels are those of the rule. This warning is given once",
            InferenceWarning,
            stacklevel=4,
        )
    if doubtful or weighted.acceptance.device.type != "cpu":
        seen.add(type(engine).__name__)


def _count(rows: Tensor) -> int:
    return int(rows.sum())
