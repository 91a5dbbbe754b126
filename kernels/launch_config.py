"""Chooses block sizes and warps by pure functions: the same sizes always run the same code, without autotuning."""

from __future__ import annotations

import math
from typing import NamedTuple


def next_power_of_two(n: int) -> int:
    return 1 << (max(n, 1) - 1).bit_length()


RESIDENT_PROGRAMS = 2048
"""Programs of one warp that run at once on a large GPU, or more."""

WARP = 32
REGISTERS = 65536
"""Registers of a multiprocessor."""


def max_registers(num_warps: int) -> int:
    """Registers a thread may use, as a limit for the assembler: without one it may spill to fit more warps."""
    return min(REGISTERS // (WARP * num_warps), 256) - 1


SCRATCH_BYTES = 64 << 20
"""Scratch memory that the programs of a launch may have together."""


def resident_programs(batch: int, scratch_bytes: int) -> int:
    """As many as run at once on a large GPU, each with scratch for one row of the batch.

    What a row's result is made of does not depend on it.
    """
    return max(1, min(batch, RESIDENT_PROGRAMS, SCRATCH_BYTES // scratch_bytes))


class AllDifferentConfig(NamedTuple):
    """All-different factors: a program works on `rows` groups at once, `lanes` threads each; scratch in numbers."""

    rows: int
    lanes: int
    num_warps: int
    programs: int
    scratch: int


def all_different(
    batch: int, n_variables: int, n_groups: int, width: int, n_values: int, compute_bytes: int
) -> AllDifferentConfig:
    lanes = min(next_power_of_two(math.comb(n_values, n_values // 2)), 32)
    rows = max(32 // lanes, 1)
    padded = max(next_power_of_two(n_values), 4)
    scratch = n_variables * n_values + 2 * n_groups * width * n_values + rows * (padded**2 + (4 << n_values))
    programs = resident_programs(batch, scratch * compute_bytes)
    return AllDifferentConfig(rows, lanes, max(rows * lanes // 32, 1), programs, scratch)


class AllDifferentBlock(NamedTuple):
    """A block of the CUDA C kernel of all-different factors."""

    warps: int
    shared_bytes: int


def all_different_block(
    n_variables: int, n_groups: int, width: int, n_values: int, largest_phase: int
) -> AllDifferentBlock:
    """CUDA C: a warp for every group of a phase, as far as 96 KiB go; tables, rows and sums of a warp, and the row."""
    per_warp = (2 << n_values) + -(-(n_values * (n_values + 33)) // 4) * 4
    shared = n_variables * n_values + 2 * n_groups * width * n_values + n_groups + (1 << n_values) // 2
    warps = max(1, min(largest_phase, 16, (96 * 256 - shared) // (per_warp + 1)))
    return AllDifferentBlock(warps, 4 * (shared + warps * (per_warp + 1)))


AUTOMATON_BYTES = 128 << 10
"""Scratch memory of a program up to which the states of all positions are kept."""


def automaton_positions(n: int, scratch_bytes: int, programs: int = RESIDENT_PROGRAMS) -> int:
    """Positions whose states are kept: all n, which need `scratch_bytes`, or about the root of their number.

    All are kept too where the programs of a small batch have room for them together.
    """
    has_room = scratch_bytes <= max(AUTOMATON_BYTES, SCRATCH_BYTES // programs)
    return n if has_room else math.isqrt(n - 1) + 1


def automaton_sample_lanes(n_samples: int) -> int:
    return min(max(next_power_of_two(n_samples), WARP), 128)


class AutomatonBlock(NamedTuple):
    """A block of the CUDA C kernel of automata: `lanes` times `row_lanes` threads, for `rows` rows of the batch.

    A thread has `states` states of eight rows. The sums of `chunk` classes are finished together.
    """

    lanes: int
    row_lanes: int
    rows: int
    states: int
    chunk: int
    shared_bytes: int

    @property
    def stride(self) -> int:
        """Bytes from one state or class to the next in shared memory: neighbours begin in different banks."""
        return 6 * self.rows


def automaton_block(n_states: int, n_classes: int) -> AutomatonBlock:
    """Up to four states a thread, so that the weight of a class is read once for four edges of eight rows.

    A vector of states, weights and sums of classes, and sums of each lane for a chunk of classes are in shared memory.
    """
    tile = max(next_power_of_two(n_states), 8)
    lanes = max(tile // 4, 8)
    row_lanes = max(WARP // lanes, 1)
    quads = 2 * row_lanes
    chunk = min(n_classes, max(2048 // (lanes * quads), 4))
    vectors = (n_states + 1 + n_classes) * (quads + quads // 2) + n_classes * quads
    shared = vectors + lanes * (chunk * quads + row_lanes) + 2 * quads
    return AutomatonBlock(lanes, row_lanes, 4 * quads, tile // lanes, chunk, 16 * shared)


class EnumerationConfig(NamedTuple):
    """A list of assignments: tiles of `block` assignments, and of `rows` symbols with `width` values."""

    block: int
    rows: int
    width: int
    num_warps: int


ENUMERATION_BLOCK = 512
"""Assignments that a program scores at once, at most."""

ENUMERATION_SAMPLES = 16
"""Samples that are compared with a block of running sums at once."""

ENUMERATION_SAMPLE_BLOCK = 128
"""Running sums in that block, at most."""


def enumeration(n_assignments: int, n_symbols: int, n_values: int, largest_block: int) -> EnumerationConfig:
    """Eight assignments a thread: more would spill, and fewer make the sums across threads the larger part."""
    block = min(max(next_power_of_two(n_assignments), 32), largest_block)
    width = next_power_of_two(n_values)
    rows = min(next_power_of_two(n_symbols), max(128 // width, 1))
    return EnumerationConfig(block, rows, width, num_warps=max(block // 256, 1))


class JointTableConfig(NamedTuple):
    """All assignments: tiles of `others` left sides and `lanes` right sides, and of `rows` symbols with `width` values.

    sides: those that are scored at once.
    """

    lanes: int
    others: int
    sides: int
    rows: int
    width: int
    num_warps: int


JOINT_TABLE_TILE = 2048
"""Assignments that a program weights at once, at most."""

JOINT_TABLE_SAMPLES = 8
"""Samples that are compared with running sums at once."""

JOINT_TABLE_SAMPLE_TILE = 1024
"""Assignments that a program which draws samples weights at once, at most."""


def joint_table(n_symbols: int, n_values: int, left: int, right: int, largest_tile: int) -> JointTableConfig:
    """Eight assignments a thread, of neighbouring right sides."""
    lanes = min(max(next_power_of_two(right), 4), 128)
    others = min(next_power_of_two(left), largest_tile // lanes)
    width = min(next_power_of_two(n_values), 64)
    rows = min(next_power_of_two(n_symbols), max(128 // width, 1))
    num_warps = max(lanes * others // 256, 1)
    return JointTableConfig(lanes, others, 64 * num_warps, rows, width, num_warps)


def joint_table_values(n_values: int) -> tuple[int, int]:
    """Values of a symbol, and sides that contain each of them, that are summed at once."""
    values = min(next_power_of_two(n_values), 64)
    return values, 256 // values


def map_marginals(n_values: int) -> tuple[int, int]:
    """Symbols and values that a program of four warps writes at once."""
    width = min(next_power_of_two(n_values), 256)
    return 512 // width, width


ABC_SAMPLES = 128
"""Samples that a program draws at once."""

ABC_SYMBOLS = 32
"""Symbols that a program looks at together."""

ABC_SCORES = 128
"""Scores that a program looks at together."""


class AbcConfig(NamedTuple):
    """Weighted samples: tiles of two samples a lane, dealt to `splits` tasks a row; scratch in int32."""

    lanes: int
    splits: int
    programs: int
    scratch: int


def abc_sampling(batch: int, n_symbols: int, n_constraints: int, n_samples: int, local: bool) -> AbcConfig:
    """As many programs of one warp as run at once on a large GPU, each with scratch for one tile.

    Results are integer sums, the same for any number of programs.
    """
    lanes = ABC_SAMPLES // 2
    splits = max(1, min(-(-n_samples // ABC_SAMPLES), RESIDENT_PROGRAMS // max(batch, 1)))
    rows = -(-n_symbols // 4) * 4 + 1 + (n_constraints + 1 if local else 0)
    return AbcConfig(lanes, splits, min(batch * splits, RESIDENT_PROGRAMS), rows * lanes)


GRID_MAPS = 32
"""Maps that a warp works on at once, one a thread: more would wait for the slowest of them."""

GRID_SCRATCH_NUMBERS = 1 << 24
"""Numbers of scratch memory for all programs together."""


PATH_SCORES = 128
"""Scores of sampled paths that a program looks at together."""


def score_block(width: int) -> int:
    """Scores that a program of four warps looks at together: four a thread where there are thousands."""
    return ABC_SCORES if width <= 8 * ABC_SCORES else 4 * ABC_SCORES


class GridPathsConfig(NamedTuple):
    """Cheapest paths: programs that run at once, and the costs and distances of one tile in each, in numbers."""

    programs: int
    scratch: int


def grid_paths(tiles: int, height: int, width: int) -> GridPathsConfig:
    scratch = 2 * (height + 2) * (width + 2) * GRID_MAPS
    return GridPathsConfig(max(1, min(tiles, RESIDENT_PROGRAMS, GRID_SCRATCH_NUMBERS // scratch)), scratch)


class NotEqualConfig(NamedTuple):
    """Pairwise not-equal factors: a program works on a tile [tile, padded] of variables and their values."""

    tile: int
    padded: int
    num_warps: int
    programs: int
    scratch: int


def not_equal(batch: int, n_variables: int, degree: int, n_values: int, compute_bytes: int) -> NotEqualConfig:
    padded = max(next_power_of_two(n_values), 4)
    tile = max(128 // padded, 1)
    scratch = n_variables * n_values * (1 + 2 * degree) + degree * tile * padded
    programs = resident_programs(batch, scratch * compute_bytes)
    return NotEqualConfig(tile, padded, min(max(tile * padded // 128, 1), 8), programs, scratch)


class FactorGraphConfig(NamedTuple):
    """Factor graphs: a thread for each of `tile` factors of `rows` rows of the batch."""

    tile: int
    rows: int


def factor_graph(width: int) -> FactorGraphConfig:
    """width: factors that are renewed at once, a power of two; rows fill up a warp."""
    return FactorGraphConfig(width, max(WARP // width, 1))


class GibbsConfig(NamedTuple):
    """Gibbs chains: a warp runs `chains` chains of each of `rows` rows at a time; scratch in bytes."""

    rows: int
    chains: int
    programs: int
    scratch: int


def gibbs(batch: int, n_chains: int, n_symbols: int, n_values: int, n_groups: int) -> GibbsConfig:
    chains = min(next_power_of_two(n_chains), 32)
    rows = 32 // chains
    return GibbsConfig(rows, chains, min(-(-batch // rows), RESIDENT_PROGRAMS), 32 * (n_groups * n_values + n_symbols))


GIBBS_CHAINS = 128
"""Chains whose weights a program looks at together."""


def symbol_tile(n_values: int) -> tuple[int, int]:
    """A tile of symbols and their values that four warps look at together: two float64 numbers a thread or more."""
    width = next_power_of_two(n_values)
    return max(256 // width, 1), width


SCORED_SAMPLES = 32
"""Samples that a program draws and scores at once, one a thread."""


class ScoredChainsConfig(NamedTuple):
    """Gibbs chains on a score: tasks of `chains` chains, `width` lanes each, `parts` tasks a row."""

    chains: int
    width: int
    parts: int
    programs: int
    num_warps: int

    @property
    def lanes(self) -> int:
        """Of all programs."""
        return self.programs * self.chains * self.width


def scored_chains(batch: int, n_chains: int, n_values: int, lane_bytes: int, lane_a_thread: bool) -> ScoredChainsConfig:
    """A warp for a chain, or for several chains where values are few.

    Up to four warps where values are many, or one for every 32 where a thread keeps numbers of its one lane in scratch
    memory. Results are integer sums, the same for any number of programs. lane_bytes: scratch of a lane.
    """
    width = next_power_of_two(n_values)
    chains = max(WARP // width, 1)
    parts = -(-n_chains // chains)
    programs = resident_programs(batch * parts, lane_bytes * chains * width)
    num_warps = min(max(width // WARP, 1), WARP if lane_a_thread else 4)
    return ScoredChainsConfig(chains, width, parts, programs, num_warps)


class GivenLabelConfig(NamedTuple):
    """The posterior given label 0: tiles [tile, width] of symbols and their values."""

    tile: int
    width: int
    num_warps: int
    programs: int


def given_label(batch: int, n_symbols: int, n_values: int) -> GivenLabelConfig:
    """Two numbers a thread in four warps: float64 takes two registers each."""
    width = next_power_of_two(n_values)
    tile = max(256 // width, 1)
    programs = resident_programs(batch, 16 * n_symbols * n_values + 4 * n_symbols)
    return GivenLabelConfig(tile, width, 4, programs)


GIVEN_LABEL_PAIRS = 128
"""Pairs of symbols that a program looks at together."""
