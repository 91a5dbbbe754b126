"""Loopy belief propagation with all-different factors for logits of any size: float64 with unlimited exponents.

The formulas, the ``Layout`` and the order of ``probabilities``, with every number a pair as in ``wide_numbers``.
Mantissas that are multiplied are in [1, 2) or exactly 0, so nothing underflows, and what is 0 is a contradiction.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.all_different.graph import Plan
from emnesy_gpu.kernels.cpu.all_different.rows import (
    any_lane,
    free_placements,
    read_logits,
    rows_of,
    stop_negligible,
    write_marginals,
)
from emnesy_gpu.kernels.cpu.all_different.subsets import size_of
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    exponent_of,
    filled,
    load,
    maximum,
    power_of_two,
    store,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.row_driver import PropagationResults
from emnesy_gpu.kernels.cpu.common.wide_numbers import (
    LOG_2,
    SMALLEST_EXPONENT,
    ZERO_EXPONENT,
    Pairs,
    empty_pairs,
    exponential,
    get,
    plain,
    put,
)
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


class Workspace(NamedTuple):
    """The scratch arrays of a block of rows."""

    pairs: Pairs  # rows as in Layout
    subsets: Pairs  # a number for each of 2^side subsets


def run(plan: Plan, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults) -> int:
    """Belief propagation on rows with valid logits [batch, n_variables, n_values] and labels; leaves no row."""
    workspace = Workspace(empty_pairs(plan.at.total), empty_pairs(1 << plan.at.side))
    propagate(logits, label, results, plan.graph, plan.at, options, plan.log_free, workspace)
    return 0


@lane_function
def number(pairs, value):
    """A positive number in every lane, or 0."""
    if value == 0.0:
        return filled(pairs.mantissa, 0.0), filled(pairs.mantissa, ZERO_EXPONENT)
    return normalised(filled(pairs.mantissa, value), filled(pairs.mantissa, 0.0))


@lane_function
def normalised(m, e):
    """Mantissa into [1, 2), or 0 as it is."""
    shift = exponent_of(m)
    return m * power_of_two(shift * -1.0), maximum(e + shift, ZERO_EXPONENT)


@lane_function
def times(m, e, pairs, row):
    """The product with a number in a row; its mantissa may be up to 4."""
    return m * load(pairs.mantissa, row), e + load(pairs.exponent, row)


@lane_function
def add(m, e, other_m, other_e, maximise):
    """The sum of two pairs, or the larger one."""
    top = maximum(e, other_e)
    m *= power_of_two(maximum(e - top, SMALLEST_EXPONENT))
    other_m *= power_of_two(maximum(other_e - top, SMALLEST_EXPONENT))
    if maximise:
        return maximum(m, other_m), top
    return m + other_m, top


@lane_function
def total_of(pairs, first, size):
    """The sum of rows first .. first + size - 1."""
    m, e = get(pairs, first)
    for row in range(first + 1, first + size):
        other_m, other_e = get(pairs, row)
        m, e = add(m, e, other_m, other_e, False)
    return normalised(m, e)


@lane_function
def permanent_of(pairs, subsets, at, maximise):
    """F of every subset; returns the last one, the permanent."""
    m, e = number(pairs, 1.0)
    put(subsets, 0, m, e)
    for subset in range(1, 1 << at.side):
        row = at.matrix + (size_of(subset) - 1) * at.side
        m, e = number(pairs, 0.0)
        for v in range(at.side):
            before = subset & ~(1 << v)
            if before != subset:
                before_m, before_e = get(subsets, before)
                term_m, term_e = times(before_m, before_e, pairs, row + v)
                m, e = add(m, e, term_m, term_e, maximise)
        m, e = normalised(m, e)
        put(subsets, subset, m, e)
    return m, e


@lane_function
def minors_of(pairs, subsets, at, maximise):
    """The minors, and G in place of F."""
    zero_m, zero_e = number(pairs, 0.0)
    for entry in range(at.side * at.side):
        put(pairs, at.minors + entry, zero_m, zero_e)
    everything = (1 << at.side) - 1
    m, e = number(pairs, 1.0)
    put(subsets, everything, m, e)
    for subset in range(everything - 1, -1, -1):
        row = size_of(subset) * at.side
        own_m, own_e = get(subsets, subset)
        m, e = zero_m, zero_e
        for v in range(at.side):
            after = subset | 1 << v
            if after != subset:
                after_m, after_e = get(subsets, after)
                term_m, term_e = times(after_m, after_e, pairs, at.matrix + row + v)
                m, e = add(m, e, term_m, term_e, maximise)
                minor_m, minor_e = get(pairs, at.minors + row + v)
                minor_m, minor_e = add(minor_m, minor_e, after_m * own_m, after_e + own_e, maximise)
                put(pairs, at.minors + row + v, minor_m, minor_e)
        m, e = normalised(m, e)
        put(subsets, subset, m, e)


@lane_function
def multiply_messages(pairs, at, graph, variable, without, out):
    """Row out + v = prior(v) times the messages to a variable but that of one edge."""
    k = at.n_values
    for v in range(k):
        m, e = get(pairs, at.priors + variable * k + v)
        for index in range(graph.first_edge[variable], graph.first_edge[variable + 1]):
            edge = graph.edges[index]
            if edge != without:
                m, e = times(m, e, pairs, at.messages + edge * k + v)
                m, e = normalised(m, e)
        put(pairs, out + v, m, e)


@lane_function
def require(pairs, at, value):
    """Where a value is 0 the row of the batch is impossible."""
    store(pairs.mantissa, at.good, where_less(0.0, value, load(pairs.mantissa, at.good), 0.0))


@lane_function
def fill_matrix(pairs, at, graph, g):
    """Messages from the members to one factor."""
    zero_m, zero_e = number(pairs, 0.0)
    one_m, one_e = number(pairs, 1.0)
    for slot in range(graph.sizes[g]):
        row = at.matrix + slot * at.side
        multiply_messages(pairs, at, graph, graph.groups[g, slot], g * at.width + slot, row)
        for v in range(at.n_values, at.side):
            put(pairs, row + v, zero_m, zero_e)
    for entry in range(graph.sizes[g] * at.side, at.side * at.side):
        put(pairs, at.matrix + entry, one_m, one_e)


@lane_function
def renew_message(pairs, at, minor, old, new, damping):
    """One message, into rows from ``new`` on; its largest change goes into account."""
    change, active = load(pairs.mantissa, at.changing), load(pairs.mantissa, at.active)
    total_m, total_e = total_of(pairs, minor, at.n_values)
    scale = 1.0 / total_m
    for v in range(at.n_values):
        m, e = get(pairs, minor + v)
        m, e = normalised(m * scale, e - total_e)
        old_m, old_e = get(pairs, old + v)
        if damping > 0.0:
            m, e = add(m * (1.0 - damping), e, old_m * damping, old_e, False)
            m, e = normalised(m, e)
        difference = plain(m, e) - plain(old_m, old_e)
        change = maximum(maximum(difference, difference * -1.0), change)
        put(pairs, new + v, where_less(0.0, active, m, old_m), where_less(0.0, active, e, old_e))
    store(pairs.mantissa, at.changing, change)


@lane_function
def update_factor(workspace, at, graph, g, to, options):
    """New messages from one factor to its members, into rows from ``to`` on."""
    pairs, subsets = workspace
    fill_matrix(pairs, at, graph, g)
    m, e = permanent_of(pairs, subsets, at, options.maximise)
    put(pairs, at.permanent, m, e)
    require(pairs, at, m)
    # The messages of an impossible row stay as they are.
    active = where_less(0.0, load(pairs.mantissa, at.good), load(pairs.mantissa, at.active), 0.0)
    store(pairs.mantissa, at.active, active)
    minors_of(pairs, subsets, at, options.maximise)
    for slot in range(graph.sizes[g]):
        old = at.messages + (g * at.width + slot) * at.n_values
        renew_message(pairs, at, at.minors + slot * at.side, old, to + slot * at.n_values, options.damping)


@lane_function
def update_phase(workspace, at, graph, phase, options, bounded):
    """The factors of a phase read the messages from before it: those that share variables put theirs aside."""
    pairs = workspace.pairs
    size = at.width * at.n_values
    first, last = graph.phases[phase], graph.phases[phase + 1]
    aside = graph.overlapping[phase]
    for g in range(first, last):
        to = at.fresh + (g - first) * size if aside else at.messages + g * size
        update_factor(workspace, at, graph, g, to, options)
        if bounded and graph.disjoint[g]:
            bound_validity(pairs, at, graph, g)
    if aside:
        for g in range(first, last):
            for entry in range(graph.sizes[g] * at.n_values):
                m, e = get(pairs, at.fresh + (g - first) * size + entry)
                put(pairs, at.messages + g * size + entry, m, e)


@lane_function
def bound_validity(pairs, at, graph, g):
    """Add log of a factor's permanent of the priors to the bound."""
    mantissa, exponent = pairs
    free = free_placements(at, graph, g)
    for lane in range(mantissa.shape[1]):
        denominator = free
        for slot in range(graph.sizes[g]):
            denominator *= mantissa[at.prior_sums + graph.groups[g, slot], lane]
        power = exponent[at.permanent, lane] * LOG_2
        mantissa[at.bound, lane] += math.log(mantissa[at.permanent, lane] / denominator) + power


