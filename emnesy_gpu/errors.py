"""Errors for what a problem or an engine does not support, and a warning where a result says next to nothing."""

from __future__ import annotations


class UnsupportedEngineError(ValueError):
    """The engine does not work for the problem or its settings; the message names what does.

    >>> import torch, emnesy_gpu as em
    >>> try:
    ...     em.posterior(em.Sudoku(9), torch.zeros(1, 9, 9, 9), torch.tensor([1]), em.Exact())
    ... except em.UnsupportedEngineError as error:
    ...     print(str(error).partition(";")[0])
    em.Exact() does not work for Sudoku(size=9)
    """


class UnsupportedInference(UnsupportedEngineError, NotImplementedError):
    """The problem does not implement this kind of inference, or not at its size; the message names what helps."""


class InferenceWarning(UserWarning):
    """An approximate engine learned next to nothing from the labels, so that its marginals are close to the prior."""


class CircuitFileError(ValueError):
    """A file of a circuit, or of clauses, cannot be read: the message names the file, the line and what is wrong."""


class GraphFileError(ValueError):
    """A file of a factor graph cannot be read: the message names the file, the line and what is wrong."""


class TooManyStatesError(ValueError):
    """An automaton reaches more states than it may; the message names the position and the limit."""
