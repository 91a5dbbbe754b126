"""What a kernel says about a row of its batch, in one byte, on every back end."""

from __future__ import annotations

POSSIBLE = 0
"""The label has an assignment of positive probability."""

IMPOSSIBLE = 1
"""The input is valid, and no assignment with this label has positive probability."""

INVALID_LOGITS = 2
"""The logits of some symbol are no prior: NaN, +inf, or -inf for every value."""

INVALID_LABEL = 3
"""The label is out of range."""
