"""Launches the CUDA C kernel of automata: float32, all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.automaton.machine import CLASS_SHIFT, SOURCE_MASK
from emnesy_gpu.kernels.gpu.common.table_cache import made_once

MIN_STATES, MAX_STATES = 9, 1024
"""With fewer states most threads would have none: see unrolled.py."""

MAX_VALUES = 32
"""A thread keeps the logits of a symbol in registers."""

ALIGNMENT = 16


class Call(NamedTuple):
    """Arguments and results. machine: the tables in the order of ``machine.Machine``, and log_scale."""

    logits: Tensor
    label: Tensor
    tables: AutomatonTables
    machine: Sequence[Tensor]
    results: Sequence[Tensor]
    scale: float | None  # of the gradient, None for marginals
    symbols: Tensor | None


def fits(logits: Tensor, tables: AutomatonTables) -> bool:
    """Whether the kernel can run: CuPy, an Nvidia GPU, float32, and room for vectors in shared memory."""
    if not can_run(logits):
        return False
    # PyTorch's type stub lacks shared_memory_per_block_optin.
    properties: Any = torch.cuda.get_device_properties(logits.device)
    return is_served(tables, logits.shape[2], properties.shared_memory_per_block_optin)


def can_run(logits: Tensor) -> bool:
    """Whether CUDA C takes such logits: CuPy, an Nvidia GPU, and float32."""
    if not (logits.is_cuda and logits.dtype == torch.float32 and loader.available()):
        return False
    return torch.cuda.get_device_properties(logits.device).major >= 8


def is_served(tables: AutomatonTables, n_values: int, shared_bytes: int) -> bool:
    """Whether the kernel takes such an automaton, given so much shared memory for a block."""
    n_states, n_classes = tables.successor.shape[1:]
    has_room = launch_config.automaton_block(n_states, n_classes).shared_bytes <= shared_bytes
    return MIN_STATES <= n_states <= MAX_STATES and n_values <= MAX_VALUES and has_room


def is_weighted(tables: AutomatonTables) -> bool:
    return len(tables.successor) == 0


def launch(call: Call) -> None:
    """Marginals or the gradient, log evidence, status and what to repeat; see automaton.cu."""
    (batch, n, n_values), tables = call.logits.shape, call.tables
    n_states, n_classes = tables.successor.shape[1:]
    block = launch_config.automaton_block(n_states, n_classes)
    single = n_classes == n_values
    per_position = block.rows * (n_values + (0 if single else n_classes))
    vector = block.rows * block.lanes * block.states
    groups = -(-batch // block.rows)
    positions = launch_config.automaton_positions(n, 4 * n * (per_position + vector), groups)
    size = positions * per_position + (positions + -(-n // positions)) * vector
    programs = launch_config.resident_programs(groups, 4 * size)
    logits = call.logits.clone() if call.logits.data_ptr() % ALIGNMENT else call.logits
    loader.launch(
        "automaton.cu",
        "marginals",
        (("STATES", n_states), ("VALUES", n_values), ("CLASSES", n_classes), ("SINGLE", int(single)),
         ("LAYERED", int(len(tables.classes) > 1)), ("LANES", block.lanes), ("ROW_LANES", block.row_lanes),
         ("PER_THREAD", block.states), ("CHUNK", block.chunk), ("WEIGHTED", int(is_weighted(tables))),
         ("ORDERED", int(call.symbols is not None)), ("GRADIENT", int(call.scale is not None))),
        programs,
        block.lanes * block.row_lanes,
        block.shared_bytes,
        (logits, call.label, *_machine(call, block.stride), logits.new_empty(programs * size),
         tables.layer if call.symbols is None else call.symbols, *call.results, batch, n, positions,
         *tables.emissions.shape[:2], size, 1.0 if call.scale is None else float(call.scale)),
    )  # fmt: skip


def _machine(call: Call, stride: int) -> tuple[Tensor, ...]:
    """The tables in the order of the kernel. All weights are float32."""
    (
        layer, sizes, incoming, successor, classes, class_first, class_values, in_first, in_source, in_class, _, _, _, _, _,
        start, entry, emissions, log_scale,
    ) = call.machine  # fmt: skip

    def make() -> tuple[Tensor, ...]:
        if is_weighted(call.tables):
            columns, more, first, extents = weighted_lists(call.tables, stride)
        else:
            columns = torch.stack((incoming & SOURCE_MASK.value, incoming >> CLASS_SHIFT.value), -1) * stride
            more, first, extents = torch.stack((in_source, in_class), -1) * stride, in_first, sizes.new_empty(0)
        return columns, more, first, successor * stride, extents, start.float(), emissions.float()

    *edges, start, emissions = made_once(classes, ("distances", stride), make)
    return layer, sizes, *edges, classes, class_first, class_values, start, entry, emissions, log_scale


def weighted_lists(tables: AutomatonTables, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The edges into and out of each state by each class: columns, what exceeds them, where that begins, extents.

    An edge int32 [2] is the distance of its other end in bytes, and the bits of its weight. A class has columns [width, S],
    as many as a state has edges on average, filled with edges of weight 0 from state S. extents int32 [L, 2, C, 3]: where
    the columns begin, their width, and whether any edges exceed them, which are sorted by layer, direction, class and state.
    """
    t = tables
    n_layers, n_states, n_classes = len(t.classes), *t.successor.shape[1:]
    cell = torch.cat([_cells(t.in_first, t.in_class, 0, n_classes), _cells(t.out_first, t.out_class, 1, n_classes)])
    cell, order = cell.sort(stable=True)
    ends = torch.cat((t.in_source, t.out_target))[order] * stride
    edges = torch.stack((ends, torch.cat((t.in_weight, t.out_weight))[order].float().view(torch.int32)), -1)
    counts = cell.bincount(minlength=2 * n_layers * n_classes * n_states)
    rank = torch.arange(len(cell), device=cell.device) - (counts.cumsum(0) - counts)[cell]
    counts = counts.view(-1, n_states)
    width = ((counts.sum(1) + n_states - 1) // n_states).clamp(min=1)
    base = (width.cumsum(0) - width) * n_states
    columns = edges.new_tensor([n_states * stride, 0]).repeat(int(width.sum()) * n_states, 1)
    kind, fits_in = cell // n_states, rank < width[cell // n_states]
    columns[(base[kind] + rank * n_states + cell % n_states)[fits_in]] = edges[fits_in]
    exceeding = (counts - width[:, None]).clamp(min=0)
    first = functional.pad(exceeding.flatten().cumsum(0), (1, 0))
    extents = torch.stack((base, width, exceeding.sum(1) > 0), -1)
    return columns, edges[~fits_in], first.int(), extents.int()


def places_of_edges(first: Tensor) -> Tensor:
    """The number of the layer and the state that each edge is listed at. first: int32 [L, S + 1]."""
    n_layers, n_states = len(first), first.shape[1] - 1
    return torch.arange(n_layers * n_states, device=first.device).repeat_interleave(first.diff(dim=1).flatten())


def _cells(first: Tensor, klass: Tensor, direction: int, n_classes: int) -> Tensor:
    """The number of layer, direction, class and state of each edge. first: int32 [L, S + 1]."""
    n_states, place = first.shape[1] - 1, places_of_edges(first)
    return ((place // n_states * 2 + direction) * n_classes + klass) * n_states + place % n_states