@lane_function
def sweep(workspace, at, rows, first, graph, options, bounded):
    """All phases once; ``bounded``: the first of them bounds the probability of validity for rows with label 0."""
    numbers = workspace.pairs.mantissa
    store(numbers, at.changing, 0.0)
    for phase in range(len(graph.overlapping)):
        bound = bounded and phase == 0
        update_phase(workspace, at, graph, phase, options, bound)
        if bound:
            stop_negligible(numbers, at, rows, first)
        if not any_lane(numbers, at.active):
            return
    active = load(numbers, at.active)
    store(numbers, at.sweeps, load(numbers, at.sweeps) + active)
    change = where_less(0.0, active, load(numbers, at.changing), load(numbers, at.change))
    store(numbers, at.change, change)
    store(numbers, at.active, where_less(change, options.tolerance, 0.0, active))


@lane_function
def evidence_of_factors(workspace, at, graph, maximise):
    """Permanents over what the messages of each edge agree on."""
    (pairs, subsets), k = workspace, at.n_values
    product, power = number(pairs, 1.0)
    for g in range(len(graph.sizes)):
        fill_matrix(pairs, at, graph, g)
        m, e = permanent_of(pairs, subsets, at, maximise)
        require(pairs, at, m)
        product, power = normalised(product * m, power + e)
        for slot in range(graph.sizes[g]):
            row, message = at.matrix + slot * at.side, at.messages + (g * at.width + slot) * k
            m, e = number(pairs, 0.0)
            for v in range(k):
                term_m, term_e = get(pairs, row + v)
                term_m, term_e = times(term_m, term_e, pairs, message + v)
                m, e = add(m, e, term_m, term_e, False)
            require(pairs, at, m)
            product, power = normalised(product / m, power - e)
    return product, power


