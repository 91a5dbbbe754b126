"""Launches the CUDA C kernel of automata without weights: float32, all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
    """Whether the kernel can run: CuPy, an Nvidia GPU, float32, no weights, and room for vectors in shared memory."""
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
    return len(tables.successor) > 0 and MIN_STATES <= n_states <= MAX_STATES and n_values <= MAX_VALUES and has_room


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
         ("PER_THREAD", block.states), ("CHUNK", block.chunk), ("ORDERED", int(call.symbols is not None)),
         ("GRADIENT", int(call.scale is not None))),
        programs,
        block.lanes * block.row_lanes,
        block.shared_bytes,
        (logits, call.label, *_machine(call.machine, block.stride), logits.new_empty(programs * size),
         tables.layer if call.symbols is None else call.symbols, *call.results, batch, n, positions,
         *tables.emissions.shape[:2], size, 1.0 if call.scale is None else float(call.scale)),
    )  # fmt: skip


def _machine(machine: Sequence[Tensor], stride: int) -> tuple[Tensor, ...]:
    """The tables in the order of the kernel. Edges and targets are distances in bytes; all weights are float32."""
    (
        layer, sizes, incoming, successor, classes, class_first, class_values, in_first, in_source, in_class, _, _, _, _, _,
        start, entry, emissions, log_scale,
    ) = machine  # fmt: skip

    def make() -> tuple[Tensor, ...]:
        edges = torch.stack((incoming & SOURCE_MASK.value, incoming >> CLASS_SHIFT.value), -1)
        return edges * stride, successor * stride, start.float(), emissions.float()

    edges, targets, start, emissions = made_once(classes, ("distances", stride), make)
    return (
        layer, sizes, edges, targets, classes, class_first, class_values, in_first, in_source, in_class, start, entry,
        emissions, log_scale,
    )  # fmt: skip
