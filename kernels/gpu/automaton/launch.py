"""Launch functions of exact inference on an automaton on a GPU; contracts as in emnesy_gpu.reference.automaton.

The first call brings the tables into the order in which the kernels read them. Marginals take two launches: one in
float32 probabilities, which marks the rows whose digits drown, and one that repeats these, if any, with float64
logarithms. The first is CUDA C where CuPy is installed: with few edges a kernel that is compiled for them, else one that
looks them up. All else is Triton.
Scratch memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.gpu.automaton import cuda, unrolled
from emnesy_gpu.kernels.gpu.automaton.machine import LAYER_SIZES, Sizes, tables_kernel
from emnesy_gpu.kernels.gpu.automaton.paths import map_kernel, paths_size, sample_kernel
from emnesy_gpu.kernels.gpu.automaton.posterior import posterior_kernel
from emnesy_gpu.kernels.gpu.automaton.vectors import scratch_size
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed
from emnesy_gpu.kernels.gpu.common.table_cache import made_once

MAX_STATES = 1024


class Config(NamedTuple):
    sizes: Sizes
    num_warps: int


def row_config(tables: AutomatonTables, n_values: int, rows: int) -> Config:
    """Tiles for this many rows a program; nothing depends on the batch."""
    n_states, n_classes = tables.successor.shape[1:]
    tile = launch_config.next_power_of_two(n_states)
    value_tile = launch_config.next_power_of_two(n_values)
    class_tile = launch_config.next_power_of_two(n_classes + 1)
    num_warps = min(max(tile * rows // 512, tile // 128 if rows == 1 else 1, value_tile // 512, 1), 8)
    threads = 32 * num_warps
    row_lanes = min(max(threads // tile, 1), max(rows // 4, 1))
    chunk = min(launch_config.next_power_of_two(n_classes), 16)
    lanes = min(tile, threads)
    parts = min(lanes, max(4 * threads // (chunk * rows), 1))
    symbols = max(8 * threads // max(value_tile, class_tile), rows)  # a multiple of the rows
    items = max(8 * threads // rows, 1)
    positions = max(2 * threads // rows, 1)
    layered, weighted = len(tables.classes) > 1, len(tables.successor) == 0
    sizes = Sizes(
        n_states, n_values, n_classes, n_classes == n_values, rows, tile, row_lanes, lanes, chunk,
        parts, value_tile, class_tile, symbols, items, positions, layered, weighted,
    )  # fmt: skip
    return Config(sizes, num_warps)


def rows_of_program(n_states: int, n_values: int) -> int:
    """Eight numbers a thread of a warp; sixteen where threads have two states or more, whose sums they then share.

    At least the four rows that a load takes. Fewer than wanted where there are many values, as the priors of one symbol
    of each row are computed together.
    """
    tile = launch_config.next_power_of_two(n_states)
    most = 512 // launch_config.next_power_of_two(n_values)
    wanted = (256 if tile <= 32 else 512) // tile
    return max(min(wanted, most, 32), 4)


def posterior(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], symbols: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return _marginals(logits, rows, AutomatonTables(*tables), None, symbols)


def em_gradient(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], scale: float, symbols: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return _marginals(logits, rows, AutomatonTables(*tables), scale, symbols)


def _marginals(
    logits: Tensor, label: Tensor, tables: AutomatonTables, scale: float | None, symbols: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, or with a scale the gradient, log evidence and status."""
    _check_states(tables)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    out = torch.empty_like(logits, dtype=dtype)
    log_evidence, status = logits.new_empty(len(logits), dtype=dtype), logits.new_empty(len(logits), dtype=torch.uint8)
    if len(logits) > 0:
        # The float32 launch marks the rows to be repeated.
        redo = torch.empty_like(status) if dtype == torch.float32 else torch.ones_like(status)
        results = (out, log_evidence, status, redo)
        with torch.cuda.device_of(logits):
            arguments = _machine(tables, logits.shape[2])
            for compute in (torch.float32, torch.float64) if dtype == torch.float32 else (torch.float64,):
                _launch(logits, label, tables, arguments, results, compute, scale, symbols)
    return out, log_evidence, status


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    t = AutomatonTables(*tables)
    _check_states(t)
    batch, n, _ = logits.shape
    chosen = logits.new_empty(batch, n, dtype=torch.int64)
    log_joint = logits.new_empty(batch, dtype=torch.promote_types(logits.dtype, torch.float32))
    status = logits.new_empty(batch, dtype=torch.uint8)
    if batch > 0:
        with torch.cuda.device_of(logits):
            machine = _machine(t, logits.shape[2])
            config, scratch, programs = _paths(logits, t)
            map_kernel[(programs,)](
                logits, rows, *machine, scratch, chosen, log_joint, status, batch, n, *t.emissions.shape[:2],
                SIZES=config.sizes, **_options(config.num_warps),
            )  # fmt: skip
    return chosen, log_joint, status


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    t = AutomatonTables(*tables)
    _check_states(t)
    batch, n, _ = logits.shape
    drawn = logits.new_empty(n_samples, batch, n, dtype=torch.int64)
    status = logits.new_empty(batch, dtype=torch.uint8)
    if batch > 0:
        with torch.cuda.device_of(logits):
            machine = _machine(t, logits.shape[2])
            config, scratch, programs = _paths(logits, t)
            sample_kernel[(programs,)](
                logits, rows, *machine, scratch, drawn, status, batch, n, *t.emissions.shape[:2], n_samples,
                signed(seed), first_row, SIZES=config.sizes,
                SAMPLES=launch_config.automaton_sample_lanes(n_samples), **_options(config.num_warps),
            )  # fmt: skip
    return drawn, status


