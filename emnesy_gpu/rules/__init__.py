"""Common rules, each in one line: functions that return an ``em.Automaton``.

Every rule has symbols z_0 .. z_{n-1} with values 0..cardinality-1, and a label that is a function of them. All
inference on them is exact. "States" below says how many states the automaton has at most, "n" is n_symbols.
"""

from emnesy_gpu.rules.counts import at_least, at_most, count, exactly, modulo, parity, weighted_sum
from emnesy_gpu.rules.formulas import formula
from emnesy_gpu.rules.orders import MAX_DIFFERENT, all_different, compare, maximum, minimum, sorted_order
from emnesy_gpu.rules.words import balanced_brackets, lexicon, regex

__all__ = [
    "MAX_DIFFERENT",
    "all_different",
    "at_least",
    "at_most",
    "balanced_brackets",
    "compare",
    "count",
    "exactly",
    "formula",
    "lexicon",
    "maximum",
    "minimum",
    "modulo",
    "parity",
    "regex",
    "sorted_order",
    "weighted_sum",
]
