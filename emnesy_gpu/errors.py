"""Errors that say what a problem or an engine cannot do."""

from __future__ import annotations


class UnsupportedEngineError(ValueError):
    """This engine cannot be used for this problem; the message names the engines that can."""


class UnsupportedInference(NotImplementedError):
    """The problem has no implementation of this kind of inference."""
