"""Computes one all-different factor: messages to it, and from it by dynamic programming over subsets of the values.

With n_l the message of member l, F(S) = sum_{v in S} n_{|S|-1}(v) F(S - v) from F({}) = 1, and G(S) = sum_{v not in S}
n_{|S|}(v) G(S + v) from G(all) = 1, the message to member l is in proportion to sum_{|S| = l} F(S) G(S + v).

ROWS factors at a time; a subset is a lane of a tile [ROWS, LANES], its weight F(S) or G(S) an entry of a table in
scratch memory. Tables have an entry for every S < 2^K, zero until it is known, and zeros up to 2^(K+1) for the lanes
that have no subset. A level (all S of one size) is divided by the largest weight of the level before it; no weight
exceeds K then.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.sum_product import (
    constant,
    log2_of,
    lost,
    mixture,
    one,
    over,
    plus_product,
    probability,
    times,
    total,
    zero,
)


class Options(NamedTuple):
    """Sizes and algebra known at compile time."""

    ROWS: tl.constexpr  # groups at once
    K: tl.constexpr  # values
    LANES: tl.constexpr  # subsets at once
    LOG: tl.constexpr  # as in sum_product
    MAX: tl.constexpr  # whether messages are maxima


class Graph(NamedTuple):
    """The groups, and tables made of them: the same for all rows of the batch."""

    groups: object  # int32 [G, W], -1: no member
    incident: object  # int32 [N, G]: slots g * W + s of a variable
    degree: object  # int32 [N]
    phase_end: object  # int32 [G]: where the phase of a group ends
    bounding: object  # int32 [G]: 1 for groups of the first phase that are disjoint
    subsets: object  # int32 [2^K], by size
    n_variables: object
    n_groups: object
    width: object


class Workspace(NamedTuple):
    """Where a program keeps one row of the batch. Messages are probabilities times K."""

    prior: object  # [N, K]
    messages: object  # [2, G, W, K], those of sweep t at t % 2
    incoming: object  # [ROWS, P, P], P = padded(K): n, normalised
    forward: object  # [ROWS, 2^(K+1)]: F
    backward: object  # [ROWS, 2^(K+1)]: G


@triton.constexpr_function
def padded(K):
    """The power of two that tiles over the values or the members have as their size: a constant, not a tensor."""
    return 4 if K <= 4 else 8 if K <= 8 else 16


@triton.jit
def cavity(graph, workspace, group, present, sweep, updated, OPTIONS: tl.constexpr):
    """n of ROWS groups [ROWS, P, P], P = padded(K), which member exists, its slot, and whether a product is lost.

    Messages of the groups before `updated` are one sweep ahead. Members that a group lacks get a row that is constant
    over the values left to them, and sums to 1 over these: the permanent stays that of the others.
    """
    K: tl.constexpr = OPTIONS.K
    LOG: tl.constexpr = OPTIONS.LOG
    NOTHING: tl.constexpr = zero(LOG)
    slot = tl.arange(0, padded(K))[None, :, None]
    value = tl.arange(0, padded(K))[None, None, :]
    own = group[:, :, None] * graph.width + slot
    variable = tl.load(graph.groups + own, mask=present[:, :, None] & (slot < graph.width), other=-1)
    real = variable >= 0
    inside = real & (value < K)
    product = tl.load(workspace.prior + variable * K + value, mask=inside, other=NOTHING)
    degree = tl.load(graph.degree + variable, mask=real, other=0)
    for i in range(tl.max(tl.max(tl.max(degree, 2), 1), 0)):
        edge = tl.load(graph.incident + variable * graph.n_groups + i, mask=i < degree, other=own)
        turn = (sweep + tl.where(edge < updated * graph.width, 1, 0)) & 1
        pointers = workspace.messages + (turn * graph.n_groups * graph.width + edge) * K + value
        message = tl.load(pointers, mask=inside & (edge != own), other=one(LOG))
        product = times(product, message, LOG)
    product = tl.where(inside, product, NOTHING)
    sums = total(product, 2, LOG, False)
    failed = tl.max(tl.max(tl.where(real & lost(sums, LOG), 1, 0), 2), 1)
    product = over(product, sums, LOG)
    left = over(one(LOG), constant(K - tl.minimum(slot, K - 1), product, LOG), LOG)
    return tl.where(real, product, tl.where(value < K, left, NOTHING)), real, own, failed[:, None]


@triton.jit
def store_rows(workspace, n):
    """Stores n [ROWS, P, P] where forward_pass and backward_pass look for it."""
    PADDED: tl.constexpr = n.shape[2]
    row = tl.arange(0, n.shape[0])[:, None, None]
    slot = tl.arange(0, PADDED)[None, :, None]
    value = tl.arange(0, PADDED)[None, None, :]
    tl.debug_barrier()
    tl.store(workspace.incoming + (row * PADDED + slot) * PADDED + value, n)


@triton.jit
def clear_tables(workspace, OPTIONS: tl.constexpr, ENTRIES: tl.constexpr):
    """Zeros in the first ENTRIES entries of both tables, but for the empty set of F and the full set of G."""
    ROWS: tl.constexpr = OPTIONS.ROWS
    K: tl.constexpr = OPTIONS.K
    LOG: tl.constexpr = OPTIONS.LOG
    NOTHING: tl.constexpr = zero(LOG)
    row = tl.arange(0, ROWS)[:, None]
    # Unrolled, a long loop would keep a register for every pointer.
    STEP: tl.constexpr = OPTIONS.LANES * (4 if K <= 9 else 32)
    for start in range(0, ENTRIES, STEP):
        entry = start + tl.arange(0, STEP)[None, :]
        at = (row * (2 << K)) + entry
        mask = entry < ENTRIES
        nothing = tl.zeros((ROWS, STEP), workspace.prior.dtype.element_ty)
        tl.store(workspace.forward + at, tl.where(entry == 0, one(LOG), NOTHING) + nothing, mask=mask)
        tl.store(workspace.backward + at, tl.where(entry == (1 << K) - 1, one(LOG), NOTHING) + nothing, mask=mask)


@triton.jit
def _values_of_member(workspace, member, OPTIONS: tl.constexpr):
    """n of one member as K values [ROWS, 1]."""
    K: tl.constexpr = OPTIONS.K
    pointers = workspace.incoming + (tl.arange(0, OPTIONS.ROWS)[:, None] * padded(K) + member) * padded(K)
    values = ()
    for v in tl.static_range(K):
        values = values + (tl.load(pointers + v),)
    return values


@triton.jit
def forward_pass(graph, workspace, OPTIONS: tl.constexpr):
    """Fills F; log2 of the permanent [ROWS, 1] in float64, and whether digits are lost on the way.

    F(S) n ... n <= 1 for the rest of the assignment, so F at level l may be trusted relative to the permanent if the
    permanent is no less than FLOOR relative to the largest F(S) of every level.
    """
    ROWS: tl.constexpr = OPTIONS.ROWS
    K: tl.constexpr = OPTIONS.K
    LANES: tl.constexpr = OPTIONS.LANES
    LOG: tl.constexpr = OPTIONS.LOG
    MAX: tl.constexpr = OPTIONS.MAX
    NOTHING: tl.constexpr = zero(LOG)
    COMPUTE: tl.constexpr = workspace.prior.dtype.element_ty
    lane = tl.arange(0, LANES)[None, :]
    table = workspace.forward + tl.arange(0, ROWS)[:, None] * (2 << K)
    scale = tl.zeros((ROWS, 1), COMPUTE) + one(LOG)
    smallest = scale
    log_permanent = tl.zeros((ROWS, 1), tl.float64)
    first = 1
    size = K
    for level in range(1, K + 1):
        values = _values_of_member(workspace, level - 1, OPTIONS)
        high = tl.full((ROWS, LANES), NOTHING, COMPUTE)
        for start in range(0, size, LANES):
            subset = tl.load(graph.subsets + first + start + lane, mask=start + lane < size, other=1 << K)
            weight = tl.full((ROWS, LANES), NOTHING, COMPUTE)
            for v in tl.static_range(K):
                smaller = tl.load(table + (subset & ~(1 << v)))
                weight = plus_product(weight, smaller, values[v], LOG, MAX)
            weight = over(weight, scale, LOG)
            # With more warps than the tile needs, others still look up this entry as an unknown one.
            tl.debug_barrier()
            tl.store(table + subset, weight, mask=subset < (1 << K))
            high = tl.maximum(high, weight)
        scale = tl.max(high, 1, keep_dims=True)
        smallest = times(tl.minimum(smallest, one(LOG)), scale, LOG)
        log_permanent += log2_of(scale, LOG)
        first += size
        size = size * (K - level) // (level + 1)
        tl.debug_barrier()
    return log_permanent, lost(smallest, LOG)


@triton.jit
def backward_pass(graph, workspace, real_group, sweep, damping, OPTIONS: tl.constexpr):
    """Fills G, and stores the messages to all members; the largest change of one [ROWS, 1]."""
    ROWS: tl.constexpr = OPTIONS.ROWS
    K: tl.constexpr = OPTIONS.K
    LANES: tl.constexpr = OPTIONS.LANES
    LOG: tl.constexpr = OPTIONS.LOG
    MAX: tl.constexpr = OPTIONS.MAX
    NOTHING: tl.constexpr = zero(LOG)
    COMPUTE: tl.constexpr = workspace.prior.dtype.element_ty
    lane = tl.arange(0, LANES)[None, :]
    row = tl.arange(0, ROWS)[:, None] * (2 << K)
    scale = tl.zeros((ROWS, 1), COMPUTE) + one(LOG)
    change = tl.zeros((ROWS, 1), COMPUTE)
    first = (1 << K) - 1
    size = 1
    for back in range(K):
        level = K - 1 - back
        size = size * (level + 1) // (K - level)
        first -= size
        values = _values_of_member(workspace, level, OPTIONS)
        high = tl.full((ROWS, LANES), NOTHING, COMPUTE)
        minors = ()
        for _ in tl.static_range(K):
            minors = minors + (tl.full((ROWS, LANES), NOTHING, COMPUTE),)
        for start in range(0, size, LANES):
            subset = tl.load(graph.subsets + first + start + lane, mask=start + lane < size, other=1 << K)
            before = tl.load(workspace.forward + row + subset)
            weight = tl.full((ROWS, LANES), NOTHING, COMPUTE)
            sums = ()
            for v in tl.static_range(K):
                larger = tl.load(workspace.backward + row + (subset | (1 << v)))
                weight = plus_product(weight, larger, values[v], LOG, MAX)
                sums = sums + (plus_product(minors[v], larger, before, LOG, MAX),)
            weight = over(weight, scale, LOG)
            minors = sums
            tl.debug_barrier()
            tl.store(workspace.backward + row + subset, weight, mask=subset < (1 << K))
            high = tl.maximum(high, weight)
        scale = tl.max(high, 1, keep_dims=True)
        difference = _store_messages(graph, workspace, minors, real_group, level, sweep, damping, OPTIONS)
        change = tl.maximum(change, difference)
        tl.debug_barrier()
    return change


@triton.jit
def _store_messages(graph, workspace, minors, group, member, sweep, damping, OPTIONS: tl.constexpr):
    """The new messages to one member of each group (-1: no group); the largest change, as of messages of sum 1."""
    K: tl.constexpr = OPTIONS.K
    LOG: tl.constexpr = OPTIONS.LOG
    value = tl.arange(0, padded(K))[None, :]
    new = tl.full((OPTIONS.ROWS, padded(K)), zero(LOG), workspace.prior.dtype.element_ty)
    for v in tl.static_range(K):
        new = tl.where(value == v, total(minors[v], 1, LOG, OPTIONS.MAX), new)
    new = over(new, total(new, 1, LOG, False), LOG)
    new = times(new, constant(tl.full((1, 1), K, tl.int32), new, LOG), LOG)
    member += tl.zeros((1, 1), tl.int32)
    slot = group * graph.width + member
    exists = (group >= 0) & (member < graph.width)
    exists &= tl.load(graph.groups + slot, mask=exists, other=-1) >= 0
    exists &= value < K
    step = graph.n_groups * graph.width * K
    pointers = workspace.messages + slot * K + value
    old = tl.load(pointers + (sweep & 1) * step, mask=exists, other=one(LOG))
    new = mixture(new, old, damping, LOG)
    tl.store(pointers + (1 - (sweep & 1)) * step, new, mask=exists)
    difference = tl.abs(probability(new, LOG) - probability(old, LOG)) * (1.0 / K)
    return tl.max(tl.where(exists, difference, 0.0), 1, keep_dims=True)
