"""The table of methods that are compared, where a new method is announced."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emnesy_gpu.tasks.core.plain_torch_engines import PLAIN_TORCH


@dataclass(frozen=True)
class Method:
    """One way to train, as the recipe of a task with other arguments of its train command."""

    name: str
    """The name in tables and legends."""
    colour: str
    """The colour in every figure; colours differ in hue or lightness for the colour-blind."""
    marker: str = "o"
    """The marker in every figure."""
    engine: str | None = None
    """The value of ``--engine``; None leaves the engine to the task."""
    flags: tuple[str, ...] = ()
    """Flags of the train command."""
    m_steps: int = 1
    """The value of ``--m-steps``: gradient steps per posterior."""
    slowdown: float = 1.0
    """How many times longer than the default engine it takes, for estimates."""
    benchmark: str | None = None
    """The name of its E-step in ``emnesy bench``; None where it has none, or where it is a task's "fused" method."""
    rival: bool = False
    """Whether it is a re-implementation of another system, which stands in tables alone."""

    @property
    def is_plain_torch(self) -> bool:
        """Whether the memory of its E-step is that of tensors alone."""
        return self.engine in PLAIN_TORCH

    def shorten(self, epochs: int) -> int:
        """Return the epochs that have as many gradient steps as ``epochs`` with one M-step."""
        return math.ceil(epochs / self.m_steps)


def _rival(name: str, engine: str) -> Method:
    return Method(f"{name}, re-implementation", GREY, ".", engine=engine, rival=True)


GREY = "#8A8A8A"

METHODS = {
    "bp-std": Method("BP-std (autograd)", "#000000", "s", engine="bp-std", slowdown=1.8, benchmark="BP-std"),
    "torch": Method("BP-EM, unfused torch", "#E69F00", "^", engine="torch", slowdown=1.2, benchmark="torch EM"),
    "exact": Method("EM, exact, fused", "#0072B2", benchmark="exact"),
    "bp": Method("EM, loopy BP, fused", "#56B4E9", "D", engine="bp"),
    "hard": Method("hard EM (MAP)", "#660640", "v", flags=("--hard",)),
    "multi-m-2": Method("Multi-M, 2 steps", "#8FD3B6", "P", m_steps=2),
    "multi-m-5": Method("Multi-M, 5 steps", "#08C26C", "X", m_steps=5),
    "multi-m-10": Method("Multi-M, 10 steps", "#136F43", "*", m_steps=10),
    "abc": Method("ABC-EM", "#D55E00", "<", engine="abc", slowdown=1.6),
    "gibbs": Method("Gibbs-EM", "#CD40F1", ">", engine="gibbs", slowdown=1.8),
    "rejection": Method("rejection-EM", "#694907", "p", engine="rejection", slowdown=3.0),
    "supervised": Method("supervised", GREY, "h", flags=("--supervised",)),
    "semantic-loss": _rival("semantic loss", "semantic-loss"),
    "pairwise-loss": _rival("A-NeSI, closed limit", "pairwise-loss"),
    "a-nesi": _rival("A-NeSI, predict-only", "a-nesi"),
    "exal": _rival("EXAL", "exal"),
    "exal-by-posterior": _rival("EXAL, exact posterior samples", "exal-by-posterior"),
    "top-1-proofs": _rival("Scallop, top-1 proofs", "top-1-proofs"),
    "top-3-proofs": _rival("Scallop, top-3 proofs", "top-3-proofs"),
    "rloo": _rival("RLOO", "rloo"),
    "indecater": _rival("IndeCateR", "indecater"),
    "nesydm": _rival("NeSyDM", "nesydm"),
    "blackbox": _rival("blackbox backpropagation", "blackbox"),
    "imle": _rival("I-MLE, from paths alone", "imle"),
    "imle-true-costs": _rival("I-MLE, from true costs too", "imle-true-costs"),
    "spl": _rival("SPL, layer of paths", "spl"),
}
"""Key in records -> method, in the order of tables and legends."""
