"""Launch functions of exact inference on a circuit on a GPU; contracts as in emnesy_gpu.reference.circuit.

Marginals take two launches: one that marks the rows in which probabilities underflow, and one that repeats these, if
any, in float64. The first plays the whole tape where a program can keep its table in caches; for larger tables a launch
plays one level. Scratch memory does not grow with the batch. Nothing here waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.circuit_tables import CircuitTables, certain_logits
from emnesy_gpu.kernels.gpu.circuit.group import Sizes
from emnesy_gpu.kernels.gpu.circuit.posterior import (
    GRADIENT,
    MARGINALS,
    PREDICTION,
    block_kernel,
    leaves_kernel,
    level_kernel,
    repeat_kernel,
    results_kernel,
)
from emnesy_gpu.kernels.gpu.circuit.values import MORE_ROWS, values_kernel
from emnesy_gpu.kernels.gpu.circuit.walks import Walk, map_kernel, sample_kernel
from emnesy_gpu.kernels.gpu.common.launch_options import LaunchOptions, rounded_once
from emnesy_gpu.kernels.gpu.common.results import float_dtype, row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed

ROW_BYTES = 32
"""Of one row of a table, for the rows of the batch that a program takes at once."""

BLOCK_ROWS = 6144
"""Rows of a table up to which one program plays the tape: the first-level cache holds them."""

LEVEL_SCRATCH_BYTES = 256 << 20
"""Scratch memory of tables that more than one launch works on."""

LEVEL_PROGRAMS = 1024
"""Programs of a launch for one level, about as many as run at once on a large GPU."""


class Config(NamedTuple):
    sizes: Sizes
    num_warps: int


class Task(NamedTuple):
    """What a call asks for. terms: that underflow may make smaller."""

    tables: CircuitTables
    tape_rows: int
    terms: int
    scale: float
    result: int


def tape_config(tables: CircuitTables, n_values: int, compute: torch.dtype) -> Config:
    """Tiles for a third of the pairs of a level on average: fewer would take more steps, more would often be empty."""
    pairs = len(tables.tape_left) // max(3 * (len(tables.levels) - 1), 1)
    return config_for(pairs, n_values, compute)


def config_for(pairs: int, n_values: int, compute: torch.dtype) -> Config:
    """Two threads a pair, and more where symbols have many values: up to 1,024 of them do not spill."""
    pairs = min(max(launch_config.next_power_of_two(pairs), 16), 128 if pairs >= 512 else 64)
    value_tile, rows = launch_config.next_power_of_two(n_values), ROW_BYTES // compute.itemsize
    num_warps = max(pairs // 16, min(value_tile * rows // 512, 8))
    symbols = max(256 * num_warps // value_tile, rows)  # a multiple of the rows
    return Config(Sizes(n_values, rows, value_tile, symbols, pairs), num_warps)


def posterior(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    out = logits.new_empty(logits.shape, dtype=float_dtype(logits))
    return _played(logits, rows, _task(logits, tables, tape_rows, 1.0, MARGINALS), wide, out)


def replace_rows(
    logits: Tensor,
    rows: Tensor,
    tables: Sequence[Tensor],
    tape_rows: int,
    results: Sequence[Tensor],
    wanted: Tensor,
    scale: float | None,
) -> None:
    """Write the results of the rows with `wanted`, uint8 [batch], computed in float64; it becomes 0.

    results: marginals, or the gradient if it has a scale; log evidence and status.
    """
    result = (1.0, MARGINALS) if scale is None else (scale, GRADIENT)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            _play_blocks(logits, rows, _task(logits, tables, tape_rows, *result), (*results, wanted))


def em_gradient(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    out = logits.new_empty(logits.shape, dtype=float_dtype(logits))
    return _played(logits, rows, _task(logits, tables, tape_rows, scale, GRADIENT), wide, out)


def predict(logits: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool) -> tuple[Tensor, Tensor]:
    task = _task(logits, tables, tape_rows, 1.0, PREDICTION)
    width = len(task.tables.derivatives) - logits.shape[1] * logits.shape[2]
    out = logits.new_empty(len(logits), width, dtype=float_dtype(logits))
    out, _, status = _played(logits, task.tables.given, task, wide, out)
    return out, status


def truth(z: Tensor, tables: Sequence[Tensor], tape_rows: int, n_values: int) -> Tensor:
    return predict(certain_logits(z, n_values), tables, tape_rows, False)[0] > -torch.inf


def _task(logits: Tensor, tables: Sequence[Tensor], tape_rows: int, scale: float, result: int) -> Task:
    t = CircuitTables(*tables)
    return Task(t, tape_rows, len(t.tape_left) + logits.shape[1] * logits.shape[2], scale, int(result))


def _played(logits: Tensor, label: Tensor, task: Task, wide: bool, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All rows, then those that underflow in float64 and with logarithms."""
    log_evidence, status = row_results(logits)
    results = (out, log_evidence, status, torch.ones_like(status))
    compute = torch.float64 if wide else out.dtype
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            if task.tape_rows <= BLOCK_ROWS:
                _play_blocks(logits, label, task, results, compute)
            else:
                _play_levels(logits, label, task, results, compute)
            _play_blocks(logits, label, task, results)
    return out, log_evidence, status


