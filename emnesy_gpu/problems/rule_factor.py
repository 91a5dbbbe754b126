"""An automaton as a factor of a graph."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.factor_graphs.chains import chain_of_machine, chain_of_observed_machine
from emnesy_gpu.factor_graphs.potentials import (
    Factor,
    Layers,
    Observed,
    Potential,
    Sizes,
    arity_is,
    is_hard,
    label_weights,
)
from emnesy_gpu.problems.finite_state import FiniteStateProblem


def factor_of_rule(rule: FiniteStateProblem, label: Any) -> Factor:
    """Whether a rule has a label, or its weight: see ``em.factors.automaton``."""
    checks.is_instance("rule", rule, FiniteStateProblem, "an em.Automaton")
    if rule.label_shape:
        raise ValueError(f"a factor needs a rule whose label has no entries, got {rule!r}")
    observed = rule.machine.observed[len(rule.machine.layer_of) - 1]
    if not isinstance(label, Hashable) or isinstance(label, Tensor) or label not in observed.labels:
        raise ValueError(f"{rule!r} has no label {label!r}")
    final = label_weights(rule.machine, observed.labels.index(label))

    def make(sizes: Sizes) -> Potential:
        arity_is(repr(rule), sizes, len(rule.machine.layer_of))
        if max(sizes) > rule.cardinality:
            raise ValueError(f"the automaton knows {rule.cardinality} values, but its variables have {max(sizes)}")
        return Layers(chain_of_machine(rule.machine, final))

    hard = not rule.machine.is_weighted and is_hard(final)
    return Factor(f"automaton({rule!r}, {label!r})", make, hard=hard, reads=rule.reading_order)


def factor_of_labels(rule: FiniteStateProblem) -> Factor:
    """A rule whose label is data: see ``em.factors.observed``."""
    checks.is_instance("rule", rule, FiniteStateProblem, "an em.Automaton")
    if rule.label_shape:
        raise ValueError(f"a factor needs a rule whose label has no entries, got {rule!r}")
    seen = rule.machine.observed[len(rule.machine.layer_of) - 1]
    codes = [int(code) for code in rule.encode(seen.labels)]
    several = rule.machine.is_weighted or rule.machine.has_noisy_labels
    observed = Observed(max(codes) + 1, rule, has_sum=several)

    def make(sizes: Sizes) -> Potential:
        arity = len(rule.machine.layer_of)
        if max(sizes[:arity]) > rule.cardinality:
            raise ValueError(f"the automaton knows {rule.cardinality} values, but its variables have {max(sizes)}")
        final = np.zeros((observed.n + several, seen.weights.shape[1]))
        final[codes] = seen.weights
        if several:
            final[observed.n] = seen.weights.sum(0)
        return Layers(chain_of_observed_machine(rule.machine, final, sizes[-1], len(sizes) - arity))

    return Factor(f"observed({rule!r})", make, hard=not several, reads=rule.reading_order, observed=observed)


def as_factor(factor: object) -> Factor:
    """A factor as it is, and an automaton as that of its label 1; raises TypeError for anything else."""
    if isinstance(factor, FiniteStateProblem):
        return factor_of_rule(factor, 1)
    if not isinstance(factor, Factor):
        raise TypeError(f"a factor must be one of em.factors or an em.Automaton, got {factor!r}")
    return factor
