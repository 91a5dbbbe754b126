"""Launches the CUDA C kernel of automata with few edges: float32, all rows, compiled for every automaton."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.automaton.cuda import ALIGNMENT, MAX_VALUES, Call, can_run, is_weighted, places_of_edges
from emnesy_gpu.kernels.gpu.common.table_cache import made_once

MAX_STATES, MAX_WEIGHTED_STATES = 32, 16
"""A thread keeps three vectors of states in registers, and weights of edges as they come."""

MAX_EDGES = 1024
"""Of all layers, which the compiler writes out: as many take it about two seconds."""

MAX_STATES_TOGETHER, MAX_WEIGHTED_STATES_TOGETHER = 16, 10
"""With more states registers do not hold the logits of several positions."""

ROWS = 32


def fits(logits: Tensor, tables: AutomatonTables) -> bool:
    """Whether the kernel can run: CuPy, an Nvidia GPU, float32, and few edges."""
    return can_run(logits) and is_served(tables, logits.shape[2])


def is_served(tables: AutomatonTables, n_values: int) -> bool:
    """Whether the kernel takes such an automaton."""
    most = MAX_WEIGHTED_STATES if is_weighted(tables) else MAX_STATES
    has_few = tables.successor.shape[1] <= most and 0 < len(tables.out_target) <= MAX_EDGES
    return has_few and n_values <= MAX_VALUES


def launch(call: Call) -> None:
    """Marginals or the gradient, log evidence, status and what to repeat; see automaton_unrolled.cu."""
    (batch, n, n_values), tables = call.logits.shape, call.tables
    n_states, n_classes = tables.successor.shape[1:]
    most = MAX_WEIGHTED_STATES_TOGETHER if is_weighted(tables) else MAX_STATES_TOGETHER
    alone = call.symbols is not None or n_states > most
    together, width = positions_together(n, n_values, alone)
    kept = ROWS * (n_states + 2)
    groups = -(-batch // ROWS)
    positions = launch_config.automaton_positions(n, 4 * n * kept, groups)
    block = -(-positions // together) * together
    size = block * kept + -(-n // block) * ROWS * n_states
    programs = launch_config.resident_programs(groups, 4 * size)
    logits = call.logits.clone() if call.logits.data_ptr() % ALIGNMENT else call.logits
    edges, (begin, end), machine = made_once(tables.classes, "unrolled", lambda: _made(tables))
    first_usual = -(-begin // together) * together
    n_usual = max(end - first_usual, 0) // together * together
    loader.launch(
        "automaton_unrolled.cu",
        "marginals",
        (("STATES", n_states), ("VALUES", n_values), ("CLASSES", n_classes), ("LAYERS", len(tables.classes)), *edges,
         ("WIDTH", width), ("TOGETHER", together), ("ORDERED", int(call.symbols is not None)),
         ("GRADIENT", int(call.scale is not None))),
        programs,
        ROWS,
        0,
        (logits, call.label, *machine, tables.log_scale,
         logits.new_empty(programs * size), tables.layer if call.symbols is None else call.symbols, *call.results,
         batch, n, block, *tables.emissions.shape[:2], size, first_usual, n_usual,
         1.0 if call.scale is None else float(call.scale)),
    )  # fmt: skip


def positions_together(n: int, n_values: int, alone: bool) -> tuple[int, int]:
    """How many positions a thread loads at once, a divisor of n, and the numbers of a load, of which they are a multiple.

    A row of the batch, and each group of its positions, begins where such a load may. One group is about 16 numbers.
    """
    for width in (4, 2):
        least = width // math.gcd(width, n_values)
        if n % least == 0 and least * n_values <= 2 * MAX_VALUES and not (alone and least > 1):
            more = [m for m in (8, 4, 2) if m > least and m * n_values <= 16 and n % m == 0 and not alone]
            return max([least, *more]), width
    return 1, 1


class Made(NamedTuple):
    """An automaton for the kernel."""

    macros: tuple[tuple[str, int | str], ...]
    usual: tuple[int, int]
    """The first of the most positions in a row with the usual layer, and the one behind the last."""
    tables: tuple[Tensor, ...]
    """Layers and entries of positions, weights of edges, and vectors of states."""


def _made(tables: AutomatonTables) -> Made:
    t = tables
    edges, order = _sorted_edges(t)
    weights = functional.pad(t.out_weight[order].float(), (0, -len(order) % 4))
    positions = torch.stack((t.layer, t.entry), -1)
    return Made(*_macros(t, edges), (positions, weights, t.start.float(), t.emissions.float()))


def _sorted_edges(tables: AutomatonTables) -> tuple[Tensor, Tensor]:
    """The edges as numbers, by layer, class, source and target, and which ones they are among the outgoing."""
    t = tables
    n_states, n_classes = t.successor.shape[1:]
    place = places_of_edges(t.out_first)
    numbers = (t.out_class * n_states + place % n_states) * n_states + t.out_target
    order = (place // n_states * (n_classes * n_states**2) + numbers).argsort()
    return numbers[order], order


def _macros(tables: AutomatonTables, edges: Tensor) -> tuple[tuple[tuple[str, int | str], ...], tuple[int, int]]:
    """What the code is made of, and the usual positions, for which numbers are copied to the host, once."""
    t = tables
    pairs = t.n_states[:, 0] * t.n_classes
    parts = edges, t.out_first[:, -1], t.classes.flatten(), t.layer, t.entry, pairs
    numbers = torch.cat(parts).cpu().split([len(part) for part in parts])
    codes, ends, classes, layers, entries, complete = (part.tolist() for part in numbers)
    is_complete = not is_weighted(t) and sum(complete) == len(codes) and min(classes) >= 0
    usual_layer = Counter(layers).most_common(1)[0][0]
    macros = (
        ("EDGES", _listed(codes)), ("EDGES_END", _listed(ends)), ("CLASS_OF_VALUE", _listed(classes)),
        ("USUAL_LAYER", usual_layer), ("WEIGHTED", int(is_weighted(t))),
        ("OUTPUTS", int(max(entries[:-1], default=-1) >= 0)), ("COMPLETE", int(is_complete)),
    )  # fmt: skip
    return macros, longest_run(layers, usual_layer)


def longest_run(layers: list[int], layer: int) -> tuple[int, int]:
    """The first of the most positions in a row that have this layer, and the one behind the last."""
    begin, longest = 0, (0, 0)
    for same, run in groupby(layers, layer.__eq__):
        end = begin + len(list(run))
        if same and end - begin > longest[1] - longest[0]:
            longest = begin, end
        begin = end
    return longest


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