def _play_blocks(
    logits: Tensor, label: Tensor, task: Task, results: tuple[Tensor, ...], compute: torch.dtype | None = None
) -> None:
    """All rows, or without a type to compute in those that are to be repeated."""
    batch, n, n_values = logits.shape
    kernel, compute = (repeat_kernel, torch.float64) if compute is None else (block_kernel, compute)
    t, config = task.tables, tape_config(task.tables, n_values, compute)
    groups = -(-batch // config.sizes.rows)
    programs = launch_config.resident_programs(groups, (task.tape_rows + 1) * ROW_BYTES)
    scratch = logits.new_empty(programs * (task.tape_rows + 1) * config.sizes.rows, dtype=compute)
    kernel[(programs,)](
        logits, label, t.given, t.levels, t.runs, t.out, t.tape_left, t.tape_right, t.derivatives, t.mentioned, scratch,
        *results, batch, n, len(t.codes), len(t.levels) - 1, task.tape_rows, task.terms, *high_and_low(task.scale),
        SIZES=config.sizes, RESULT=task.result, **rounded_once(config.num_warps),
    )  # fmt: skip


def _play_levels(logits: Tensor, label: Tensor, task: Task, results: tuple[Tensor, ...], compute: torch.dtype) -> None:
    """Launches for parts of the batch whose tables scratch memory holds."""
    batch, n, n_values = logits.shape
    t, config = task.tables, tape_config(task.tables, n_values, compute)
    sizes, options = config.sizes, rounded_once(config.num_warps)
    groups = max(min(-(-batch // sizes.rows), LEVEL_SCRATCH_BYTES // ((task.tape_rows + 1) * ROW_BYTES)), 1)
    parts = max(min(LEVEL_PROGRAMS // groups, -(-len(t.out) // sizes.pairs)), 1)
    scratch = logits.new_empty(groups * (task.tape_rows + 1) * sizes.rows, dtype=compute)
    for first in range(0, batch, groups * sizes.rows):
        here = min(-(-(batch - first) // sizes.rows), groups)
        shape = (first, batch, n, len(t.codes), task.tape_rows)
        leaves_kernel[(here,)](logits, label, t.given, scratch, *shape, SIZES=sizes, RESULT=task.result, **options)
        for level in range(len(t.levels) - 1):
            level_kernel[(here, parts)](
                t.levels, t.runs, t.out, t.tape_left, t.tape_right, scratch, level, parts, task.tape_rows, SIZES=sizes,
                **options,
            )  # fmt: skip
        results_kernel[(here,)](
            t.given, t.derivatives, t.mentioned, scratch, *results, *shape, task.terms, *high_and_low(task.scale),
            SIZES=sizes, RESULT=task.result, **options,
        )  # fmt: skip


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    batch, n, n_values = logits.shape
    t = CircuitTables(*tables)
    chosen = logits.new_empty(batch, n, dtype=torch.int64)
    log_joint, status = row_results(logits)
    walk = walk_config(1, n_values)
    with torch.cuda.device_of(logits):
        for part in _parts(logits, rows, t, walk, True):
            map_kernel[(part.groups,)](
                t.given, t.first, t.left, t.right, part.tables, part.stacks, chosen, log_joint, status, part.first,
                batch, n, len(t.codes), _circuit_rows(t), len(t.node_levels), WALK=walk, **_walk_options(walk),
            )  # fmt: skip
    return chosen, log_joint, status


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    batch, n, n_values = logits.shape
    t = CircuitTables(*tables)
    drawn = logits.new_empty(n_samples, batch, n, dtype=torch.int64)
    status = logits.new_empty(batch, dtype=torch.uint8)
    walk = walk_config(n_samples, n_values)
    with torch.cuda.device_of(logits):
        for part in _parts(logits, rows, t, walk, False):
            sample_kernel[(part.groups,)](
                t.given, t.first, t.left, t.right, t.draws, part.tables, part.stacks, drawn, status, part.first, batch,
                n, len(t.codes), _circuit_rows(t), len(t.node_levels), n_samples, signed(seed), first_row, WALK=walk,
                **_walk_options(walk),
            )  # fmt: skip
    return drawn, status


def walk_config(n_samples: int, n_values: int) -> Walk:
    rows = ROW_BYTES // torch.float64.itemsize
    walks = rows * min(launch_config.next_power_of_two(n_samples), 32)
    return Walk(n_values, rows, walks, max(128 // walks, 1))


def _walk_options(walk: Walk) -> LaunchOptions:
    return rounded_once(max(walk.walks // 32, 1))


def _circuit_rows(tables: CircuitTables) -> int:
    """Leaves, the constant, and nodes."""
    return len(tables.derivatives) + 1 + len(tables.draws)


class Part(NamedTuple):
    """Rows of the batch whose values scratch memory holds: tables of groups of R rows, and stacks for their walks."""

    first: int
    groups: int
    tables: Tensor
    stacks: Tensor


def _parts(logits: Tensor, label: Tensor, tables: CircuitTables, walk: Walk, maximise: bool) -> Iterator[Part]:
    """The batch in parts, with the values of all nodes. The bits of a row do not depend on the parts."""
    batch, n, n_values = logits.shape
    n_levels = len(tables.node_levels) - 1
    table_size = (_circuit_rows(tables) + MORE_ROWS) * walk.rows
    stack_size = (n_levels + 1 + n) * walk.walks
    groups = max(min(-(-batch // walk.rows), LEVEL_SCRATCH_BYTES // (8 * table_size + 4 * stack_size)), 1)
    scratch = logits.new_empty(groups * table_size, dtype=torch.float64)
    stacks = logits.new_empty(groups * stack_size, dtype=torch.int32)
    for first in range(0, batch, groups * walk.rows):
        part = Part(first, min(-(-(batch - first) // walk.rows), groups), scratch, stacks)
        _launch_values(logits, label, tables, part, maximise)
        yield part


def _launch_values(logits: Tensor, label: Tensor, tables: CircuitTables, part: Part, maximise: bool) -> None:
    """One launch where a program can keep its table in caches, else one for the leaves and one for every level."""
    batch, n, n_values = logits.shape
    t, n_levels, n_rows = tables, len(tables.node_levels) - 1, _circuit_rows(tables)
    config = config_for(len(t.left) // n_levels, n_values, torch.float64)
    ranges = [(0, n_levels, 1)]
    if n_rows > BLOCK_ROWS:
        shares = max(min(LEVEL_PROGRAMS // part.groups, -(-len(t.left) // config.sizes.pairs)), 1)
        ranges = [(0, 0, 1), *((level, level + 1, shares) for level in range(n_levels))]
    for index, (*levels, shares) in enumerate(ranges):
        values_kernel[(part.groups, shares)](
            logits, label, t.given, t.first, t.left, t.right, t.node_levels, part.tables, part.first, batch, n,
            len(t.codes), n_rows, *levels, shares, SIZES=config.sizes, MAX=maximise, LEAVES=index == 0,
            **rounded_once(config.num_warps),
        )  # fmt: skip
