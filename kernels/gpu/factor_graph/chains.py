"""The messages of chains and of parities: forwards over their variables, and back.

alpha_j(s) is the weight of what leads to state s before variable j, beta_j(t) of what leads on from it. Both, and the
cavities, are kept as they come, with what they are divided by: sums of what they are added up from.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.vectors import divisor, scaled
from emnesy_gpu.kernels.gpu.common.sum_product import log2_of, lost, one, plus_product, times, zero
from emnesy_gpu.kernels.gpu.factor_graph.graph import Sent
from emnesy_gpu.kernels.gpu.factor_graph.messages import (
    both,
    find_bits,
    find_cavity,
    lanes_of,
    nothing_sent,
    with_weight,
    write_bits,
    write_message,
)


@triton.jit
def _find_classes(graph, chains, work, layer, here, place, SIZES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr):
    """The sums of cavities over the values of each class, at a place of the classes."""
    L: tl.constexpr = SIZES.lanes
    K = graph.n_values
    if not SIZES.single:
        sums = work.classes + place * chains.n_classes * L
        for c in range(chains.n_classes):
            tl.store(sums + c * L, lanes_of(zero(LOG), work, SIZES))
        for v in range(K):
            klass = tl.load(chains.classes + layer * K + v, mask=here, other=-1)
            belongs = klass >= 0
            before = tl.load(sums + klass * L, mask=belongs, other=zero(LOG))
            q = tl.load(work.cavities + (place * K + v) * L)
            tl.store(sums + klass * L, plus_product(before, q, one(LOG), LOG, MAX), mask=belongs)


@triton.jit
def _edge_weight(x, weights, edge, inside, SIZES: tl.constexpr, LOG: tl.constexpr):
    """x times the weights of edges."""
    if SIZES.weighted:
        return times(x, tl.load(weights + edge, mask=inside, other=one(LOG)), LOG)
    else:
        return x


@triton.jit
def _edges_of(first, layer, here, n_states):
    """Where the edges of a layer begin, and how many there are; none where a thread has no variable here."""
    begin = tl.load(first + layer * (n_states + 1), mask=here, other=0)
    return begin, tl.load(first + layer * (n_states + 1) + n_states, mask=here, other=0) - begin


@triton.jit
def _class_at(chains, j, c, SIZES: tl.constexpr):
    """Where the sum of class c of variable j lies, from that of the first."""
    return (j * chains.n_classes + c) * SIZES.lanes


@triton.jit
def step_forward(chains, work, layer, here, j, wave, SIZES: tl.constexpr, LOG: tl.constexpr, MAX: tl.constexpr):
    """alpha after variable j along the edges sorted by target; returns the sum (or maximum) of what it consists of."""
    L: tl.constexpr = SIZES.lanes
    S = chains.n_states
    begin, count = _edges_of(chains.in_first, layer, here, S)
    divided_by = tl.load(work.scales + j * L)
    alpha = work.alpha + j * S * L
    after = lanes_of(zero(LOG), work, SIZES)
    sums = lanes_of(zero(LOG), work, SIZES)
    last = tl.full((L,), 0, tl.int32) - 1
    for d in range(wave.edges):
        inside = d < count
        source = tl.load(chains.in_source + begin + d, mask=inside, other=0)
        klass = tl.load(chains.in_class + begin + d, mask=inside, other=0)
        to = tl.load(chains.in_target + begin + d, mask=inside, other=-1)
        x = scaled(tl.load(alpha + source * L, mask=inside, other=zero(LOG)), divided_by, LOG)
        x = _edge_weight(x, chains.in_weight, begin + d, inside, SIZES, LOG)
        q = tl.load(work.classes + _class_at(chains, j, klass, SIZES), mask=inside, other=zero(LOG))
        after = plus_product(tl.where(to == last, after, zero(LOG)), x, q, LOG, MAX)
        sums = plus_product(sums, x, q, LOG, MAX)
        tl.store(alpha + (S + to) * L, after, mask=inside)
        last = to
    return sums


@triton.jit
def _forward(graph, chains, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Cavities of all variables, and alpha before them; log2 of the factor times the cavities, and what is lost."""
    MAX: tl.constexpr = SIZES.maximise
    L: tl.constexpr = SIZES.lanes
    edge = tl.load(graph.first + f, mask=live, other=0)
    arity = tl.load(graph.first + f + 1, mask=live, other=0) - edge
    position = tl.load(graph.which + f, mask=live, other=0)
    tl.store(work.alpha, lanes_of(one(LOG), work, SIZES))
    tl.store(work.scales, lanes_of(one(LOG), work, SIZES))
    evidence = tl.full((L,), 0, tl.float64)
    failed = tl.full((L,), 0, tl.int1)
    for j in range(wave.arity):
        here = j < arity
        sums = find_cavity(graph, work, edge + j, here, wave.degree, j, SIZES, LOG)
        failed |= here & lost(sums, LOG)
        layer = tl.load(chains.layer + position + j, mask=here, other=0)
        _find_classes(graph, chains, work, layer, here, j, SIZES, LOG, MAX)
        after = step_forward(chains, work, layer, here, j, wave, SIZES, LOG, MAX)
        failed |= here & lost(after, LOG)
        tl.store(work.scales + (j + 1) * L, divisor(after, LOG))
        if turn.scoring:
            evidence += tl.where(here, log2_of(after, LOG), 0.0)
    return evidence, failed


