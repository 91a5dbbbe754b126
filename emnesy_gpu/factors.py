"""Factors for ``em.FactorGraph``, each in one line: what some variables say about each other.

A factor gives every assignment of its variables a weight >= 0. Constraints have weight 1 where they hold, and 0
elsewhere. Factors of one or two variables become tables. Factors of more variables become automata that read their
variables in the order of the scope: "states" below is how many states they have at most, and the cost of a factor in a
sweep is O(states * values * variables). Nothing is kept of variables: a factor can be added to many scopes, and is
compiled once for all scopes whose variables have as many values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from emnesy_gpu import checks
from emnesy_gpu.automata.machine import Layer
from emnesy_gpu.automata.regex import checked_alphabet, regex_step
from emnesy_gpu.factor_graphs.chains import chain_of_layers
from emnesy_gpu.factor_graphs.potentials import (
    Factor,
    Layers,
    Observed,
    Parity,
    Potential,
    Rule,
    Sizes,
    Table,
    arity_is,
    checked_weights,
    is_hard,
    of_rule,
    of_table,
)
from emnesy_gpu.problems.finite_state import FiniteStateProblem
from emnesy_gpu.problems.rule_factor import factor_of_labels, factor_of_rule

MAX_DIFFERENT = 12
"""The largest number of values of ``all_different``: it has 2^12 states, one for each set of values."""

RELATIONS = ("==", "<=", ">=")


def table(weights: Any) -> Factor:
    """Any weights: w(z_0, z_1, ...) = weights[z_0, z_1, ...]. States: different rows of the table, at most K^(d-1).

    Args:
        weights: numbers >= 0 [k_0, k_1, ...], an axis for each variable of the scope: a NumPy array, lists, or a CPU
            tensor. One axis is a weight for each value of one variable.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=2, cardinality=2)
    >>> graph.add(em.factors.table([[3.0, 1.0], [1.0, 3.0]]), (0, 1))                # equal values weigh more
    >>> logits = torch.tensor([[[0.0, 50.0], [0.0, 0.0]]])                           # variable 0 has value 1
    >>> [round(q, 3) for q in em.posterior(graph, logits, torch.tensor([1])).marginals[0, 1].tolist()]
    [0.25, 0.75]
    """
    array = checked_weights("weights", weights)
    return Factor("table(...)", lambda sizes: of_table(array, sizes, "the table"), hard=is_hard(array))


def pairwise(weights: Any) -> Factor | list[Factor]:
    """Tables of pairs of variables: one [k_0, k_1] for all scopes, or [number of scopes, k_0, k_1], one for each.

    >>> import emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=2)
    >>> graph.add(em.factors.pairwise([[[2, 1], [1, 2]], [[1, 4], [4, 1]]]), [(0, 1), (1, 2)])
    >>> graph.n_factors
    2
    """
    array = checked_weights("weights", weights)
    if array.ndim not in (2, 3):
        raise ValueError(f"weights must be one table [k_0, k_1], or one for each scope, got shape {array.shape}")
    return table(array) if array.ndim == 2 else [table(one) for one in array]


def allowed(tuples: Iterable[Sequence[int]]) -> Factor:
    """Whether the values are one of some tuples. States: at most the different beginnings of tuples.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=4)
    >>> graph.add(em.factors.allowed([(0, 1, 2), (0, 3, 2), (3, 3, 3)]), (0, 1, 2))
    >>> graph.label(torch.tensor([[0, 3, 2], [0, 0, 0]])).tolist()
    [1, 0]
    """
    rows = checks.items("tuples", tuples, "sequences of integers")
    known = {checks.integers(f"tuples[{index}]", values, 0, None) for index, values in enumerate(rows)}
    lengths = {len(values) for values in known}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"tuples must be at least one, all of one length >= 1, got lengths {sorted(lengths)}")
    length = lengths.pop()
    beginnings = {values[:end] for values in known for end in range(length + 1)}

    def make(sizes: Sizes) -> Potential:
        arity_is("allowed(...)", sizes, length)

        def step(read: tuple[int, ...], value: int, position: int) -> tuple[int, ...] | None:
            return longer if (longer := (*read, value)) in beginnings else None

        return of_rule(Rule(step, (), lambda read: read in known), sizes)

    return Factor("allowed(...)", make, hard=True)


def exactly(k: int, values: Iterable[int] = (1,)) -> Factor:
    """Whether exactly k variables have one of the values. States: k + 1.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=4, cardinality=2)
    >>> graph.add(em.factors.exactly(1), range(4))
    >>> em.posterior(graph, torch.zeros(1, 4, 2), torch.tensor([1])).marginals[0, :, 1].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return _counted("exactly", k, values, lambda counted: counted == k)


