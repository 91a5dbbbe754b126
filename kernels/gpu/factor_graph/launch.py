"""Launches loopy belief propagation on any factor graph on a GPU; contract in ``emnesy_gpu.reference.factor_graph``.

Scratch memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, float32, float64, int32, int64, uint8

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, RESIDUAL, SERIAL, Compiled, FactorGraphTables
from emnesy_gpu.kernels.gpu.common.belief_launches import Batch, Parameters, Results, batch_of, passes
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO
from emnesy_gpu.kernels.gpu.common.results import row_results
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low
from emnesy_gpu.kernels.gpu.common.table_cache import made_once
from emnesy_gpu.kernels.gpu.factor_graph.assignment import log_joint_kernel
from emnesy_gpu.kernels.gpu.factor_graph.decimation import Options, decimation_kernel
from emnesy_gpu.kernels.gpu.factor_graph.graph import Sizes, Space, scratch_size
from emnesy_gpu.kernels.gpu.factor_graph.kernels import belief_propagation_kernel


class Ends(NamedTuple):
    """The other end of every edge of the chains, int32 [edges]."""

    in_target: Tensor
    out_source: Tensor


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
) -> Results:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    batch, compiled = batch_of(logits, label), Compiled.from_list(tables)
    parameters = Parameters(iterations, damping, tolerance, maximise)
    if len(logits) > 0:
        with torch.cuda.device_of(logits):
            for compute in passes(batch):
                _launch(batch, compiled, compute, parameters, schedule)
    return batch.results


def search(logits: Tensor, label: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A probable assignment int64 [batch, n] and the status uint8 [batch], in one launch."""
    compiled, (batch, n, _) = Compiled.from_list(tables), logits.shape
    z, codes = logits.new_empty(batch, n, dtype=int64), logits.new_empty(batch, dtype=uint8)
    if batch > 0:
        with torch.cuda.device_of(logits):
            _launch_search(logits, label, compiled, (z, codes))
    return z, codes