@triton.jit
def _step_backward(chains, work, layer, here, j, divided_by, wave, SIZES: tl.constexpr, LOG: tl.constexpr):
    """beta before variable j along the edges sorted by source, and what all edges of each class lead to, at `rest`.

    divided_by: of beta after the variable. Returns the sum (or maximum) of what beta consists of.
    """
    L: tl.constexpr = SIZES.lanes
    MAX: tl.constexpr = SIZES.maximise
    S = chains.n_states
    begin, count = _edges_of(chains.out_first, layer, here, S)
    alpha_scale = tl.load(work.scales + j * L)
    alpha = work.alpha + j * S * L
    beta_after = work.beta + ((j + 1) & 1) * S * L
    beta_before = work.beta + (j & 1) * S * L
    before = lanes_of(zero(LOG), work, SIZES)
    sums = lanes_of(zero(LOG), work, SIZES)
    last = tl.full((L,), 0, tl.int32) - 1
    for c in range(chains.n_classes):
        tl.store(work.rest + c * L, lanes_of(zero(LOG), work, SIZES))
    for d in range(wave.edges):
        inside = d < count
        source = tl.load(chains.out_source + begin + d, mask=inside, other=-1)
        klass = tl.load(chains.out_class + begin + d, mask=inside, other=0)
        to = tl.load(chains.out_target + begin + d, mask=inside, other=0)
        ahead = scaled(tl.load(beta_after + to * L, mask=inside, other=zero(LOG)), divided_by, LOG)
        ahead = _edge_weight(ahead, chains.out_weight, begin + d, inside, SIZES, LOG)
        q = tl.load(work.classes + _class_at(chains, j, klass, SIZES), mask=inside, other=zero(LOG))
        before = plus_product(tl.where(source == last, before, zero(LOG)), ahead, q, LOG, MAX)
        sums = plus_product(sums, ahead, q, LOG, MAX)
        tl.store(beta_before + source * L, before, mask=inside)
        x = scaled(tl.load(alpha + source * L, mask=inside, other=zero(LOG)), alpha_scale, LOG)
        rest = tl.load(work.rest + klass * L, mask=inside, other=zero(LOG))
        tl.store(work.rest + klass * L, plus_product(rest, x, ahead, LOG, MAX), mask=inside)
        last = source
    return sums