def at_least(k: int, values: Iterable[int] = (1,)) -> Factor:
    """Whether k variables or more have one of the values. States: k + 1."""
    return _counted("at_least", k, values, lambda counted: counted >= k)


def at_most(k: int, values: Iterable[int] = (1,)) -> Factor:
    """Whether k variables or fewer have one of the values. States: k + 1."""
    return _counted("at_most", k, values, lambda counted: counted <= k)


def parity(remainder: int = 0) -> Factor:
    """Whether the sum of the variables modulo 2 is the remainder. States: 2, with kernels of their own where all
    variables have two values.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=2)
    >>> graph.add(em.factors.parity(), (0, 1, 2))
    >>> graph.label(torch.tensor([[1, 0, 1], [1, 1, 1]])).tolist()
    [1, 0]
    """
    checks.is_integer("remainder", remainder, 0, 1)

    def make(sizes: Sizes) -> Potential:
        if set(sizes) == {2}:
            return Parity(remainder)
        return of_rule(Rule(lambda s, v, i: (s + v) % 2, 0, lambda s: s == remainder), sizes)

    return Factor(f"parity({remainder})", make, hard=True)


def linear(weights: Sequence[int], total: int, relation: str = "==") -> Factor:
    """Whether w_0 z_0 + w_1 z_1 + ... == total; or relation "<=" or ">=". States: the different partial sums.

    Args:
        weights: one integer for each variable of the scope, also 0 or negative.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=2, cardinality=10)
    >>> graph.add(em.factors.linear([1, 1], total=18), (0, 1))
    >>> em.posterior(graph, torch.zeros(1, 2, 10), torch.tensor([1])).marginals.argmax(-1).tolist()
    [[9, 9]]
    """
    factors = checks.integers("weights", weights, -(2**40), 2**40)
    checks.is_integer("total", total, -(2**60), 2**60)
    if not checks.is_among(relation, RELATIONS):
        raise ValueError(f"relation must be one of {RELATIONS}, got {relation!r}")

    def holds(s: int) -> bool:
        return s == total if relation == "==" else s <= total if relation == "<=" else s >= total

    def make(sizes: Sizes) -> Potential:
        arity_is("linear(...)", sizes, len(factors))
        return of_rule(Rule(lambda s, v, i: s + factors[i] * v, 0, holds), sizes)

    return Factor(f"linear({list(factors)}, {total}, {relation!r})", make, hard=True)


def all_different() -> Factor:
    """Whether no value appears twice. States: 2^values, for up to 12 values.

    For boards of many groups with more values, ``em.AllDifferent`` has kernels of its own.
    """

    def make(sizes: Sizes) -> Potential:
        checks.is_integer("the number of values of all_different", max(sizes), 1, MAX_DIFFERENT)
        return of_rule(Rule(lambda seen, v, i: None if seen >> v & 1 else seen | 1 << v, 0, lambda seen: True), sizes)

    return Factor("all_different()", make, hard=True)


def not_equal() -> Factor:
    """Whether two variables differ: a table."""

    def make(sizes: Sizes) -> Potential:
        arity_is("not_equal()", sizes, 2)
        return Table(1.0 - np.eye(sizes[0], sizes[1]))

    return Factor("not_equal()", make, hard=True)


def equal() -> Factor:
    """Whether all variables have one value. States: the number of values."""

    def step(first: int | None, value: int, position: int) -> int | None:
        return value if first in (-1, value) else None

    return Factor("equal()", lambda sizes: of_rule(Rule(step, -1, lambda s: True), sizes), hard=True)


