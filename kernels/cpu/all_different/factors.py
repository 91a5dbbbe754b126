"""Messages of all-different factors in plain probabilities, and their part of the evidence; see ``probabilities``.

Lanes are rows of the batch, which meet one factor after the other. Where the numbers of a workspace have one lane, of
one row, the factors of a phase are put into lanes instead: they do not depend on each other, and the sums over subsets
take nearly all the time. Every number comes from the same operations, and has the same bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.all_different.blocks import MaxProduct, SumProduct
from emnesy_gpu.kernels.cpu.all_different.rows import free_placements
from emnesy_gpu.kernels.cpu.all_different.subsets import minors_of, permanent_of
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    exponent_of,
    filled,
    load,
    maximum,
    multiply_add,
    power_of_two,
    store,
    where_less,
)

CEILING = 1e30
"""Products of messages above this go to the other arithmetic, long before they overflow."""


class Settings(NamedTuple):
    """What is the same for all rows of the batch."""

    options: Options
    semiring: SumProduct | MaxProduct
    floor: float  # of permanents and products of messages
    log_free: float  # log of the number of ways to place the members that pad the factors


class Workspace(NamedTuple):
    """The scratch arrays of a block of rows, in the dtype of the logits."""

    numbers: np.ndarray  # [rows, lanes or 1], rows as in Layout
    factors: np.ndarray  # [rows, lanes]: matrices, minors and permanents; the same array where lanes are rows
    subsets: np.ndarray  # [2^(side - 1), lanes]: a number for half the lanes of each subset
    used: int  # rows of the batch in the block


@lane_function
def multiply_messages(work, at, graph, variable, without, out):
    """Row out + v = prior(v) times the messages to a variable but that of one edge; returns the largest."""
    k, source = at.n_values, at.priors + variable * at.n_values
    for index in range(graph.first_edge[variable], graph.first_edge[variable + 1]):
        edge = graph.edges[index]
        if edge != without:
            message = at.messages + edge * k
            for v in range(k):
                store(work, out + v, load(work, source + v) * load(work, message + v))
            source = out
    largest = filled(work, 0.0)
    for v in range(k):
        value = load(work, source + v)
        largest = maximum(value, largest)
        store(work, out + v, value)
    return largest


@lane_function
def within(value, floor, good):
    """good where a value lies between floor and ceiling, 0 elsewhere."""
    return where_less(value, CEILING, where_less(floor, value, good, 0.0), 0.0)


@lane_function
def total_of(work, first, size):
    """The sum of rows first .. first + size - 1."""
    total = load(work, first)
    for row in range(first + 1, first + size):
        total += load(work, row)
    return total


@lane_function
def fill_matrix(work, at, graph, g, floor):
    """Messages from the members to one factor, the largest of each 1."""
    k, side, good = at.n_values, at.side, load(work, at.good)
    for slot in range(graph.sizes[g]):
        row = at.matrix + slot * side
        largest = multiply_messages(work, at, graph, graph.groups[g, slot], g * at.width + slot, row)
        good = within(largest, floor, good)
        scale = 1.0 / largest
        for v in range(k):
            store(work, row + v, load(work, row + v) * scale)
        for v in range(k, side):
            store(work, row + v, 0.0)
    for entry in range(graph.sizes[g] * side, side * side):
        store(work, at.matrix + entry, 1.0)
    store(work, at.good, good)


@lane_function
def factors_at_once(workspace):
    """How many factors are computed at once: one, unless they lie in lanes."""
    return workspace.factors.shape[1] if workspace.numbers.shape[1] == 1 else 1


@lane_function
def give_factor(workspace, at, lane):
    """The matrix of a factor, with minors of 0; into a lane of its own where factors lie in lanes."""
    numbers, factors = workspace.numbers, workspace.factors
    if numbers.shape[1] > 1:
        for row in range(at.minors, at.permanent):
            store(numbers, row, 0.0)
        return
    for row in range(at.matrix, at.minors):
        factors[row, lane] = numbers[row, 0]
    for row in range(at.minors, at.permanent):
        factors[row, lane] = 0.0


@lane_function
def take_factor(workspace, at, lane):
    """The matrix, minors and permanent of a factor where the functions below expect them."""
    if workspace.numbers.shape[1] == 1:
        for row in range(at.matrix, at.permanent + 1):
            workspace.numbers[row, 0] = workspace.factors[row, lane]


@lane_function
def solve_factors(workspace, at, n_factors, settings, with_minors):
    """Permanents of the factors at hand, and their minors; without the second half of the lanes where it is unused."""
    lanes = workspace.factors.shape[1]
    used = n_factors if workspace.numbers.shape[1] == 1 else workspace.used
    for half in range(1 if used <= lanes // 2 else 2):
        permanent_of(workspace.factors, workspace.subsets, at, half, settings.semiring)
        if with_minors:
            minors_of(workspace.factors, workspace.subsets, at, half, settings.semiring)


@lane_function
def renew_messages(work, at, graph, g, to, settings):
    """New messages from one factor to its members, into rows from ``to`` on."""
    k, damping = at.n_values, settings.options.damping
    store(work, at.good, within(load(work, at.permanent), settings.floor, load(work, at.good)))
    active, change = load(work, at.active), load(work, at.changing)
    for slot in range(graph.sizes[g]):
        row, old, new = at.minors + slot * at.side, at.messages + (g * at.width + slot) * k, to + slot * k
        scale = k * (1.0 - damping) / total_of(work, row, k)
        for v in range(k):
            before = load(work, old + v)
            value = multiply_add(load(work, row + v), scale, before * damping)
            difference = value - before
            change = maximum(maximum(difference, difference * -1.0), change)
            store(work, new + v, where_less(0.0, active, value, before))
    store(work, at.changing, change)


@lane_function
def solve_from(workspace, at, graph, some, settings, minors):
    """The permanents of factors first .. last - 1, and their minors where these are wanted."""
    first, last = some
    for g in range(first, last):
        fill_matrix(workspace.numbers, at, graph, g, settings.floor)
        give_factor(workspace, at, g - first)
    solve_factors(workspace, at, last - first, settings, minors)


@lane_function
def update_phase(workspace, at, graph, phase, settings, bounded):
    """The factors of a phase read the messages from before it: those that share variables put theirs aside."""
    work, size = workspace.numbers, at.width * at.n_values
    first, last = graph.phases[phase], graph.phases[phase + 1]
    aside, at_once = graph.overlapping[phase], factors_at_once(workspace)
    for start in range(first, last, at_once):
        stop = min(start + at_once, last)
        solve_from(workspace, at, graph, (start, stop), settings, True)
        for g in range(start, stop):
            take_factor(workspace, at, g - start)
            to = at.fresh + (g - first) * size if aside else at.messages + g * size
            renew_messages(work, at, graph, g, to, settings)
            if bounded and graph.disjoint[g]:
                bound_validity(work, at, graph, g)
    if aside:
        for g in range(first, last):
            for entry in range(graph.sizes[g] * at.n_values):
                store(work, at.messages + g * size + entry, load(work, at.fresh + (g - first) * size + entry))


@lane_function
def bound_validity(work, at, graph, g):
    """Add log of a factor's permanent of the priors to the bound."""
    free = free_placements(at, graph, g)
    for lane in range(work.shape[1]):
        denominator = free
        for slot in range(graph.sizes[g]):
            denominator *= work[at.prior_sums + graph.groups[g, slot], lane]
        work[at.bound, lane] += math.log(work[at.permanent, lane] / denominator)


