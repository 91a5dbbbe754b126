"""How many symbols a rule has, their values, and the order in which it reads them: arguments checked."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from emnesy_gpu import checks


def checked_latent_shape(
    n_symbols: int | None, latent_shape: Sequence[int] | None, cardinalities: Sequence[int] | None
) -> tuple[int, ...]:
    if latent_shape is not None:
        shape = tuple(latent_shape)
        for index, size in enumerate(shape):
            checks.is_integer(f"latent_shape[{index}]", size, 1, None)
        if n_symbols not in (None, prod(shape)):
            raise ValueError(f"n_symbols must be {prod(shape)}, as latent_shape says, or left out, got {n_symbols}")
        return shape
    if n_symbols is None and cardinalities is not None:
        n_symbols = len(cardinalities)
    if n_symbols is None:
        raise TypeError("a rule needs n_symbols, latent_shape or cardinalities")
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    return (n_symbols,)


def checked_cardinalities(n: int, cardinality: int | None, cardinalities: Sequence[int] | None) -> list[int]:
    if cardinalities is None:
        if cardinality is None:
            raise TypeError("a rule needs cardinality or cardinalities")
        checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
        return [cardinality] * n
    if len(cardinalities) != n:
        raise ValueError(f"cardinalities must have {n} entries, one for each symbol, got {len(cardinalities)}")
    for index, size in enumerate(cardinalities):
        checks.is_integer(f"cardinalities[{index}]", size, 1, checks.MOST_SYMBOLS)
    if cardinality not in (None, max(cardinalities)):
        raise ValueError(f"cardinality must be the largest of cardinalities, {max(cardinalities)}, or left out")
    return list(cardinalities)


def checked_order(order: Sequence[int], n: int) -> Tensor:
    if sorted(order) != list(range(n)):
        raise ValueError(f"order must name every symbol 0..{n - 1} once, got {list(order)!r}")
    return torch.tensor(list(order), dtype=torch.int64, device="cpu")


def checked_symbols(z: Tensor, latent_shape: tuple[int, ...], cardinality: int) -> Tensor:
    """Assignments [..., *latent_shape] as int64 [..., number of symbols].

    Raises TypeError and ValueError for a wrong dtype or shape and for values outside 0..cardinality-1.
    """
    checks.is_tensor("z", z)
    checks.has_dtype("z", z, checks.INTEGER_DTYPES)
    lead = z.dim() - len(latent_shape)
    if lead < 0 or tuple(z.shape[lead:]) != latent_shape:
        expected = ", ".join(["...", *map(str, latent_shape)])
        raise ValueError(f"z must have shape [{expected}], got {list(z.shape)}")
    if bool(((z < 0) | (z >= cardinality)).any()):
        raise ValueError(f"z must hold values in 0..{cardinality - 1}, got {int(z.min())}..{int(z.max())}")
    return z.reshape(*z.shape[:lead], prod(latent_shape)).long()
