"""Label functions that many rules share."""

from __future__ import annotations

from typing import Any

BOTH = (False, True)
"""The labels of a rule that holds or does not, named so that both exist even where no state has one of them."""


def itself(state: Any) -> Any:
    """The state as its own label."""
    return state
