"""One position of an automaton on lanes: the messages forwards and backwards, and what each class is multiplied by.

Complete layers go through their tables of successors and predecessors, several states or classes at a time, so that
sums and factors stay in registers; all others go through lists of edges. Every sum has one order, whatever the batch.
"""

from __future__ import annotations

from typing import NamedTuple

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import filled, load, maximum, multiply_add, store


class Place(NamedTuple):
    """A layer, and the rows of the scratch array that hold its messages."""

    layer: int
    before: int  # states before the layer
    after: int  # states after it
    classes: int
    alpha: int  # [S + 1], the last row 0
    alpha_after: int  # [S + 1]
    beta: int  # [S + 1], of the states after the layer, times what the label says of them; the last row 0
    beta_before: int  # [S + 1]
    priors: int  # [C]
    rest: int  # [C + 1], the last row 0


@inlined
def step_forward(work, g, at, scale):
    """alpha_after(t) = sum over edges into t of alpha(s) w P(c), times scale; returns the sum over t."""
    if item(g.numbers, g.injective + at.layer):
        return pull_from_predecessors(work, g, at, scale)
    total = filled(work, 0.0)
    first = at.layer * (g.n_states + 1)
    for t in range(at.after):
        e, end = item(g.numbers, g.in_first + first + t), item(g.numbers, g.in_first + first + t + 1)
        value = pull_edges(work, g, at, e, end) if g.unit else pull_weighted_edges(work, g, at, e, end)
        value *= scale
        total += value
        store(work, at.alpha_after + t, value)
    return total


@inlined
def pull_edges(work, g, at, e, end):
    sum_0, sum_1 = filled(work, 0.0), filled(work, 0.0)
    while e + 1 < end:
        sum_0 = pull_edge(work, g, at, e, sum_0)
        sum_1 = pull_edge(work, g, at, e + 1, sum_1)
        e += 2
    if e < end:
        sum_0 = pull_edge(work, g, at, e, sum_0)
    return sum_0 + sum_1


@inlined
def pull_edge(work, g, at, e, total):
    """total + alpha(s) P(c) of edge e."""
    alpha = load(work, at.alpha + item(g.numbers, g.in_source + e))
    return multiply_add(alpha, load(work, at.priors + item(g.numbers, g.in_class + e)), total)


@inlined
def pull_weighted_edges(work, g, at, e, end):
    total = filled(work, 0.0)
    for edge in range(e, end):
        prior = load(work, at.priors + item(g.numbers, g.in_class + edge)) * g.weights[g.in_weight + edge]
        total = multiply_add(load(work, at.alpha + item(g.numbers, g.in_source + edge)), prior, total)
    return total


@inlined
def pull_from_predecessors(work, g, at, scale):
    """Four states at a time share the loads of the priors."""
    c_all = g.n_classes
    total, t = filled(work, 0.0), 0
    row = g.predecessor + at.layer * g.n_states * c_all
    while t + 4 <= at.after:
        row_1, row_2, row_3 = row + c_all, row + 2 * c_all, row + 3 * c_all
        sum_0 = sum_1 = sum_2 = sum_3 = filled(work, 0.0)
        for c in range(at.classes):
            prior = load(work, at.priors + c)
            sum_0 = multiply_add(load(work, at.alpha + item(g.numbers, row + c)), prior, sum_0)
            sum_1 = multiply_add(load(work, at.alpha + item(g.numbers, row_1 + c)), prior, sum_1)
            sum_2 = multiply_add(load(work, at.alpha + item(g.numbers, row_2 + c)), prior, sum_2)
            sum_3 = multiply_add(load(work, at.alpha + item(g.numbers, row_3 + c)), prior, sum_3)
        sum_0, sum_1, sum_2, sum_3 = sum_0 * scale, sum_1 * scale, sum_2 * scale, sum_3 * scale
        store(work, at.alpha_after + t, sum_0)
        store(work, at.alpha_after + t + 1, sum_1)
        store(work, at.alpha_after + t + 2, sum_2)
        store(work, at.alpha_after + t + 3, sum_3)
        total += (sum_0 + sum_1) + (sum_2 + sum_3)
        row += 4 * c_all
        t += 4
    while t < at.after:
        sum_0 = filled(work, 0.0)
        for c in range(at.classes):
            sum_0 = multiply_add(load(work, at.alpha + item(g.numbers, row + c)), load(work, at.priors + c), sum_0)
        sum_0 *= scale
        store(work, at.alpha_after + t, sum_0)
        total += sum_0
        row += c_all
        t += 1
    return total


