"""Formulas over symbols with values, from which ``em.Circuit`` makes problems.

>>> import emnesy_gpu as em
>>> from emnesy_gpu import logic
>>> z = logic.symbols(3, cardinality=4)
>>> rule = logic.all_different(z) & (z.sum() == 6) & logic.implies(z[0] == 1, z[1] != 2)
>>> rule.holds(np.array([[3, 1, 2], [1, 2, 3]])).tolist()
[True, False]
"""

import numpy as np  # noqa: F401 - for the example

from emnesy_gpu.logic.compile import Told, to_graph
from emnesy_gpu.logic.constraints import (
    all_different,
    all_of,
    any_of,
    at_least,
    at_most,
    exactly,
    iff,
    implies,
    linear,
    not_,
    regular,
    table,
    xor,
)
from emnesy_gpu.logic.formulas import Formula
from emnesy_gpu.logic.symbols import Expression, Symbol, Symbols, symbols

__all__ = [
    "Expression",
    "Formula",
    "Symbol",
    "Symbols",
    "Told",
    "all_different",
    "all_of",
    "any_of",
    "at_least",
    "at_most",
    "exactly",
    "iff",
    "implies",
    "linear",
    "not_",
    "regular",
    "symbols",
    "table",
    "to_graph",
    "xor",
]
