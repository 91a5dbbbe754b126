"""A warning, once for a problem and an engine, where samples or chains say nothing about the label."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from emnesy_gpu.errors import InferenceWarning
from emnesy_gpu.inference.results import Chains, Weighted
from emnesy_gpu.ops.row_passes import changes_of_prior

SHARE_OF_ROWS = 0.5
"""A batch is doubtful from this share of doubtful rows on: single rows may be hopeless."""

FLAT_ESS = 0.95
"""From this share of the samples on, an effective sample size says that all weigh nearly the same."""

LOW_ACCEPTANCE = 0.5
"""Where more samples or chains than that have the label, flat weights and marginals like the prior are right."""

SAME_MARGINALS = 1e-3
"""Chains that no conflict moves have the marginals of the prior but for 2**-24: there is no noise to allow for."""

LIKELY_LABEL = math.log(0.5)
"""The log evidence from which on a label was to be expected, and hardly changes the prior."""


def warn_about_samples(problem: object, engine: object, weighted: Weighted, samples: int, check: bool) -> None:
    """Warn where, in half of the rows or more, no sample counts or all of them count nearly alike.

    check: whether a GPU may be synchronised. There only the first batch of a problem is looked at.
    """
    if not _to_be_looked_at(problem, engine, weighted.acceptance, check):
        return
    possible = weighted.marginals.possible
    if possible.is_cpu and bool(possible.all()) and float(weighted.ess.max()) < FLAT_ESS * samples:
        return
    none = ~possible
    flat = (weighted.ess >= FLAT_ESS * samples) & (weighted.acceptance < LOW_ACCEPTANCE) & ~none
    reasons = {"no sample counts": none, f"nearly all of {samples} samples weigh the same": flat}
    _warn(problem, engine, reasons, "more samples, ABC with target_ess, or Gibbs")


def warn_about_chains(problem: object, engine: object, chains: Chains, logits: Tensor, check: bool) -> None:
    """Warn where, in half of the rows or more, no conflict moves a chain: single symbols change nothing.

    Few chains need to end without a conflict: under a small penalty they are useful all the same.
    """
    if not _to_be_looked_at(problem, engine, chains.satisfied, check):
        return
    if chains.satisfied.is_cpu and float(chains.satisfied.min()) >= LOW_ACCEPTANCE:
        return
    unlikely = (chains.satisfied < LOW_ACCEPTANCE) & (chains.marginals.log_evidence < LIKELY_LABEL)
    if unlikely.is_cpu and int(unlikely.sum()) < SHARE_OF_ROWS * len(unlikely):
        return
    moved = changes_of_prior(logits, chains.marginals.marginals)
    reasons = {"no change of one symbol settles a conflict that counts": (moved < SAME_MARGINALS) & unlikely}
    _warn(problem, engine, reasons, "a smaller penalty, constraints that can be violated one by one, or ABC")


def _to_be_looked_at(problem: object, engine: object, rows: Tensor, check: bool) -> bool:
    if not check or torch.compiler.is_compiling() or rows.numel() == 0:
        return False
    return type(engine).__name__ not in vars(problem).setdefault("_looked_at_by", set())


def _warn(problem: object, engine: object, reasons: dict[str, Tensor], remedies: str) -> None:
    """reasons: what is doubtful -> bool [batch], disjoint."""
    rows = torch.stack(list(reasons.values()))
    said = [f"{reason} in {int(where.sum())} of {len(where)} rows" for reason, where in reasons.items() if where.any()]
    doubtful = int(rows.sum()) >= SHARE_OF_ROWS * rows.shape[1]
    if doubtful:
        warnings.warn(
            f"{engine!r} learned next to nothing from the labels of {problem!r}: {', '.join(said)}. The marginals are "
            f"close to the prior. Take an engine that is exact, {remedies}; check that "
            "labels are those of the rule. This warning is given once",
            InferenceWarning,
            stacklevel=5,
        )
    if doubtful or rows.device.type != "cpu":
        vars(problem)["_looked_at_by"].add(type(engine).__name__)
