"""The methods that are compared: their names in tables and legends, their order, and one colour each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """name: for people. colour, marker: the same in every figure, apart for the colour-blind in hue or lightness."""

    name: str
    colour: str
    marker: str = "o"


METHODS = {
    "bp-std": Method("BP-std (autograd)", "#000000", "s"),
    "torch": Method("BP-EM, unfused torch", "#E69F00", "^"),
    "exact": Method("EM, exact, fused", "#0072B2"),
    "bp": Method("EM, loopy BP, fused", "#56B4E9", "D"),
    "hard": Method("hard EM (MAP)", "#660640", "v"),
    "multi-m-2": Method("Multi-M, 2 steps", "#8FD3B6", "P"),
    "multi-m-5": Method("Multi-M, 5 steps", "#08C26C", "X"),
    "multi-m-10": Method("Multi-M, 10 steps", "#136F43", "*"),
    "abc": Method("ABC-EM", "#D55E00", "<"),
    "gibbs": Method("Gibbs-EM", "#CD40F1", ">"),
    "rejection": Method("rejection-EM", "#694907", "p"),
    "supervised": Method("supervised", "#8A8A8A", "h"),
    "i-mle": Method("I-MLE", "#1B145F", "d"),
    "blackbox": Method("blackbox backprop", "#3D2413", "H"),
}
"""Key of the records -> method, in the order of tables and legends."""


def default_method(task: str, size: int) -> str:
    """The key of fused soft EM with one M-step and the engine that the problem takes by default."""
    if task == "warcraft":
        return "abc"
    return "bp" if task == "sudoku" and size > 4 else "exact"