@lane_function
def multiply_scaled(product, exponent, factor):
    """product * factor as mantissa and exponent."""
    product *= factor
    shift = exponent_of(product)
    return product * power_of_two(shift * -1.0), exponent + shift


@lane_function
def multiply_evidence(work, at, graph, g, product, exponent, floor):
    """The permanent of a factor over what the messages of each of its edges agree on."""
    k, permanent = at.n_values, load(work, at.permanent)
    good = within(permanent, floor, load(work, at.good))
    product, exponent = multiply_scaled(product, exponent, permanent)
    for slot in range(graph.sizes[g]):
        row, message = at.matrix + slot * at.side, at.messages + (g * at.width + slot) * k
        agreement = load(work, row) * load(work, message)
        for v in range(1, k):
            agreement = multiply_add(load(work, row + v), load(work, message + v), agreement)
        good = within(agreement, floor, good)
        product, exponent = multiply_scaled(product, exponent, 1.0 / agreement)
    store(work, at.good, good)
    return product, exponent


@lane_function
def evidence_of_factors(workspace, at, graph, settings):
    """The product of the parts of all factors, as mantissa and exponent."""
    work, at_once = workspace.numbers, factors_at_once(workspace)
    product, exponent = filled(work, 1.0), filled(work, 0.0)
    for start in range(0, len(graph.sizes), at_once):
        stop = min(start + at_once, len(graph.sizes))
        solve_from(workspace, at, graph, (start, stop), settings, False)
        for g in range(start, stop):
            take_factor(workspace, at, g - start)
            product, exponent = multiply_evidence(work, at, graph, g, product, exponent, settings.floor)
    return product, exponent
