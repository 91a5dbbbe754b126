"""Launches the CUDA C kernel of automata with few edges: float32, all rows, compiled for every automaton."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.automaton.cuda import ALIGNMENT, MAX_VALUES, Call, can_run
from emnesy_gpu.kernels.gpu.common.table_cache import made_once

MAX_STATES = 16
"""A thread keeps three vectors of states in registers."""

MAX_EDGES = 1024
"""Of all layers, which the compiler writes out: as many take it about two seconds."""

ROWS = 32


def fits(logits: Tensor, tables: AutomatonTables) -> bool:
    """Whether the kernel can run: CuPy, an Nvidia GPU, float32, no weights, and few edges."""
    return can_run(logits) and is_served(tables, logits.shape[2])


def is_served(tables: AutomatonTables, n_values: int) -> bool:
    """Whether the kernel takes such an automaton."""
    n_states = tables.successor.shape[1]
    return (
        n_states <= MAX_STATES
        and len(tables.successor) > 0
        and len(tables.in_source) <= MAX_EDGES
        and n_values <= MAX_VALUES
    )


def launch(call: Call) -> None:
    """Marginals or the gradient, log evidence, status and what to repeat; see automaton_unrolled.cu."""
    (batch, n, n_values), tables = call.logits.shape, call.tables
    n_layers, n_states, n_classes = tables.successor.shape
    together, width = positions_together(n, n_values, call.symbols is not None)
    kept = ROWS * (n_states + 2)
    positions = launch_config.automaton_positions(n, 4 * n * kept)
    block = -(-positions // together) * together
    size = block * kept + -(-n // block) * ROWS * n_states
    programs = launch_config.resident_programs(-(-batch // ROWS), 4 * size)
    logits = call.logits.clone() if call.logits.data_ptr() % ALIGNMENT else call.logits
    edges, layers, start, emissions = made_once(tables.classes, "unrolled", lambda: _made(tables))
    loader.launch(
        "automaton_unrolled.cu",
        "marginals",
        (("STATES", n_states), ("VALUES", n_values), ("CLASSES", n_classes), ("LAYERS", n_layers), *edges,
         ("WIDTH", width), ("TOGETHER", together), ("ORDERED", int(call.symbols is not None)),
         ("GRADIENT", int(call.scale is not None))),
        programs,
        ROWS,
        0,
        (logits, call.label, layers, start, emissions, tables.log_scale,
         logits.new_empty(programs * size), tables.layer if call.symbols is None else call.symbols, *call.results,
         batch, n, block, *tables.emissions.shape[:2], size, 1.0 if call.scale is None else float(call.scale)),
    )  # fmt: skip


def positions_together(n: int, n_values: int, ordered: bool) -> tuple[int, int]:
    """How many positions a thread loads at once, a divisor of n, and the numbers of a load, of which they are a multiple.

    A row of the batch, and each group of its positions, begins where such a load may. One group is about 16 numbers.
    """
    for width in (4, 2):
        least = width // math.gcd(width, n_values)
        if n % least == 0 and least * n_values <= 2 * MAX_VALUES and not (ordered and least > 1):
            more = [m for m in (8, 4, 2) if m > least and m * n_values <= 16 and n % m == 0 and not ordered]
            return max([least, *more]), width
    return 1, 1


def _made(tables: AutomatonTables) -> tuple[tuple[tuple[str, int | str], ...], Tensor, Tensor, Tensor]:
    """The edges as macros, for which numbers are copied to the host once, and tables as the kernel reads them."""
    pairs = tables.n_states[:, 0] * tables.n_classes
    parts = tables.successor.transpose(1, 2).flatten(), tables.classes.flatten(), tables.layer, tables.entry, pairs
    numbers = torch.cat(parts).cpu().split([len(part) for part in parts])
    targets, classes, layers, entries, edges_of_complete = (part.tolist() for part in numbers)
    is_complete = sum(edges_of_complete) == len(tables.in_source) and min(classes) >= 0
    edges = (
        ("TARGETS", ",".join(map(str, targets))), ("CLASS_OF_VALUE", ",".join(map(str, classes))),
        ("USUAL_LAYER", Counter(layers).most_common(1)[0][0]), ("OUTPUTS", int(max(entries[:-1], default=-1) >= 0)),
        ("COMPLETE", int(is_complete)),
    )  # fmt: skip
    positions = torch.stack((tables.layer, tables.entry), -1)
    return edges, positions, tables.start.float(), tables.emissions.float()
