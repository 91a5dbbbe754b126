"""Makes the tables of subsets of the values, by size, that launches read."""

from __future__ import annotations

from functools import lru_cache

import torch

SPREAD = (0, 0, 0, 0, 0, 0, 3, 12, 30, 23, 22, 15)
"""What all_different.cu takes the place of a subset's values apart with, so that lanes meet different banks."""

BYTES = 4
"""What a weight takes in shared memory."""


@lru_cache(maxsize=64)
def subsets(n_values: int, device: torch.device) -> torch.Tensor:
    """int32 [2^K]: all subsets of the values as bit sets, by size and then in ascending order."""
    subset = torch.arange(1 << n_values, dtype=torch.int32, device=device)
    size = sum((subset >> v) & 1 for v in range(n_values))
    return ((size << n_values) + subset).argsort().int()


@lru_cache(maxsize=64)
def places(n_values: int, device: torch.device) -> torch.Tensor:
    """int32 [2^K]: byte offsets at which all_different.cu keeps the subsets, by size, in an order for few conflicts."""
    place_of = [0]
    for v in range(n_values):
        place_of += [place ^ (1 << v) ^ SPREAD[v] for place in place_of]
    levels: list[list[int]] = [[] for _ in range(n_values + 1)]
    for subset, place in enumerate(place_of):
        levels[bin(subset).count("1")].append(place)
    offsets = [BYTES * place for level in levels for place in _dealt(level)]
    return torch.tensor(offsets, dtype=torch.int32, device=device)


def _dealt(level: list[int]) -> list[int]:
    """The places of a level in runs of 32 lanes, dealt out so that few runs meet one bank of shared memory often."""
    sizes = [min(32, len(level) - start) for start in range(0, len(level), 32)]
    hands: list[list[int]] = [[] for _ in sizes]
    held = [[0] * 32 for _ in sizes]
    population = [sum(place % 32 == bank for place in level) for bank in range(32)]
    for place in sorted(level, key=lambda place: (-population[place % 32], place % 32)):
        bank = place % 32
        open_hands = [i for i, size in enumerate(sizes) if len(hands[i]) < size]
        chosen = min(open_hands, key=lambda i: (max(held[i][bank] + 1 - max(held[i]), 0), held[i][bank]))
        held[chosen][bank] += 1
        hands[chosen].append(place)
    return [place for hand in hands for place in hand]
