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
        checks.is_shape("latent_shape", latent_shape)
        shape = tuple(latent_shape)
        if n_symbols is not None:
            checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
        if n_symbols not in (None, prod(shape)):
            raise ValueError(f"n_symbols must be {prod(shape)}, as latent_shape says, or left out, got {n_symbols}")
        return shape
    if n_symbols is None and cardinalities is not None:
        n_symbols = len(checks.integers("cardinalities", cardinalities, 1, checks.MOST_SYMBOLS))
        if n_symbols == 0:
            raise ValueError(f"cardinalities must have an entry for each symbol, got {cardinalities!r}")
    if n_symbols is None:
        raise TypeError("a rule needs n_symbols, latent_shape or cardinalities")
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    return (n_symbols,)


def checked_shape(n: int, latent_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of n symbols, (n,) by default; TypeError or ValueError for that of another number of symbols."""
    if latent_shape is None:
        return (n,)
    checks.is_shape("latent_shape", latent_shape)
    if prod(latent_shape) != n:
        raise ValueError(f"latent_shape must have {n} symbols, got {tuple(latent_shape)}")
    return tuple(latent_shape)


def checked_cardinalities(n: int, cardinality: int | None, cardinalities: Sequence[int] | None) -> list[int]:
    if cardinalities is None:
        if cardinality is None:
            raise TypeError("a rule needs cardinality or cardinalities")
        checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
        return [cardinality] * n
    sizes = checks.integers("cardinalities", cardinalities, 1, checks.MOST_SYMBOLS)
    if len(sizes) != n:
        raise ValueError(f"cardinalities must have {n} entries, one for each symbol, got {len(sizes)}")
    if cardinality is not None:
        checks.is_integer("cardinality", cardinality, 1, checks.MOST_SYMBOLS)
    if cardinality not in (None, max(sizes)):
        raise ValueError(f"cardinality must be the largest of cardinalities, {max(sizes)}, or left out")
    return list(sizes)


def checked_order(order: Sequence[int], n: int) -> Tensor:
    places = checks.integers("order", order, 0, None)
    if sorted(places) != list(range(n)):
        raise ValueError(f"order must name every symbol 0..{n - 1} once, got {list(places)!r}")
    return torch.tensor(places, dtype=torch.int64, device="cpu")


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


def flat_symbols(logits: Tensor) -> Tensor:
    """Logits [batch, *symbols, K] as [batch, n, K]; to ask first costs a call less than to flatten for nothing."""
    return logits if logits.dim() == 3 else logits.flatten(1, -2)


def shaped_like(values: Tensor, like: Tensor) -> Tensor:
    """Values in the shape of others, of as many; the same tensor where it has that shape."""
    return values if values.shape == like.shape else values.reshape(like.shape)
