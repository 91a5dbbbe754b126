"""Filled boards, soft readings of them, and printed puzzles."""

from __future__ import annotations

import torch
from torch import Tensor

PUZZLES = [
    "530070000600195000098000060800060003400803001700020006060000280000419005000080079",
    "003020600900305001001806400008102900700000008006708200002609500800203009005010300",
]


def filled_board(size: int) -> Tensor:
    """A valid board: int64 [size, size]."""
    side = int(size**0.5)
    cells = torch.arange(size)
    return (side * cells[:, None] + cells[:, None] // side + cells) % size


def soft_logits(z: Tensor, gain: float, seed: int) -> Tensor:
    """gain for the true symbol plus standard normal noise: what a half-trained net gives."""
    size = z.shape[-1]
    noise = torch.randn(*z.shape, size, generator=torch.Generator().manual_seed(seed))
    return gain * torch.nn.functional.one_hot(z, size) + noise


def parse_puzzle(puzzle: str) -> Tensor:
    """Logits [1, 9, 9, 9] of 81 digits in reading order, 0 for an empty cell: hard zeros where a cell is given."""
    given_symbols = torch.tensor([int(character) for character in puzzle]).view(1, 9, 9)
    values = torch.arange(1, 10)
    excluded = (given_symbols[..., None] != values) & (given_symbols[..., None] > 0)
    return torch.zeros(excluded.shape).masked_fill(excluded, float("-inf"))
