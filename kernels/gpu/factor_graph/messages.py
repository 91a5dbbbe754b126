"""Cavities, and the messages of tables: a factor for each thread.

The notation is that of ``emnesy_gpu.reference.factor_graph``. Products and sums as in `sum_product`. A sum that is lost
is reported, and its row computed again with logarithms; nothing else is divided by.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.automaton.vectors import divisor, scaled
from emnesy_gpu.kernels.gpu.common.sum_product import (
    constant,
    log2_of,
    lost,
    mixture,
    one,
    plus_product,
    probability,
    times,
    zero,
)
from emnesy_gpu.kernels.gpu.factor_graph.graph import Sent, row_of


@triton.jit
def lanes_of(number, work, SIZES: tl.constexpr):
    """A number for every thread [L], of the type that is computed with."""
    return tl.full((SIZES.lanes,), 0, work.prior.dtype.element_ty) + number


@triton.jit
def factors_of(graph, variable, live):
    """Where the edges of variables begin and end among the incident ones."""
    begin = tl.load(graph.incident_first + variable, mask=live, other=0)
    return begin, tl.load(graph.incident_first + variable + 1, mask=live, other=0)


@triton.jit
def other_edge(graph, begin, end, d, edge):
    """Edge d of a variable, and whether there is one other than `edge`."""
    other = tl.load(graph.incident + begin + d, mask=begin + d < end, other=-1)
    return other, (other >= 0) & (other != edge)


@triton.jit
def find_cavity(graph, work, edge, live, degree, place, SIZES: tl.constexpr, LOG: tl.constexpr):
    """n of edges, not scaled, at a place of the cavities; returns its sum. Threads that are not live have ones."""
    K = graph.n_values
    R: tl.constexpr = SIZES.rows
    row = row_of(SIZES)
    variable = tl.load(graph.variable + edge, mask=live, other=0)
    begin, end = factors_of(graph, variable, live)
    sums = lanes_of(zero(LOG), work, SIZES)
    for v in range(K):
        q = tl.load(work.prior + (variable * K + v) * R + row, mask=live, other=one(LOG))
        for d in range(degree):
            other, real = other_edge(graph, begin, end, d, edge)
            q = times(q, tl.load(work.source + (other * K + v) * R + row, mask=real, other=one(LOG)), LOG)
        tl.store(work.cavities + (place * K + v) * SIZES.lanes, q)
        sums = plus_product(sums, q, one(LOG), LOG, False)
    return sums


@triton.jit
def find_bits(graph, work, edge, live, degree, SIZES: tl.constexpr, LOG: tl.constexpr):
    """n of edges of variables with two values, not scaled: that of 0 and that of 1."""
    K = graph.n_values
    R: tl.constexpr = SIZES.rows
    row = row_of(SIZES)
    variable = tl.load(graph.variable + edge, mask=live, other=0)
    begin, end = factors_of(graph, variable, live)
    prior = work.prior + variable * (K * R) + row
    clear = tl.load(prior, mask=live, other=one(LOG))
    marked = tl.load(prior + R, mask=live, other=one(LOG))
    for d in range(degree):
        other, real = other_edge(graph, begin, end, d, edge)
        message = work.source + other * (K * R) + row
        clear = times(clear, tl.load(message, mask=real, other=one(LOG)), LOG)
        marked = times(marked, tl.load(message + R, mask=real, other=one(LOG)), LOG)
    return clear, marked


@triton.jit
def write_value(graph, work, edge, v, message, live, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Value v of the damped message of edges; returns its change, and the old one."""
    at = (edge * graph.n_values + v) * SIZES.rows + row_of(SIZES)
    old = tl.load(work.source + at, mask=live, other=one(LOG))
    new = tl.where(turn.active, mixture(message, old, turn.damping, LOG), old)
    # With flooding, the table that is written has the messages before the last.
    written = tl.where(live, turn.scoring.to(tl.int32), 1) == 0 if SIZES.flooding else live & turn.active
    tl.store(work.target + at, new, mask=written)
    return tl.where(live, tl.abs(probability(new, LOG) - probability(old, LOG)), 0.0), old


@triton.jit
def share_of(graph, edge, sums, live, LOG: tl.constexpr):
    """What messages of these sums are divided by, so that they have the sum k_i; and 1 / k_i."""
    size = tl.load(graph.size + tl.load(graph.variable + edge, mask=live, other=0), mask=live, other=1)
    count = constant(size, sums, LOG)
    return (sums - count if LOG else divisor(sums, LOG) * count), 1.0 / size.to(sums.dtype)


@triton.jit
def _edge_term(weight, live, LOG: tl.constexpr):
    """log2 of a sum of cavities times messages, and whether it is lost."""
    return tl.where(live, log2_of(weight, LOG), 0.0), live & lost(weight, LOG)