def implies(first: int = 1, second: int = 1) -> Factor:
    """Whether z_1 = second where z_0 = first: a table.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=2, cardinality=2)
    >>> graph.add(em.factors.implies(), (0, 1))
    >>> graph.label(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])).tolist()
    [1, 1, 0, 1]
    """
    checks.is_integer("first", first, 0, None)
    checks.is_integer("second", second, 0, None)

    def make(sizes: Sizes) -> Potential:
        arity_is("implies()", sizes, 2)
        for value, size in zip((first, second), sizes, strict=True):
            checks.is_integer("a value of implies", value, 0, size - 1)
        weights = np.ones(sizes)
        weights[first] = 0.0
        weights[first, second] = 1.0
        return Table(weights)

    return Factor(f"implies({first}, {second})", make, hard=True)


def order(strict: bool = False) -> Factor:
    """Whether the variables ascend: z_0 <= z_1 <= ..., with strict z_0 < z_1 < .... States: the number of values."""

    checks.is_flag("strict", strict)

    def step(last: int, value: int, position: int) -> int | None:
        return value if (last < value if strict else last <= value) else None

    return Factor(f"order(strict={strict})", lambda sizes: of_rule(Rule(step, -1, lambda s: True), sizes), hard=True)


def noisy_or(probabilities: Sequence[float], leak: float = 0.0) -> Factor:
    """A cause that is on turns on the effect with its probability, and so does a leak, independently. States: 2.

        w(z) = p(effect | causes),  p(0 | causes) = (1 - leak) prod_{i: z_i = 1} (1 - probabilities_i)

    The scope is the causes, then the effect, all of two values. Source: Pearl, "Probabilistic reasoning in intelligent
    systems" (1988), section 4.3.2.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=2)
    >>> graph.add(em.factors.noisy_or([0.9, 0.5]), (0, 1, 2))
    >>> logits = torch.tensor([[[0.0, 50.0], [0.0, 50.0], [0.0, 0.0]]])              # both causes are on
    >>> [round(q, 3) for q in em.posterior(graph, logits, torch.tensor([1])).marginals[0, 2].tolist()]
    [0.05, 0.95]
    """
    chances = checks.items("probabilities", probabilities, "numbers in [0, 1]")
    for name, chance in (("leak", leak), *((f"probabilities[{index}]", each) for index, each in enumerate(chances))):
        if isinstance(chance, bool) or not isinstance(chance, (int, float, np.floating)):
            raise TypeError(f"{name} must be a number in [0, 1], got {chance!r}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"{name} must be a number in [0, 1], got {chance}")

    def make(sizes: Sizes) -> Potential:
        arity_is("noisy_or(...)", sizes, len(chances) + 1)
        if set(sizes) != {2}:
            raise ValueError(f"noisy_or takes variables of two values, got {sizes}")
        # State 1: some cause, or the leak, has turned on the effect.
        layers = [_cause(chance) for chance in chances]
        edges = np.array([0, 1], np.int32)
        layers.append(Layer(edges, edges, edges, np.ones(2), 2, 2))
        return Layers(chain_of_layers(layers, np.array([1.0 - leak, leak]), np.ones(2)))

    return Factor("noisy_or(...)", make, hard=False)


def regular(pattern: str, alphabet: str = "01") -> Factor:
    """Whether the values, as characters of an alphabet, match a regular expression: see ``em.Automaton.from_regex``.

    States: those of the minimal automaton of the pattern, without strings that cannot match any more.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=5, cardinality=2)
    >>> graph.add(em.factors.regular("0*1{3}0+1{1}0*"), range(5))                    # a line of a nonogram, clue 3 1
    >>> em.posterior(graph, torch.zeros(1, 5, 2), torch.tensor([1])).marginals.argmax(-1).tolist()
    [[1, 1, 1, 0, 1]]
    """
    step, start, label = regex_step(pattern, checked_alphabet(alphabet))

    def make(sizes: Sizes) -> Potential:
        if max(sizes) > len(alphabet):
            raise ValueError(f"the alphabet {alphabet!r} must have a character for each of {max(sizes)} values")
        return of_rule(Rule(lambda state, value, position: step(state, value), start, label), sizes)

    return Factor(f"regular({pattern!r}, {alphabet!r})", make, hard=True)


def automaton(rule: FiniteStateProblem, label: Any = 1) -> Factor:
    """Whether an ``em.Automaton`` has a label; its weight, where the automaton has weights. Its states.

    The scope is the symbols of the rule in row-major order. ``graph.add(rule, scope)`` is short for label 1.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=10)
    >>> graph.add(em.factors.automaton(em.rules.maximum(3, 10), label=0), range(3))
    >>> em.posterior(graph, torch.zeros(1, 3, 10), torch.tensor([1])).marginals.argmax(-1).tolist()
    [[0, 0, 0]]
    """
    return factor_of_rule(rule, label)


def observed(rule: FiniteStateProblem) -> Factor:
    """An ``em.Automaton`` whose label is data: each scope that it is added to has an entry of the graph's label.

    The label of the graph is then int64 [batch, entries], in the order in which they were added: codes of the rule's
    labels (``rule.encode``), or -1 for what is not given. States: those of the rule, and of each the beginnings of its
    labels. The digits of the label are read as further symbols, so that all rows share the tables.

    Sums that differ from row to row, as in Kakuro:

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=3, cardinality=10)
    >>> total = em.Automaton(lambda s, v: s + v, 0, lambda s: s, n_symbols=2, cardinality=10)
    >>> graph.add(em.factors.observed(total), [(0, 1), (1, 2)])
    >>> graph.label_shape, graph.label(torch.tensor([[9, 9, 0]])).tolist()
    ((2,), [[18, 9]])
    >>> em.posterior(graph, torch.zeros(1, 3, 10), torch.tensor([[18, 9]])).marginals.argmax(-1).tolist()
    [[9, 9, 0]]
    """
    return factor_of_labels(rule)


def observed_table(weights: Any) -> Factor:
    """A table for each label, and the label of each row picks one: w(z_0, z_1, ... | y) = weights[y, z_0, z_1, ...].

    Labels as for ``observed``; -1 takes the sum of all tables. It makes couplings that differ from row to row, out of
    a list. States: beginnings of the table.

    >>> import torch, emnesy_gpu as em
    >>> graph = em.FactorGraph(n_variables=2, cardinality=2)
    >>> graph.add(em.factors.observed_table([[[1, 1], [1, 1]], [[3, 1], [1, 3]]]), (0, 1))     # free, or alike
    >>> logits = torch.tensor([[[0.0, 50.0], [0.0, 0.0]]]).repeat(2, 1, 1)
    >>> post = em.posterior(graph, logits, torch.tensor([[0], [1]]))
    >>> [round(q, 3) for q in post.marginals[:, 1, 1].tolist()]
    [0.5, 0.75]
    """
    array = checked_weights("weights", weights)
    if array.ndim < 2:
        raise ValueError(f"weights must be [labels, k_0, k_1, ...], got shape {array.shape}")

    def make(sizes: Sizes) -> Potential:
        n_digits = len(sizes) - array.ndim + 1
        members, digits = sizes[: array.ndim - 1], sizes[array.ndim - 1 :]
        if n_digits < 1 or array.shape[1:] != members:
            raise ValueError(f"the table has the shape {array.shape}, but its variables have {members} values")
        padded = np.zeros((int(np.prod(digits)), *members))
        padded[: len(array)], padded[len(array)] = array, array.sum(0)
        return of_table(np.moveaxis(padded, 0, -1).reshape(sizes), sizes, "the table")

    return Factor("observed_table(...)", make, hard=False, observed=Observed(len(array), None, has_sum=True))


def _counted(name: str, k: int, values: Iterable[int], holds: Callable[[int], bool]) -> Factor:
    checks.is_integer("k", k, 0, None)
    counted = frozenset(checks.integers("values", values, 0, None))

    def make(sizes: Sizes) -> Potential:
        if counted and max(counted) >= max(sizes):
            raise ValueError(f"values must lie in 0..{max(sizes) - 1}, got {max(counted)}")
        return of_rule(Rule(lambda s, v, i: min(s + (v in counted), k + 1), 0, holds), sizes)

    return Factor(f"{name}({k}, {sorted(counted)})", make, hard=True)


def _cause(chance: float) -> Layer:
    """One cause of a noisy or: from state 0 to 1 with its chance where it is on."""
    source, value, target = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 1, 1]], np.int32).T
    return Layer(source, value, target, np.array([1.0, 1.0, 1.0, 1.0 - chance, chance]), 2, 2)