def log_joint(logits: Tensor, z: Tensor, status: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """log p(z, all factors) [batch] of assignments int64 [batch, n], and whether all factors hold, bool [batch]."""
    compiled, (batch, n, k) = Compiled.from_list(tables), logits.shape
    graph, chains = compiled
    joint, valid = row_results(logits)
    if batch > 0:
        sizes, space = sizes_of(compiled, k, SERIAL, False), _space_of(compiled, k)
        size, n_edges = scratch_size(n, len(graph.variable), space, sizes), len(graph.variable)
        programs = launch_config.resident_programs(-(-batch // sizes.rows), size * float64.itemsize)
        scratch = logits.new_empty(programs * size, dtype=float64)
        with torch.cuda.device_of(logits):
            log_joint_kernel[(programs,)](
                logits, z, status, *_graph_tables(graph, float64), *_chain_tables(chains, float64), graph.flood,
                graph.flood_sizes, graph.log_scale, chains.log_scale, scratch, joint, valid, len(graph.flood), batch, n,
                n_edges, k, space.arity, space.n_states, chains.successor.shape[1], space.n_classes, SIZES=sizes,
                **rounded_once(sizes.lanes // launch_config.WARP),
            )  # fmt: skip
    return joint, valid.view(torch.bool)


def _launch_search(logits: Tensor, label: Tensor, compiled: Compiled, results: tuple[Tensor, Tensor]) -> None:
    graph, chains = compiled
    batch, n, k = logits.shape
    sizes, space = sizes_of(compiled, k, SERIAL, True), _space_of(compiled, k)
    size, n_edges = scratch_size(n, len(graph.variable), space, sizes), len(graph.variable)
    programs = launch_config.resident_programs(-(-batch // sizes.rows), size * (float32.itemsize + float64.itemsize))
    narrow, wide = (logits.new_empty(programs * size, dtype=dtype) for dtype in (float32, float64))
    # Rows of a launch of belief propagation that a program has to itself.
    own = programs * sizes.rows
    ones = label.new_empty(own)
    rows = batch_of(logits.new_empty(own, n, k), ones)
    choice, numbers = logits.new_empty(own, n, dtype=int32), logits.new_empty(2, own, dtype=int32)
    tile, width = launch_config.symbol_tile(k)
    options = Options(k, max(tile * sizes.lanes // 128, 1), width, 1 if rows.results[0].dtype == float32 else 2)
    logs = (_weights(table, float64) for table in (graph.unary, graph.pairs, chains.in_weight, chains.out_weight))
    decimation_kernel[(programs,)](
        logits, label, *_graph_tables(graph, float32), *_chain_tables(chains, float32), *logs, graph.waves,
        graph.wave_sizes, graph.flood, graph.flood_sizes, narrow, wide, rows.logits, ones, *rows.results, rows.redo,
        choice, torch.empty_like(choice, dtype=float64), *numbers, *results, len(graph.waves), len(graph.flood), batch, n,
        n_edges, k, space.arity, space.n_states, chains.successor.shape[1], space.n_classes, SIZES=sizes,
        OPTIONS=options, **rounded_once(sizes.lanes // launch_config.WARP),
    )  # fmt: skip


def _space_of(compiled: Compiled, n_values: int) -> Space:
    graph, chains = compiled
    return Space(n_values, len(graph.arities) - 1, max(2, chains.successor.shape[1]), chains.successor.shape[2])


def sizes_of(compiled: Compiled, n_values: int, schedule: str, maximise: bool) -> Sizes:
    """Tiles: nothing depends on the batch."""
    graph, chains = compiled
    width = graph.waves.shape[1]
    tile, rows = launch_config.factor_graph(width)
    if schedule == RESIDUAL:
        tile, rows = tile * rows, 1
    n_classes = chains.successor.shape[2]
    return Sizes(
        tile, rows, tile * rows, width, len(graph.pairs) > 0, n_values == 2, len(chains.layer) > 1,
        n_classes == n_values, len(chains.successor) == 0, schedule == FLOODING, schedule == RESIDUAL, maximise,
    )  # fmt: skip


def _ends(chains: AutomatonTables) -> Ends:
    """Written out once: a thread goes through the edges of a layer one by one."""
    return made_once(
        chains.in_source,
        "ends",
        lambda: Ends(*(_end_of(first, chains) for first in (chains.in_first, chains.out_first))),
    )


def _end_of(first: Tensor, chains: AutomatonTables) -> Tensor:
    """The state of each edge, where first [L, S + 1] says where those of each state begin."""
    n_layers, n_states = first.shape[0], first.shape[1] - 1
    state = torch.arange(n_states, dtype=torch.int32, device=first.device).repeat(n_layers)
    return torch.repeat_interleave(state, first.diff(dim=1).flatten().long(), output_size=len(chains.in_source))


def _launch(batch: Batch, compiled: Compiled, compute: torch.dtype, parameters: Parameters, schedule: str) -> None:
    """All rows in float32, or those to be repeated in float64."""
    graph, chains = compiled
    n_rows, n_variables, n_values = batch.logits.shape
    sizes = sizes_of(compiled, n_values, schedule, parameters.maximise)
    space = _space_of(compiled, n_values)
    size, n_edges = scratch_size(n_variables, len(graph.variable), space, sizes), len(graph.variable)
    programs = launch_config.resident_programs(-(-n_rows // sizes.rows), size * compute.itemsize)
    scratch = batch.logits.new_empty(programs * size, dtype=compute)
    order = (graph.waves, graph.wave_sizes) if schedule == SERIAL else (graph.flood, graph.flood_sizes)
    n_order = len(graph.order) if schedule == RESIDUAL else len(order[0])
    queue_size = len(graph.kind) + space.arity * n_values if schedule == RESIDUAL else 0
    queue = scratch.new_empty(programs * queue_size)
    belief_propagation_kernel[(programs,)](
        batch.logits, batch.label, *_graph_tables(graph, compute), *_chain_tables(chains, compute), *order, graph.flood,
        graph.flood_sizes, graph.order, graph.factor_sizes, graph.owner, graph.log_scale, chains.log_scale, scratch, queue,
        *batch.results, batch.redo, n_order, len(graph.flood), n_rows, n_variables, n_edges, n_values, space.arity,
        space.n_states, chains.successor.shape[1], space.n_classes, len(graph.order), len(graph.kind), parameters.iterations, *high_and_low(parameters.damping), parameters.tolerance,
        SIZES=sizes, **rounded_once(sizes.lanes // launch_config.WARP),
    )  # fmt: skip


def _weights(table: Tensor, compute: torch.dtype) -> Tensor:
    """float64 weights as numbers of the kind that a launch computes with: float32, or log2."""
    if compute == torch.float32:
        return made_once(table, compute, lambda: table.float())
    return made_once(table, compute, lambda: table.log2().clamp_min(LOG_ZERO.value))


def _graph_tables(t: FactorGraphTables, compute: torch.dtype) -> tuple[Tensor, ...]:
    """In the order of ``graph.Graph``."""
    unary, pairs = _weights(t.unary, compute), _weights(t.pairs, compute)
    return t.size, unary, t.first, t.variable, t.which, pairs, t.incident, t.incident_first


def _chain_tables(t: AutomatonTables, compute: torch.dtype) -> tuple[Tensor, ...]:
    """In the order of ``graph.Chains``."""
    ends = _ends(t)
    return (
        t.layer, t.classes, t.in_first, t.in_source, t.in_class, ends.in_target, _weights(t.in_weight, compute),
        t.out_first, ends.out_source, t.out_class, t.out_target, _weights(t.out_weight, compute),
    )  # fmt: skip
