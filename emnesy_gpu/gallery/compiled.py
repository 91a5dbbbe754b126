"""Drawings of compiled rules."""

from __future__ import annotations

from typing import Any

import emnesy_gpu as em
from emnesy_gpu import logic


def automaton() -> Any:
    """Draw the minimal automaton of a number modulo 3."""
    ax = em.rules.modulo(3, 3, base=4).plot()
    ax.set_title("A number of three digits of base 4, modulo 3")
    return ax.figure


def circuit() -> Any:
    """Draw the circuit of "all three symbols of four values differ"."""
    ax = em.Circuit(logic.all_different(logic.symbols(3, cardinality=4))).plot()
    ax.set_title("Three symbols of four values that all differ (y = 1) or not (y = 0)")
    return ax.figure
