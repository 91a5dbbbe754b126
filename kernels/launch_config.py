"""Pure functions from sizes to block sizes and warps. No autotuning: the same sizes always run the same code."""

from __future__ import annotations

from typing import NamedTuple


def next_power_of_two(n: int) -> int:
    return 1 << (max(n, 1) - 1).bit_length()


class PairConfig(NamedTuple):
    """Launch of a two-addend carry chain: each program holds `samples` tiles of `lanes * run` positions."""

    samples: int
    lanes: int
    run: int
    num_warps: int


def carry_chain_pair(n_digits: int, base: int, compute_bytes: int) -> PairConfig:
    positions = next_power_of_two(n_digits)
    run = min(positions, 4)
    lanes = positions // run
    samples = max(1, 512 // positions)
    return PairConfig(samples, lanes, run, max(4, lanes // 32))
