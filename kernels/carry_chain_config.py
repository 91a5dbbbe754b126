"""Chooses what the kernels of carry chains keep in registers and in scratch memory, by pure functions of sizes."""

from __future__ import annotations

from typing import NamedTuple

from emnesy_gpu.kernels.launch_config import RESIDENT_PROGRAMS, WARP, next_power_of_two


class PairConfig(NamedTuple):
    """Two-addend carry chain: a program holds `samples` tiles of `lanes` threads with `run` positions each."""

    samples: int
    lanes: int
    run: int
    num_warps: int


def pair(n_digits: int, base: int, compute_bytes: int, least_threads: int) -> PairConfig:
    """A thread keeps 2 * run * base values in registers; longer chains than 256 threads hold are cut into chunks.

    Longer runs would spill: with chunks, runs of four at three values a row and runs of two at sixteen. Larger blocks
    would rearrange tiles between their warps more often. Nothing here depends on the batch size, so a row's result does
    not either.
    """
    row_bytes = base * compute_bytes
    positions = next_power_of_two(n_digits)
    run = min(positions, 4 if row_bytes <= 8 else 2 if row_bytes <= 40 else 1)
    lanes = min(positions // run, 256)
    samples = max(1, least_threads // lanes)
    return PairConfig(samples, lanes, run, num_warps=samples * lanes // 32)


class PairBlock(NamedTuple):
    """Two-addend carry chain in CUDA C: a block has `rows` rows of the batch, `run` positions in each thread."""

    run: int
    rows: int
    warps: int
    shared_bytes: int


def block(n_digits: int, base: int) -> PairBlock:
    """As many rows as fit in a warp, or one row in a block of warps; the results of all rows are in shared memory.

    Two positions a thread halve the scan, but would spill above base 10.
    """
    run = 2 if base <= 10 and n_digits > 1 else 1
    threads = -(-n_digits // run)
    rows = max(WARP // threads, 1)
    return PairBlock(run, rows, -(-threads // WARP), rows * 2 * n_digits * base * 4)


class GeneralConfig(NamedTuple):
    """Rows of the carry chain that need logarithms: tiles [1, sums] and [1, width] of a warp."""

    sums: int
    width: int


def general(n_addends: int, base: int) -> GeneralConfig:
    return GeneralConfig(max(next_power_of_two(n_addends * base), 32), max(next_power_of_two(base), 4))


def row_marginals_entries(n_addends: int, base: int, compute_bytes: int) -> int:
    """What a thread of three or four addends keeps in scratch memory: all tables; 0: all in registers."""
    in_registers = base <= {(3, 4): 10, (3, 8): 5, (4, 4): 10}.get((n_addends, compute_bytes), 0)
    return 0 if in_registers else marginal_entry("end", n_addends, base)


AT_ONCE = 8
"""Entries of a table in scratch memory that are computed at once, and read at once."""


def rest_of_blocks(n: int) -> int:
    """Of n entries, those that do not fill AT_ONCE."""
    return n % AT_ONCE


def marginal_entry(table: str, n_addends: int, base: int) -> int:
    """Where a table of a position of three or four addends begins in scratch memory; "end": where all of them end.

    first, second, third: the probabilities of d_1, ... but the last addend. last: of that, from 1 - base on: less the
    digit of the label. left: of the sums d_1 + d_2. right: of the sums of the others, less the digit too, from 1 - base
    on; of three addends "last". other: what the sums of a half are weighted with. shares: results that are not divided
    by their sum yet. There is room around each for all that is looked up there, and for the rest of AT_ONCE entries.
    """
    one, two, four = (-(-n // AT_ONCE) * AT_ONCE for n in (base, 2 * base - 1, 3 * base - 2))
    right = four if n_addends == 4 else two
    beyond = n_addends * base  # more than any sum that carries ask for
    tables = {  # below, length, above
        "first": (0, one, 0),
        "third": (0, one, 0),
        "second": (one, base, two),
        "last": (two + n_addends, 2 * base - 1, beyond),
        "left": (right + n_addends, two, beyond),
        "right": (two + n_addends, right, beyond),
        "other": (0, one + right, 0),
        "shares": (0, two, 0),
        "end": (0, 0, 0),
    }
    if n_addends == 3:
        del tables["third"], tables["right"]
        table = "last" if table == "right" else table
    place, end, free = 0, 0, 0
    for name in tables:
        below, length, above = tables[name]
        place = end + max(free, below)
        if name == table:
            break
        end, free = place + length, above
    return place


def table_entry(table: int, n_addends: int, base: int) -> int:
    """Where the sum 0 of digits d_table + ... is in scratch memory, with room around for all sums that are looked up.

    The carry-in and d_1 reach below the table of d_2 + ..., a digit below the others.
    """
    return n_addends - 1 + base - 1 + (table - 2) * (n_addends * base + base - 1)


class RowMapConfig(NamedTuple):
    """What a thread of MAP keeps in scratch memory: entries, 0 if all is in registers, and whether logits are there."""

    entries: int
    logits_kept: bool


def row_map(n_addends: int, base: int, compute_bytes: int) -> RowMapConfig:
    """As much in registers as fits; of four addends with small bases all but the tables of d_2 + ... and d_3 + ..."""
    if base <= {(2, 4): 32, (2, 8): 10, (3, 4): 10, (3, 8): 5}.get((n_addends, compute_bytes), 0):
        return RowMapConfig(0, False)
    if n_addends == 4 and compute_bytes == 4 and base <= 10:
        return RowMapConfig(table_entry(4, n_addends, base), False)
    return RowMapConfig(table_entry(n_addends + 1, n_addends, base) + (n_addends - 1) * base, True)


def row_sample_entries(n_addends: int, base: int) -> int:
    """What a thread of samples keeps in scratch memory: all tables, then transfers and weights; 0: all in registers."""
    if n_addends < 4 and base <= 10:
        return 0
    return table_entry(n_addends + 1, n_addends, base) + n_addends**2 + (n_addends - 1) * base


def samples_of_thread(batch: int, n_samples: int) -> int:
    """As many as leave threads to fill a large GPU with half of RESIDENT_PROGRAMS: each makes all tables anew."""
    return min(max(batch * n_samples // (WARP * RESIDENT_PROGRAMS // 2), 4), 32)
