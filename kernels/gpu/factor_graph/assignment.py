"""Weighs assignments of R rows at a time: log p(z) and the factors, see emnesy_gpu.reference.factor_graph.log_joint.

A thread has a symbol of a row, then a factor, as in belief propagation. Everything is log2 in float64.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.vectors import divisor
from emnesy_gpu.kernels.gpu.common.log2_semiring import LEAST_LOG2, LN_2, LOG2_E, exp2, log2
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.kernels.gpu.factor_graph.chains import step_forward
from emnesy_gpu.kernels.gpu.factor_graph.graph import Chains, Graph, Space, row_of, slot_of, sum_over_slots, work_of
from emnesy_gpu.kernels.gpu.factor_graph.kernels import CHAIN, PARITY, wave_at
from emnesy_gpu.kernels.gpu.factor_graph.messages import lanes_of

LOG = tl.constexpr(2)  # of sum_product: logarithms that are exact to float64


@triton.jit
def _symbol_terms(graph, logits, z, wanted, SIZES: tl.constexpr):
    """log2 p(z_i), and log2 of unary weights, summed over the symbols of each thread [L]."""
    K = graph.n_values
    prior = tl.full((SIZES.lanes,), 0, tl.float64)
    weight = tl.full((SIZES.lanes,), 0, tl.float64)
    for start in range(0, graph.n_variables, SIZES.tile):
        i = start + slot_of(SIZES)
        inside = wanted & (i < graph.n_variables)
        value = tl.load(z + i, mask=inside, other=0).to(tl.int32)
        chosen = bounded(tl.load(logits + i * K + value, mask=inside, other=0.0)).to(tl.float64)
        top = chosen
        for v in range(K):
            top = tl.maximum(top, bounded(tl.load(logits + i * K + v, mask=inside, other=0.0)).to(tl.float64))
        total = tl.full((SIZES.lanes,), 0, tl.float64)
        for v in range(K):
            x = bounded(tl.load(logits + i * K + v, mask=inside, other=0.0)).to(tl.float64)
            total += exp2((x - top) * LOG2_E)
        prior += tl.where(inside, (chosen - top) * LOG2_E - log2(total), 0.0)
        weight += tl.load(graph.unary + i * K + value, mask=inside, other=0.0)
    return prior, weight


@triton.jit
def _pair_weight(graph, z, f, edge, live):
    K = graph.n_values
    one = tl.load(z + tl.load(graph.variable + edge, mask=live, other=0), mask=live, other=0)
    other = tl.load(z + tl.load(graph.variable + edge + 1, mask=live, other=0), mask=live, other=0)
    table = tl.load(graph.which + f, mask=live, other=0)
    return tl.load(graph.pairs + ((table * K + one) * K + other), mask=live, other=0.0)


@triton.jit
def _parity_weight(graph, z, f, edge, arity, live, wave):
    bits = edge * 0
    for j in range(wave.arity):
        here = j < arity
        bits += tl.load(z + tl.load(graph.variable + edge + j, mask=here, other=0), mask=here, other=0).to(tl.int32)
    return tl.where(live & (bits % 2 != tl.load(graph.which + f, mask=live, other=0)), LOG_ZERO, 0.0)


@triton.jit
def _chain_weight(graph, chains, work, z, f, edge, arity, live, wave, SIZES: tl.constexpr):
    """The weight of all paths that read the symbols: messages forwards, from cavities that have one value."""
    L: tl.constexpr = SIZES.lanes
    position = tl.load(graph.which + f, mask=live, other=0)
    weight = lanes_of(0.0, work, SIZES)
    tl.store(work.alpha, weight)
    tl.store(work.scales, weight)
    for j in range(wave.arity):
        here = live & (j < arity)
        layer = tl.load(chains.layer + position + j, mask=here, other=0)
        variable = tl.load(graph.variable + edge + j, mask=here, other=0)
        value = tl.load(z + variable, mask=here, other=0).to(tl.int32)
        klass = tl.load(chains.classes + layer * graph.n_values + value, mask=here, other=-1)
        for c in range(chains.n_classes):
            cavity = tl.where(klass == c, 0.0, LOG_ZERO).to(tl.float64)
            tl.store(work.classes + (j * chains.n_classes + c) * L, cavity)
        after = step_forward(chains, work, layer, here, j, wave, SIZES, LOG, False)
        tl.store(work.scales + (j + 1) * L, divisor(after, LOG))
        weight += tl.where(here, after, 0.0)
    return weight


@triton.jit
def _factor_terms(graph, chains, work, z, wanted, flood, SIZES: tl.constexpr):
    """log2 of the factors, summed over those of each thread [L]."""
    terms = lanes_of(0.0, work, SIZES)
    for w in range(flood[2]):
        f, live, wave = wave_at(flood[0], flood[1], w, SIZES)
        live = live & wanted
        edge = tl.load(graph.first + f, mask=live, other=0)
        arity = tl.load(graph.first + f + 1, mask=live, other=0) - edge
        if wave.kind == PARITY:
            terms += _parity_weight(graph, z, f, edge, arity, live, wave)
        elif wave.kind == CHAIN:
            if SIZES.chained:
                terms += _chain_weight(graph, chains, work, z, f, edge, arity, live, wave, SIZES)
        else:
            if SIZES.paired:
                terms += _pair_weight(graph, z, f, edge, live)
    return terms


@triton.jit(do_not_specialize=[
    "n_flood", "batch", "n_variables", "n_edges", "n_values", "arity", "n_states", "layer_states", "n_classes",
])  # fmt: skip
def log_joint_kernel(
    logits_ptr, z_ptr, status_ptr, size_ptr, unary_ptr, first_ptr, variable_ptr, which_ptr, pairs_ptr, incident_ptr,
    incident_first_ptr, layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr, in_weight_ptr,
    out_first_ptr, out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, flood_ptr, flood_sizes_ptr,
    log_scale_ptr, chain_scale_ptr, scratch_ptr, joint_ptr, valid_ptr, n_flood, batch, n_variables, n_edges, n_values,
    arity, n_states, layer_states, n_classes, SIZES: tl.constexpr,
):  # fmt: skip
    """R rows of the batch after another R.

    Grid (programs,), rows i R to i R + R - 1 to program i mod programs. logits [batch, n, K], z int64 [batch, n],
    status, joint and valid [batch]; tables and scratch as in belief_propagation_kernel, in log2.
    """
    graph = Graph(
        size_ptr, unary_ptr, first_ptr, variable_ptr, which_ptr, pairs_ptr, incident_ptr, incident_first_ptr,
        n_variables, n_edges, n_values,
    )  # fmt: skip
    chains = Chains(
        layer_ptr, classes_ptr, in_first_ptr, in_source_ptr, in_class_ptr, in_target_ptr, in_weight_ptr, out_first_ptr,
        out_source_ptr, out_class_ptr, out_target_ptr, out_weight_ptr, layer_states, n_classes,
    )  # fmt: skip
    work = work_of(scratch_ptr, graph, Space(n_values, arity, n_states, n_classes), SIZES)
    flood = (flood_ptr, flood_sizes_ptr, n_flood)
    log_scale = tl.load(log_scale_ptr) + tl.load(chain_scale_ptr)
    for tile in range(tl.program_id(0), tl.cdiv(batch, SIZES.rows), tl.num_programs(0)):
        row = tl.full((SIZES.lanes,), 0, tl.int64) + tile * SIZES.rows + row_of(SIZES)
        inside = row < batch
        wanted = inside & (tl.load(status_ptr + row, mask=inside, other=IMPOSSIBLE) == POSSIBLE)
        z = z_ptr + row * n_variables
        prior, weight = _symbol_terms(graph, logits_ptr + row * n_variables * n_values, z, wanted, SIZES)
        weight = sum_over_slots(weight + _factor_terms(graph, chains, work, z, wanted, flood, SIZES), SIZES)
        valid = wanted & (weight > LEAST_LOG2)
        joint = tl.where(valid, (sum_over_slots(prior, SIZES) + weight) * LN_2 + log_scale, float("-inf"))
        first = inside & (slot_of(SIZES) == 0)
        tl.store(joint_ptr + row, joint.to(joint_ptr.dtype.element_ty), mask=first)
        tl.store(valid_ptr + row, valid.to(tl.uint8), mask=first)