@triton.jit
def write_message(graph, work, edge, place, sums, live, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The damped message of edges, from numbers at `fresh` that have these sums. place: of the cavities."""
    L: tl.constexpr = SIZES.lanes
    divided_by, share = share_of(graph, edge, sums, live, LOG)
    change = tl.zeros_like(sums)
    weight = lanes_of(zero(LOG), work, SIZES)
    for v in range(graph.n_values):
        message = scaled(tl.load(work.fresh + v * L), divided_by, LOG)
        step, old = write_value(graph, work, edge, v, message, live, turn, SIZES, LOG)
        change = tl.maximum(change, step)
        if turn.scoring:
            n = tl.load(work.cavities + (place * graph.n_values + v) * L)
            weight = plus_product(weight, n, old, LOG, False)
    failed = live & lost(sums, LOG)
    terms = tl.full((L,), 0, tl.float64)
    if turn.scoring:
        terms, lost_edge = _edge_term(weight, live, LOG)
        failed |= lost_edge
    return Sent(change * share, failed, -terms)


@triton.jit
def write_bits(graph, work, edge, bits, cavity, live, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The same for variables of two values: bits and cavity have a number for 0 and one for 1."""
    sums = plus_product(bits[0], bits[1], one(LOG), LOG, False)
    divided_by, share = share_of(graph, edge, sums, live, LOG)
    step, old_clear = write_value(graph, work, edge, 0, scaled(bits[0], divided_by, LOG), live, turn, SIZES, LOG)
    other, old_marked = write_value(graph, work, edge, 1, scaled(bits[1], divided_by, LOG), live, turn, SIZES, LOG)
    failed = live & lost(sums, LOG)
    terms = tl.full((SIZES.lanes,), 0, tl.float64)
    if turn.scoring:
        weight = plus_product(times(cavity[0], old_clear, LOG), cavity[1], old_marked, LOG, False)
        terms, lost_edge = _edge_term(weight, live, LOG)
        failed |= lost_edge
    return Sent(tl.maximum(step, other) * share, failed, -terms)


@triton.jit
def nothing_sent(work, SIZES: tl.constexpr):
    return Sent(
        lanes_of(0.0, work, SIZES), tl.full((SIZES.lanes,), 0, tl.int1), tl.full((SIZES.lanes,), 0, tl.float64)
    )  # fmt: skip


@triton.jit
def both(one_part, other):
    """What two parts of a factor, or two waves, have sent."""
    change = tl.maximum(one_part.change, other.change)
    return Sent(change, one_part.failed | other.failed, one_part.terms + other.terms)


@triton.jit
def with_weight(sent, weight, live, turn, LOG: tl.constexpr):
    """What is sent, with the term of a factor that has this weight."""
    failed = sent.failed
    terms = sent.terms
    if turn.scoring:
        failed |= live & lost(weight, LOG)
        terms += tl.where(live, log2_of(weight, LOG), 0.0)
    return Sent(sent.change, failed, terms)


@triton.jit
def send_pair(graph, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Both messages of tables of two variables."""
    K = graph.n_values
    L: tl.constexpr = SIZES.lanes
    edge = tl.load(graph.first + f, mask=live, other=0)
    table = graph.pairs + tl.load(graph.which + f, mask=live, other=0) * (K * K)
    sent = nothing_sent(work, SIZES)
    for side in range(2):
        sums = find_cavity(graph, work, edge + side, live, wave.degree, side, SIZES, LOG)
        sent = Sent(sent.change, sent.failed | (live & lost(sums, LOG)), sent.terms)
    for side in range(2):
        sums = lanes_of(zero(LOG), work, SIZES)
        weight = lanes_of(zero(LOG), work, SIZES)
        for v in range(K):
            message = lanes_of(zero(LOG), work, SIZES)
            for u in range(K):
                at = v * K + u if side == 0 else u * K + v
                entry = tl.load(table + at, mask=live, other=one(LOG))
                n = tl.load(work.cavities + ((1 - side) * K + u) * L)
                message = plus_product(message, entry, n, LOG, SIZES.maximise)
            tl.store(work.fresh + v * L, message)
            sums = plus_product(sums, message, one(LOG), LOG, False)
            if turn.scoring:
                weight = plus_product(weight, message, tl.load(work.cavities + (side * K + v) * L), LOG, False)
        sent = both(sent, write_message(graph, work, edge + side, side, sums, live, turn, SIZES, LOG))
        if side == 0:
            sent = with_weight(sent, weight, live, turn, LOG)
    return sent


@triton.jit
def send_pair_of_bits(graph, work, f, live, wave, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """The same where all variables have two values: everything stays in registers."""
    MAX: tl.constexpr = SIZES.maximise
    edge = tl.load(graph.first + f, mask=live, other=0)
    table = graph.pairs + tl.load(graph.which + f, mask=live, other=0) * 4
    clear, marked = find_bits(graph, work, edge, live, wave.degree, SIZES, LOG)
    other_clear, other_marked = find_bits(graph, work, edge + 1, live, wave.degree, SIZES, LOG)
    w_00 = tl.load(table, mask=live, other=one(LOG))
    w_01 = tl.load(table + 1, mask=live, other=one(LOG))
    w_10 = tl.load(table + 2, mask=live, other=one(LOG))
    w_11 = tl.load(table + 3, mask=live, other=one(LOG))
    to_clear = plus_product(times(other_clear, w_00, LOG), other_marked, w_01, LOG, MAX)
    to_marked = plus_product(times(other_clear, w_10, LOG), other_marked, w_11, LOG, MAX)
    other_to_clear = plus_product(times(clear, w_00, LOG), marked, w_10, LOG, MAX)
    other_to_marked = plus_product(times(clear, w_01, LOG), marked, w_11, LOG, MAX)
    bits = (to_clear, to_marked)
    cavity = (clear, marked)
    sent = write_bits(graph, work, edge, bits, cavity, live, turn, SIZES, LOG)
    weight = plus_product(times(clear, to_clear, LOG), marked, to_marked, LOG, False)
    sent = with_weight(sent, weight, live, turn, LOG)
    bits = (other_to_clear, other_to_marked)
    cavity = (other_clear, other_marked)
    return both(sent, write_bits(graph, work, edge + 1, bits, cavity, live, turn, SIZES, LOG))
