"""What comes before and after the sweeps: priors from logits, beliefs and the Bethe evidence from messages."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.vectors import divisor, scaled
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, exp2
from emnesy_gpu.kernels.gpu.common.log2_semiring import ZERO as LOG_ZERO
from emnesy_gpu.kernels.gpu.common.logits import bounded
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import (
    constant,
    log2_of,
    lost,
    one,
    plus_product,
    probability,
    times,
    zero,
)
from emnesy_gpu.kernels.gpu.factor_graph.graph import max_over_slots, row_of, slot_of
from emnesy_gpu.kernels.gpu.factor_graph.messages import factors_of, lanes_of


@triton.jit
def _largest_logit(graph, logits, exists, work, SIZES: tl.constexpr):
    """The largest of K logits; 0 for symbols that do not exist."""
    top = lanes_of(float("-inf"), work, SIZES)
    for v in range(graph.n_values):
        top = tl.maximum(top, bounded(tl.load(logits + v, mask=exists, other=0.0)).to(top.dtype))
    return top


@triton.jit
def _weight(logits, top, exists, v, LOG: tl.constexpr):
    """The logit of value v relative to the largest, in log2, and what it stands for."""
    x = bounded(tl.load(logits + v, mask=exists, other=0.0)).to(top.dtype)
    relative = (x - top) * LOG2_E
    return relative, probability(relative, LOG) if LOG else exp2(relative)


@triton.jit
def _softmax_sums(graph, logits, exists, work, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The largest logit, and the sum of all relative to it, NaN where the logits are no prior."""
    top = _largest_logit(graph, logits, exists, work, SIZES)
    sums = lanes_of(0.0, work, SIZES)
    for v in range(graph.n_values):
        relative, weight = _weight(logits, top, exists, v, LOG)
        sums += weight
    return top, sums


@triton.jit
def _prior(logits, top, sums, exists, v, LOG: tl.constexpr):
    relative, weight = _weight(logits, top, exists, v, LOG)
    return tl.maximum(relative - constant(sums, sums, LOG), LOG_ZERO) if LOG else weight / sums


@triton.jit
def load_priors(graph, work, logits, exists, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Stores the priors of all rows, times unary weights; INVALID_LOGITS for a thread that met no prior. logits: [L]."""
    K = graph.n_values
    R: tl.constexpr = SIZES.rows
    code = tl.full((SIZES.lanes,), 0, tl.int32) + POSSIBLE
    for start in range(0, graph.n_variables, SIZES.tile):
        i = start + slot_of(SIZES)
        inside = i < graph.n_variables
        own = logits + i * K
        top, sums = _softmax_sums(graph, own, exists & inside, work, SIZES, LOG)
        valid = sums == sums
        code = tl.maximum(code, tl.where(valid, POSSIBLE, INVALID_LOGITS))
        for v in range(K):
            prior = _prior(own, top, sums, exists & inside, v, LOG)
            unary = tl.load(graph.unary + i * K + v, mask=inside, other=one(LOG))
            prior = times(tl.where(valid, prior, one(LOG)), unary, LOG)
            tl.store(work.prior + (i * K + v) * R + row_of(SIZES), prior, mask=inside)
    return max_over_slots(code, SIZES)


@triton.jit
def start_messages(graph, work, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Messages that say nothing: one for values that exist, and zero for others."""
    K = graph.n_values
    R: tl.constexpr = SIZES.rows
    for start in range(0, graph.n_edges, SIZES.tile):
        edge = start + slot_of(SIZES)
        inside = edge < graph.n_edges
        size = tl.load(graph.size + tl.load(graph.variable + edge, mask=inside, other=0))
        for v in range(K):
            message = lanes_of(one(LOG), work, SIZES)
            message = tl.where(v < size, message, zero(LOG))
            tl.store(work.source + (edge * K + v) * R + row_of(SIZES), message, mask=inside)


@triton.jit
def store_beliefs(graph, work, marginals, wanted, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Beliefs of the rows that are wanted; log2 of their sums [L], the share of each thread; whether one is lost."""
    K = graph.n_values
    R: tl.constexpr = SIZES.rows
    row = row_of(SIZES)
    evidence = tl.full((SIZES.lanes,), 0, tl.float64)
    failed = tl.full((SIZES.lanes,), 0, tl.int1)
    for start in range(0, graph.n_variables, SIZES.tile):
        i = start + slot_of(SIZES)
        inside = i < graph.n_variables
        begin, end = factors_of(graph, i, inside)
        sums = lanes_of(zero(LOG), work, SIZES)
        for v in range(K):
            prior = work.prior + (i * K + v) * R + row
            belief = tl.load(prior, mask=inside, other=one(LOG))
            for d in range(tl.max(end - begin)):
                edge = tl.load(graph.incident + begin + d, mask=begin + d < end, other=-1)
                message = tl.load(work.source + (edge * K + v) * R + row, mask=edge >= 0, other=one(LOG))
                belief = times(belief, message, LOG)
            tl.store(prior, belief, mask=inside)
            sums = plus_product(sums, belief, one(LOG), LOG, False)
        failed |= inside & lost(sums, LOG)
        evidence += tl.where(inside, log2_of(sums, LOG), 0.0)
        divided_by = divisor(sums, LOG)
        for v in range(K):
            belief = tl.load(work.prior + (i * K + v) * R + row, mask=inside, other=one(LOG))
            tl.store(marginals + i * K + v, probability(scaled(belief, divided_by, LOG), LOG), mask=inside & wanted)
    return evidence, failed


@triton.jit
def store_priors(graph, work, logits, marginals, wanted, SIZES: tl.constexpr, LOG: tl.constexpr):
    """softmax(logits) as the marginals of the rows that are wanted; uniform where they are no prior."""
    K = graph.n_values
    for start in range(0, graph.n_variables, SIZES.tile):
        i = start + slot_of(SIZES)
        inside = wanted & (i < graph.n_variables)
        top, sums = _softmax_sums(graph, logits + i * K, inside, work, SIZES, LOG)
        for v in range(K):
            prior = probability(_prior(logits + i * K, top, sums, inside, v, LOG), LOG)
            tl.store(
                marginals + i * K + v,
                tl.where(sums == sums, prior, 1.0 / (lanes_of(0.0, work, SIZES) + K)),
                mask=inside,
            )