@lane_function
def finish_variables(pairs, at, graph, product, power):
    """Marginals in place of the mantissas of the priors; returns the evidence with the factors of the variables."""
    k, belief = at.n_values, at.fresh
    for u in range(at.n_variables):
        prior_sum = load(pairs.mantissa, at.prior_sums + u)
        multiply_messages(pairs, at, graph, u, -1, belief)
        total_m, total_e = total_of(pairs, belief, k)
        require(pairs, at, total_m)
        product, power = normalised(product * (total_m / prior_sum), power + total_e)
    possible = where_less(0.0, load(pairs.mantissa, at.good), load(pairs.mantissa, at.wanted), 0.0)
    for u in range(at.n_variables):
        prior, prior_sum = at.priors + u * k, load(pairs.mantissa, at.prior_sums + u)
        multiply_messages(pairs, at, graph, u, -1, belief)
        total_m, total_e = total_of(pairs, belief, k)
        for v in range(k):
            m, e = get(pairs, belief + v)
            prior_m, prior_e = get(pairs, prior + v)
            posterior = plain(m / total_m, e - total_e)
            store(pairs.mantissa, prior + v, where_less(0.0, possible, posterior, plain(prior_m, prior_e) / prior_sum))
    return product, power


@lane_function
def read_rows(pairs, at, rows, first):
    """Exponentials of the logits less the largest one; uniform messages."""
    k, numbers = at.n_values, pairs.mantissa
    read_logits(numbers, at, rows, first)
    for u in range(at.n_variables):
        prior = at.priors + u * k
        largest = load(numbers, prior)
        for v in range(1, k):
            largest = maximum(load(numbers, prior + v), largest)
        total = filled(numbers, 0.0)
        for v in range(k):
            m, e = exponential(load(numbers, prior + v) - largest)
            m, e = normalised(m, e)
            put(pairs, prior + v, m, e)
            total += plain(m, e)
        store(numbers, at.prior_sums + u, total)
    m, e = number(pairs, 1.0 / k)
    for row in range(at.messages, at.fresh):
        put(pairs, row, m, e)
    for row in (at.wanted, at.active, at.good):
        store(numbers, row, 1.0)
    for row in (at.change, at.sweeps, at.bound):
        store(numbers, row, 0.0)


@lane_function
def write_row(pairs, at, rows, row, lane, log_free, maximise):
    """Everything but the marginals of one row."""
    mantissa, exponent = pairs
    good = mantissa[at.good, lane] > 0.0
    rows.status[row], rows.log_evidence[row] = POSSIBLE if good else IMPOSSIBLE, -np.inf
    rows.sweeps[row] = mantissa[at.sweeps, lane] if good else 0.0
    rows.change[row] = mantissa[at.change, lane] if good else 0.0
    if good and mantissa[at.wanted, lane] > 0.0:
        evidence = math.log(mantissa[at.permanent, lane]) + exponent[at.permanent, lane] * LOG_2 - log_free
        rows.log_evidence[row] = 0.0 if maximise else evidence


@kernel
def propagate(logits, label, results, graph, at, options, log_free, workspace):
    """As many rows at a time as there are lanes; lanes to spare repeat the last row."""
    pairs, rows = workspace.pairs, rows_of(logits, label, results, np.arange(len(logits)))
    lanes = pairs.mantissa.shape[1]
    for first in range(0, len(rows.chosen), lanes):
        read_rows(pairs, at, rows, first)
        for iteration in range(options.iterations):
            sweep(workspace, at, rows, first, graph, options, iteration == 0 and not options.maximise)
            if options.stopped[0] or not any_lane(pairs.mantissa, at.active):
                break
        m, e = evidence_of_factors(workspace, at, graph, options.maximise)
        m, e = finish_variables(pairs, at, graph, m, e)
        put(pairs, at.permanent, m, e)
        write_marginals(pairs.mantissa, at, rows, first)
        for lane in range(min(lanes, len(rows.chosen) - first)):
            write_row(pairs, at, rows, rows.chosen[first + lane], lane, log_free, options.maximise)
