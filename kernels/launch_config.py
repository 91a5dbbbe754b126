"""Pure functions from sizes to block sizes and warps. No autotuning: the same sizes always run the same code."""

from __future__ import annotations

from typing import NamedTuple


def next_power_of_two(n: int) -> int:
    return 1 << (max(n, 1) - 1).bit_length()


def max_registers(num_warps: int) -> int:
    """Registers a thread may use, as a limit for the assembler: without one it may spill to fit more warps."""
    return min(65536 // (32 * num_warps), 256) - 1


class PairConfig(NamedTuple):
    """Two-addend carry chain: a program holds `samples` tiles of `lanes` threads with `run` positions each."""

    samples: int
    lanes: int
    run: int
    num_warps: int


def carry_chain_pair(n_digits: int, base: int, compute_bytes: int) -> PairConfig:
    """A thread keeps 2 * run * base values in registers; longer chains than 256 threads hold are cut into chunks.

    Runs of four would spill at ten values a row. Nothing here depends on the batch size, so a row's result does
    not either.
    """
    row_bytes = base * compute_bytes
    positions = next_power_of_two(n_digits)
    run = min(positions, 4 if row_bytes <= 16 else 2 if row_bytes <= 64 else 1)
    lanes = min(positions // run, 256)
    samples = max(1, 128 // lanes)
    return PairConfig(samples, lanes, run, num_warps=samples * lanes // 32)


class GeneralConfig(NamedTuple):
    """Carry chain by tables over partial sums: tiles [samples, sums] and [samples, width]."""

    samples: int
    sums: int
    width: int
    num_warps: int


def carry_chain_general(n_addends: int, base: int) -> GeneralConfig:
    """One warp a sample: gathers along the sums then stay inside the warp."""
    return GeneralConfig(4, max(next_power_of_two(n_addends * base), 32), max(next_power_of_two(base), 4), 4)


def carry_chain_sample_lanes(n_samples: int) -> int:
    return min(max(next_power_of_two(n_samples), 32), 128)