def _paths(logits: Tensor, tables: AutomatonTables) -> tuple[Config, Tensor, int]:
    """Tiles, scratch memory and programs of the kernels that take one row of the batch a program."""
    config = row_config(tables, logits.shape[2], 1)
    size = paths_size(logits.shape[1], config.sizes)
    programs = launch_config.resident_programs(len(logits), 8 * size)
    return config, logits.new_empty(programs * size, dtype=torch.float64), programs


def _check_states(tables: AutomatonTables) -> None:
    n_states = tables.successor.shape[1]
    if n_states > MAX_STATES:
        message = f"automata on a GPU have at most {MAX_STATES} states, got {n_states}"
        raise ValueError(f"{message}: use tensors on a CPU")


def _machine(tables: AutomatonTables, n_values: int) -> tuple[Tensor, ...]:
    """The tables in the order of ``machine.Machine``, and log_scale. What they lack is made at the first call."""
    t = tables
    made = made_once(t.classes, n_values, lambda: _made_tables(t, n_values))
    sizes, incoming, successor, class_first, class_values = made
    return (
        t.layer, sizes, incoming, successor, t.classes, class_first, class_values, t.in_first, t.in_source, t.in_class,
        t.in_weight, t.out_first, t.out_class, t.out_target, t.out_weight, t.start, t.entry, t.emissions, t.log_scale,
    )  # fmt: skip


def _made_tables(t: AutomatonTables, n_values: int) -> tuple[Tensor, ...]:
    """What ``tables_kernel`` writes."""
    config = row_config(t, n_values, 1)
    n_layers, n_states, n_classes = len(t.classes), *t.successor.shape[1:]
    sizes = t.classes.new_empty(n_layers, LAYER_SIZES.value)
    incoming = t.classes.new_empty(2 * len(t.in_source) + n_layers * n_states)
    successor = t.classes.new_empty(len(t.successor), n_classes, n_states)
    class_first = t.classes.new_empty(n_layers, n_classes + 1)
    class_values = torch.empty_like(t.classes)
    tables_kernel[(n_layers,)](
        t.successor, t.classes, t.in_first, t.in_source, t.in_class, sizes, incoming, successor, class_first,
        class_values, n_layers, SIZES=config.sizes, **_options(config.num_warps),
    )  # fmt: skip
    return sizes, incoming, successor, class_first, class_values


def _launch(
    logits: Tensor, label: Tensor, tables: AutomatonTables, machine: tuple[Tensor, ...], results: tuple[Tensor, ...],
    compute: torch.dtype, scale: float | None, symbols: Tensor | None,
) -> None:  # fmt: skip
    """All rows in float32, or those to be repeated in float64."""
    call = cuda.Call(logits, label, tables, machine, results, scale, symbols)
    if compute == torch.float32 and unrolled.fits(logits, tables):
        unrolled.launch(call)
    elif compute == torch.float32 and cuda.fits(logits, tables):
        cuda.launch(call)
    else:
        launch_triton(logits, label, tables, machine, results, compute, scale, symbols)


def launch_triton(
    logits: Tensor, label: Tensor, tables: AutomatonTables, machine: tuple[Tensor, ...], results: tuple[Tensor, ...],
    compute: torch.dtype, scale: float | None, symbols: Tensor | None,
) -> None:  # fmt: skip
    batch, n, n_values = logits.shape
    rows = rows_of_program(tables.successor.shape[1], n_values) if compute == torch.float32 else 1
    config = row_config(tables, n_values, rows)
    block = launch_config.automaton_positions(n, scratch_size(n, n, config.sizes) * compute.itemsize)
    size = scratch_size(n, block, config.sizes)
    programs = launch_config.resident_programs(-(-batch // rows), size * compute.itemsize)
    scratch = logits.new_empty(programs * size, dtype=compute)
    posterior_kernel[(programs,)](
        logits, label, *machine, scratch, tables.layer if symbols is None else symbols, *results, batch, n, block,
        *tables.emissions.shape[:2], *high_and_low(1.0 if scale is None else scale),
        SIZES=config.sizes._replace(ordered=symbols is not None), GRADIENT=scale is not None,
        **_options(config.num_warps),
    )  # fmt: skip


def _options(num_warps: int) -> dict[str, int | bool]:
    """Rounding a * b + c once changes results, and a limit keeps the assembler from spilling."""
    return {"num_warps": num_warps, "maxnreg": launch_config.max_registers(num_warps), "enable_fp_fusion": True}