@triton.jit
def _gather_message(graph, chains, work, layer, here, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The message to a variable from those of classes, at `fresh`; returns its sum."""
    L: tl.constexpr = SIZES.lanes
    K = graph.n_values
    sums = lanes_of(zero(LOG), work, SIZES)
    for v in range(K):
        klass = tl.load(chains.classes + layer * K + v, mask=here, other=-1)
        message = tl.load(work.rest + klass * L, mask=klass >= 0, other=zero(LOG))
        tl.store(work.fresh + v * L, message)
        sums = plus_product(sums, message, one(LOG), LOG, False)
    return sums


@triton.jit
def send_chain(graph, chains, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """All messages of chains."""
    L: tl.constexpr = SIZES.lanes
    evidence, failed = _forward(graph, chains, work, f, live, wave, turn, SIZES, LOG)
    sent = Sent(lanes_of(0.0, work, SIZES), failed, evidence)
    edge = tl.load(graph.first + f, mask=live, other=0)
    arity = tl.load(graph.first + f + 1, mask=live, other=0) - edge
    position = tl.load(graph.which + f, mask=live, other=0)
    tl.store(work.beta + (arity & 1) * chains.n_states * L, lanes_of(one(LOG), work, SIZES))
    divided_by = lanes_of(one(LOG), work, SIZES)
    for back in range(wave.arity):
        j = wave.arity - 1 - back
        here = j < arity
        layer = tl.load(chains.layer + position + j, mask=here, other=0)
        sums = _step_backward(chains, work, layer, here, j, divided_by, wave, SIZES, LOG)
        total = _gather_message(graph, chains, work, layer, here, SIZES, LOG)
        written = write_message(graph, work, edge + j, j, total, here, turn, SIZES, LOG)
        sent = both(sent, Sent(written.change, written.failed | (here & lost(sums, LOG)), written.terms))
        divided_by = tl.where(here, divisor(sums, LOG), divided_by)
    return sent


@triton.jit
def _turn(even, odd, clear, marked, LOG: tl.constexpr, MAX: tl.constexpr):
    """Even and odd sums with one more bit."""
    even_too = plus_product(times(even, clear, LOG), odd, marked, LOG, MAX)
    return even_too, plus_product(times(odd, clear, LOG), even, marked, LOG, MAX)


@triton.jit
def _parity_forward(graph, work, edge, arity, wave, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Cavities with sum 1; at alpha, how likely the bits before each have an even and an odd sum.

    Returns how likely those of all are, and what is lost.
    """
    L: tl.constexpr = SIZES.lanes
    K = graph.n_values
    even = lanes_of(one(LOG), work, SIZES)
    odd = lanes_of(zero(LOG), work, SIZES)
    failed = tl.full((L,), 0, tl.int1)
    for j in range(wave.arity):
        here = j < arity
        clear, marked = find_bits(graph, work, edge + j, here, wave.degree, SIZES, LOG)
        sums = plus_product(clear, marked, one(LOG), LOG, False)
        failed |= here & lost(sums, LOG)
        divided_by = divisor(sums, LOG)
        clear = scaled(clear, divided_by, LOG)
        marked = scaled(marked, divided_by, LOG)
        tl.store(work.cavities + j * K * L, clear)
        tl.store(work.cavities + (j * K + 1) * L, marked)
        tl.store(work.alpha + 2 * j * L, even)
        tl.store(work.alpha + (2 * j + 1) * L, odd)
        even_too, odd_too = _turn(even, odd, clear, marked, LOG, SIZES.maximise)
        even = tl.where(here, even_too, even)
        odd = tl.where(here, odd_too, odd)
    return even, odd, failed


@triton.jit
def send_parity(graph, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """All messages of parities."""
    L: tl.constexpr = SIZES.lanes
    K = graph.n_values
    edge = tl.load(graph.first + f, mask=live, other=0)
    arity = tl.load(graph.first + f + 1, mask=live, other=0) - edge
    wanted = tl.load(graph.which + f, mask=live, other=0)
    even, odd, failed = _parity_forward(graph, work, edge, arity, wave, SIZES, LOG)
    nothing = nothing_sent(work, SIZES)
    sent = Sent(nothing.change, failed, nothing.terms)
    sent = with_weight(sent, tl.where(wanted == 0, even, odd), live, turn, LOG)
    even = tl.where(wanted == 0, lanes_of(one(LOG), work, SIZES), zero(LOG))
    odd = tl.where(wanted == 0, lanes_of(zero(LOG), work, SIZES), one(LOG))
    for back in range(wave.arity):
        j = wave.arity - 1 - back
        here = j < arity
        even_before = tl.load(work.alpha + 2 * j * L)
        odd_before = tl.load(work.alpha + (2 * j + 1) * L)
        clear = tl.load(work.cavities + j * K * L)
        marked = tl.load(work.cavities + (j * K + 1) * L)
        bits = _turn(even_before, odd_before, even, odd, LOG, SIZES.maximise)
        cavity = (clear, marked)
        sent = both(sent, write_bits(graph, work, edge + j, bits, cavity, here, turn, SIZES, LOG))
        even_too, odd_too = _turn(even, odd, clear, marked, LOG, SIZES.maximise)
        even = tl.where(here, even_too, even)
        odd = tl.where(here, odd_too, odd)
    return sent
