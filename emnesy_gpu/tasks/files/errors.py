"""Errors that a training run shows to its user as one line."""

from __future__ import annotations


class DataError(Exception):
    """Data is missing or corrupt; the message names the file, the cause and, where there is one, the remedy."""


class DivergedError(ArithmeticError):
    """Training cannot go on, because the loss or the weights of the net are NaN or infinite."""


class MissingExtraError(ImportError):
    """A package of the ``train`` extra is not installed; the message says how to install it."""
