"""A warning, once for a problem and an engine, where samples or chains say nothing about the label."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from emnesy_gpu.errors import InferenceWarning
from emnesy_gpu.inference.results import Chains, Weighted
from emnesy_gpu.ops.row_passes import Limits, count_unmoved

SHARE_OF_ROWS = 0.5
"""A batch is doubtful from this share of doubtful rows on: single rows may be hopeless."""

FLAT_ESS = 0.95
"""From this share of the samples on, an effective sample size says that all weigh nearly the same."""

LOW_ACCEPTANCE = 0.5
"""Where more samples or chains than that have the label, flat weights and marginals like the prior are right."""

UNMOVED = Limits(satisfied=LOW_ACCEPTANCE, log_evidence=math.log(0.5), change=1e-3)
"""Chains that no conflict moves have the marginals of the prior but for 2**-24: there is no noise to allow for.

A label with more log evidence was to be expected, and hardly changes the prior.
"""


def warn_about_samples(problem: object, engine: object, weighted: Weighted, samples: int, check: bool) -> None:
    """Warn where, in half of the rows or more, no sample counts or all of them count nearly alike.

    check: whether a GPU may be synchronised. There only the first batch of a problem is looked at.
    """
    if not _to_be_looked_at(problem, engine, weighted.acceptance, check):
        return
    possible = weighted.marginals.possible
    if possible.is_cpu and bool(possible.all()) and float(weighted.ess.max()) < FLAT_ESS * samples:
        return
    flat = (weighted.ess >= FLAT_ESS * samples) & (weighted.acceptance < LOW_ACCEPTANCE) & possible
    none, alike = int((~possible).sum()), int(flat.sum())
    reasons = {"no sample counts": none, f"nearly all of {samples} samples weigh the same": alike}
    _warn(problem, engine, possible, reasons, "more samples, ABC with target_ess, or Gibbs")


def warn_about_chains(problem: object, engine: object, chains: Chains, logits: Tensor, check: bool) -> None:
    """Warn where, in half of the rows or more, no conflict moves a chain: single symbols change nothing.

    Few chains need to end without a conflict: under a small penalty they are useful all the same.
    """
    if not _to_be_looked_at(problem, engine, chains.satisfied, check):
        return
    unmoved = count_unmoved(logits, chains, UNMOVED)
    reasons = {"no change of one symbol settles a conflict that counts": unmoved}
    remedies = "a smaller penalty, constraints that can be violated one by one, or ABC"
    _warn(problem, engine, chains.satisfied, reasons, remedies)


def _to_be_looked_at(problem: object, engine: object, rows: Tensor, check: bool) -> bool:
    if not check or torch.compiler.is_compiling() or rows.numel() == 0:
        return False
    return type(engine).__name__ not in vars(problem).setdefault("_looked_at_by", set())


def _warn(problem: object, engine: object, rows: Tensor, reasons: dict[str, int], remedies: str) -> None:
    """rows: [batch, ...], of any numbers. reasons: what is doubtful -> in how many of the rows, which are disjoint."""
    doubtful = sum(reasons.values()) >= SHARE_OF_ROWS * rows.shape[0]
    if doubtful:
        said = ", ".join(f"{reason} in {count} of {rows.shape[0]} rows" for reason, count in reasons.items() if count)
        warnings.warn(
            f"{engine!r} learned next to nothing from the labels of {problem!r}: {said}. The marginals are "
            f"close to the prior. Take an engine that is exact, {remedies}; check that "
            "labels are those of the rule. This warning is given once",
            InferenceWarning,
            stacklevel=5,
        )
    if doubtful or not rows.is_cpu:
        vars(problem)["_looked_at_by"].add(type(engine).__name__)
