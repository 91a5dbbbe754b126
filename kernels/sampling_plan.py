"""What the passes over weighted samples are, on every back end."""

from __future__ import annotations

from typing import NamedTuple


class Plan(NamedTuple):
    """The passes over the samples. pilot: samples from which the best weight is guessed; 0 for none."""

    n_samples: int
    pilot: int
    sharpness: float
    target_ess: float
