"""What large logits count as, on every back end."""

from __future__ import annotations

LARGEST_LOGIT = 1e12
"""Finite logits beyond +-LARGEST_LOGIT count as that: sums of them keep digits of ordinary ones in float64.

So a finite logit is never a hard zero, however far below the largest of its symbol; -inf is one.
"""
