"""How images of digits and drawn operators become formulas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.tasks.formula.glyphs import OPERATORS, draw
from emnesy_gpu.tasks.mnist.images import Images
from emnesy_gpu.tasks.mnist.rows import Rows, cut

N_DIGITS = 10
"""Classes of digits; those of operators follow."""

BLANK = N_DIGITS + len(OPERATORS)
"""The class of the black image behind the end of a formula that is shorter than others."""


def lengths(n_symbols: int, mixed: bool) -> tuple[int, ...]:
    """Return the numbers of symbols that formulas have; the last one is ``n_symbols``."""
    return tuple(range(1, n_symbols + 1, 2)) if mixed else (n_symbols,)


def automaton(n_symbols: int, mixed: bool) -> em.Automaton:
    """Return the problem: every symbol is a digit, an operator or, if lengths are mixed, blank; labels are values."""
    return em.rules.formula(n_symbols, range(N_DIGITS), OPERATORS, one_alphabet=True, variable_length=mixed)


def write(images: Images, order: Tensor, lengths: Sequence[int], generator: torch.Generator) -> Rows:
    """Put digits in this order into as many formulas of each length, and draw random operators between them.

    Every digit is used once; the remainder is dropped. All operators are equally probable, but nothing is divided by 0.
    The rows have as many symbols as the longest formula.
    """
    n_digits = [length // 2 + 1 for length in lengths]
    groups = cut(order, (sum(n_digits),)).split(n_digits, dim=1)
    blanks, blank = int(len(lengths) > 1), len(images)
    index = torch.full((len(lengths), len(groups[0]), max(lengths)), blank)
    for rows, digits in zip(index, groups, strict=True):
        rows[:, : 2 * digits.shape[1] : 2] = digits
    right = index[..., 2::2]
    operators = _operators(images.classes[right[right != blank]], generator)
    index[..., 1::2][right != blank] = blank + blanks + torch.arange(len(operators))
    black, no_symbol = images.pixels.new_zeros(blanks, *images.pixels.shape[1:]), operators.new_full((blanks,), BLANK)
    pixels = torch.cat([images.pixels, black, draw(operators, generator)])
    return Rows(Images(pixels, torch.cat([images.classes, no_symbol, N_DIGITS + operators])), index.flatten(0, 1))


def _operators(right: Tensor, generator: torch.Generator) -> Tensor:
    """Draw operators to the left of digits with these classes [n]: int64 [n], as places in ``OPERATORS``."""
    any_operator = torch.randint(len(OPERATORS), right.shape, generator=generator)
    no_division = torch.randint(OPERATORS.index("/"), right.shape, generator=generator)
    return torch.where(right == 0, no_division, any_operator)