@inlined
def step_backward(work, g, at, scale):
    """beta_before(s) = sum over edges from s of w P(c) beta(t), times scale; rest(c) = sum of alpha(s) w beta(t).

    Returns the largest beta_before.
    """
    if item(g.numbers, g.complete + at.layer):
        c, largest = 0, filled(work, 0.0)
        while c + 4 <= at.classes:
            largest = push_four_classes(work, g, at, scale, c)
            c += 4
        if c + 2 <= at.classes:
            largest = push_two_classes(work, g, at, scale, c)
            c += 2
        if c < at.classes:
            largest = push_class(work, g, at, scale, c)
        return largest
    largest, first = filled(work, 0.0), at.layer * (g.n_states + 1)
    for c in range(at.classes):
        store(work, at.rest + c, 0.0)
    for s in range(at.before):
        e, end = item(g.numbers, g.out_first + first + s), item(g.numbers, g.out_first + first + s + 1)
        value = push_edges(work, g, at, s, (e, end), False) if g.unit else push_edges(work, g, at, s, (e, end), True)
        value *= scale
        store(work, at.beta_before + s, value)
        largest = maximum(value, largest)
    return largest


@inlined
def push_edges(work, g, at, s, edges, weighted):
    alpha, total = load(work, at.alpha + s), filled(work, 0.0)
    for e in range(edges[0], edges[1]):
        c = item(g.numbers, g.out_class + e)
        beta = load(work, at.beta + item(g.numbers, g.out_target + e))
        if weighted:
            beta *= g.weights[g.out_weight + e]
        total = multiply_add(load(work, at.priors + c), beta, total)
        store(work, at.rest + c, multiply_add(alpha, beta, load(work, at.rest + c)))
    return total


@inlined
def push_four_classes(work, g, at, scale, c):
    """Their part of beta_before, on top of the classes before them, and their rest."""
    row = g.successor + at.layer * g.n_states * g.n_classes + c
    prior_0, prior_1 = load(work, at.priors + c) * scale, load(work, at.priors + c + 1) * scale
    prior_2, prior_3 = load(work, at.priors + c + 2) * scale, load(work, at.priors + c + 3) * scale
    rest_0 = rest_1 = rest_2 = rest_3 = largest = filled(work, 0.0)
    for s in range(at.before):
        alpha, total = load(work, at.alpha + s), filled(work, 0.0)
        if c > 0:
            total = load(work, at.beta_before + s)
        beta = load(work, at.beta + item(g.numbers, row))
        rest_0, total = multiply_add(alpha, beta, rest_0), multiply_add(prior_0, beta, total)
        beta = load(work, at.beta + item(g.numbers, row + 1))
        rest_1, total = multiply_add(alpha, beta, rest_1), multiply_add(prior_1, beta, total)
        beta = load(work, at.beta + item(g.numbers, row + 2))
        rest_2, total = multiply_add(alpha, beta, rest_2), multiply_add(prior_2, beta, total)
        beta = load(work, at.beta + item(g.numbers, row + 3))
        rest_3, total = multiply_add(alpha, beta, rest_3), multiply_add(prior_3, beta, total)
        store(work, at.beta_before + s, total)
        largest = maximum(total, largest)
        row += g.n_classes
    store(work, at.rest + c, rest_0)
    store(work, at.rest + c + 1, rest_1)
    store(work, at.rest + c + 2, rest_2)
    store(work, at.rest + c + 3, rest_3)
    return largest


@inlined
def push_two_classes(work, g, at, scale, c):
    row = g.successor + at.layer * g.n_states * g.n_classes + c
    prior_0, prior_1 = load(work, at.priors + c) * scale, load(work, at.priors + c + 1) * scale
    rest_0 = rest_1 = largest = filled(work, 0.0)
    for s in range(at.before):
        alpha, total = load(work, at.alpha + s), filled(work, 0.0)
        if c > 0:
            total = load(work, at.beta_before + s)
        beta = load(work, at.beta + item(g.numbers, row))
        rest_0, total = multiply_add(alpha, beta, rest_0), multiply_add(prior_0, beta, total)
        beta = load(work, at.beta + item(g.numbers, row + 1))
        rest_1, total = multiply_add(alpha, beta, rest_1), multiply_add(prior_1, beta, total)
        store(work, at.beta_before + s, total)
        largest = maximum(total, largest)
        row += g.n_classes
    store(work, at.rest + c, rest_0)
    store(work, at.rest + c + 1, rest_1)
    return largest


@inlined
def push_class(work, g, at, scale, c):
    row = g.successor + at.layer * g.n_states * g.n_classes + c
    prior = load(work, at.priors + c) * scale
    rest = largest = filled(work, 0.0)
    for s in range(at.before):
        total = filled(work, 0.0)
        if c > 0:
            total = load(work, at.beta_before + s)
        beta = load(work, at.beta + item(g.numbers, row))
        rest, total = multiply_add(load(work, at.alpha + s), beta, rest), multiply_add(prior, beta, total)
        store(work, at.beta_before + s, total)
        largest = maximum(total, largest)
        row += g.n_classes
    store(work, at.rest + c, rest)
    return largest
